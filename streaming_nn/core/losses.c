/* Activations and losses, value by value: docs/arithmetic.md, "Activations" and "Losses". */
#include "core.h"
#include "functions.h"

static const float SLOPE = 0.01f;                      /* of leaky relu, left of 0 */
static const double ROOT_HALF = 0x1.6a09e667f3bcdp-1; /* sqrt(1 / 2) */
static const double NORMAL_PEAK = 0x1.9884533d43651p-2; /* 1 / sqrt(2 pi) */
static const double LEAST = 1e-37; /* bound of probabilities in a logarithm */
static const double STEEP = 30.0;  /* Poisson: bound of the sum whose exponential is the mean */

static inline double gelu(double z) { return 0.5 * z * (1.0 + error_function(ROOT_HALF * z)); }

static inline double gelu_slope(double z) {
    return 0.5 * (1.0 + error_function(ROOT_HALF * z)) + z * (NORMAL_PEAK * exponential(-0.5 * z * z));
}

#define EACH(expression) \
    for (long i = 0; i < count; i++) { \
        float v = z[i]; \
        z[i] = expression; \
    } \
    break;

/* Overwrites sums z with the units' values; `saved`, unless it is null, gets the sums. */
void activate(int32_t kind, float *restrict z, float *restrict saved, long count) {
    if (saved && kind == GELU) copy_bytes(saved, z, count * sizeof(float));
    switch (kind) {
        case SIGMOID: EACH((float)sigmoid(v))
        case TANH: EACH((float)hyperbolic_tangent(v))
        case RELU: EACH(v < 0.0f ? 0.0f : v)
        case LEAKY_RELU: EACH(v > 0.0f ? v : SLOPE * v)
        case ELU: EACH(v > 0.0f ? v : (float)exponential_minus_1(v))
        case GELU: EACH((float)gelu(v))
        case SOFTPLUS: EACH((float)softplus(v))
    }
    if (saved && kind != GELU) copy_bytes(saved, z, count * sizeof(float));
}

#define EACH_SLOPE(expression) \
    for (long i = 0; i < count; i++) { \
        float h = saved[i], d = delta[i]; \
        delta[i] = expression; \
    } \
    break;

/* Multiplies delta by the derivative, given the units' values, of gelu their sums. */
void differentiate(int32_t kind, float *restrict delta, const float *restrict saved, long count) {
    switch (kind) {
        case SIGMOID: EACH_SLOPE((d * h) * (1.0f - h))
        case TANH: EACH_SLOPE(d * (1.0f - h * h))
        case RELU: EACH_SLOPE(h > 0.0f ? d : 0.0f)
        case LEAKY_RELU: EACH_SLOPE(h > 0.0f ? d : d * SLOPE)
        case ELU: EACH_SLOPE(h > 0.0f ? d : d * (h + 1.0f))
        case GELU: EACH_SLOPE((float)(d * gelu_slope(h)))
        case SOFTPLUS: EACH_SLOPE((float)(d * -exponential_minus_1(-(double)h)))
    }
}

static inline float canonical(double value) { /* one NaN, whatever the CPU makes */
    uint32_t bits = 0x7fc00000;
    float nan, narrow = (float)value;
    copy_bytes(&nan, &bits, sizeof nan);
    return narrow == narrow ? narrow : nan;
}

static void softmax(float *z, double *e, long rows, long m) {
    for (long r = 0; r < rows; r++) {
        float top = z[r * m];
        for (long j = 1; j < m; j++) top = z[r * m + j] > top ? z[r * m + j] : top;
        for (long j = 0; j < m; j++) e[r * m + j] = (double)z[r * m + j] - (double)top;
    }
    for (long i = 0; i < rows * m; i++) e[i] = exponential(e[i]); /* of all rows: most have few outputs */
    for (long r = 0; r < rows; r++) {
        double sum = 0.0;
        for (long j = 0; j < m; j++) sum += e[r * m + j];
        for (long j = 0; j < m; j++) z[r * m + j] = canonical(e[r * m + j] / sum);
    }
}

static inline double poisson_mean(double z) {
    z = z < -STEEP ? -STEEP : z;
    return exponential(z > STEEP ? STEEP : z);
}

/* Converts last sums (rows, outputs) to predictions. */
void link_outputs(const Network *network, float *z, double *exponentials, long rows) {
    long m = network->units[network->layers], count = rows * m;
    switch (network->loss) {
        case SOFTMAX: softmax(z, exponentials, rows, m); break;
        case LOGISTIC:
            for (long i = 0; i < count; i++) z[i] = canonical(sigmoid(z[i]));
            break;
        case POISSON:
            for (long i = 0; i < count; i++) z[i] = canonical(poisson_mean(z[i]));
            break;
        default:
            for (long i = 0; i < count; i++) z[i] = canonical(z[i]);
    }
}

/* Values of y that a row has. */
long targets_of(const Network *network) {
    return network->loss == SOFTMAX || network->loss == QUANTILE ? 1 : network->units[network->layers];
}

static double log_loss(double right) { return -logarithm(right < LEAST ? LEAST : right); }

/* The focal loss of a probability, and the factor by which the log loss's slope becomes its slope. */
static double focus(double gamma, double right, double *factor) {
    double loss = log_loss(right), wrong = 1.0 - right;
    double easy = power(wrong, gamma);
    double slope = power(wrong < LEAST ? LEAST : wrong, gamma - 1.0);
    *factor = easy + gamma * right * slope * loss;
    return easy * loss;
}

static double softmax_loss(const Network *network, const float *p, const float *y, float *slope, long m, int wanted) {
    long truth = (long)y[0];
    for (long j = 0; j < m; j++) slope[j] = p[j];
    slope[truth] = p[truth] - 1.0f;
    if (network->focal_gamma == 0.0) return wanted ? log_loss(p[truth]) : 0.0;
    double factor, loss = focus(network->focal_gamma, p[truth], &factor);
    for (long j = 0; j < m; j++) slope[j] = slope[j] * (float)factor;
    return loss;
}

static double logistic_loss(const Network *network, float p, float y, float *slope, int wanted) {
    double factor, right = y == 1.0f ? p : 1.0f - p;
    *slope = p - y;
    if (network->focal_gamma == 0.0) return wanted ? log_loss(right) : 0.0;
    double loss = focus(network->focal_gamma, right, &factor);
    *slope = *slope * (float)factor;
    return loss;
}

static double error_loss(const Network *network, float output, float y, double quantile, float *slope) {
    float error = output - y, bound = (float)network->huber_delta;
    switch (network->loss) {
        case SQUARED: *slope = error; return 0.5 * ((double)error * error);
        case ABSOLUTE: *slope = error > 0.0f ? 1.0f : error < 0.0f ? -1.0f : error; return absolute(error);
        case HUBER:
            *slope = error > bound ? bound : error < -bound ? -bound : error;
            return (double)*slope * ((double)error - 0.5 * (double)*slope);
        case QUANTILE: *slope = (error > 0.0f ? 1.0f : 0.0f) - (float)quantile; return (double)*slope * error;
    }
    *slope = error; /* Poisson: the slope by the sum is the mean's error */
    return (double)output - (double)y * logarithm(output);
}

/* Writes one row's gradient by the last sums; returns its loss, which need not be one if it is not `wanted`. */
double loss_and_slope(const Network *network, const float *output, const float *y, float *slope, int wanted) {
    long m = network->units[network->layers];
    if (network->loss == SOFTMAX) return softmax_loss(network, output, y, slope, m, wanted);
    double loss = 0.0;
    for (long j = 0; j < m; j++) {
        if (network->loss == LOGISTIC)
            loss += logistic_loss(network, output[j], y[j], slope + j, wanted);
        else if (network->loss == QUANTILE)
            loss += error_loss(network, output[j], y[0], network->quantiles[j], slope + j);
        else
            loss += error_loss(network, output[j], y[j], 0.0, slope + j);
    }
    return loss;
}
