/* Optimizers and schedules: docs/arithmetic.md, "Optimizers". Each parameter by itself, so any width has the same bits. */
#include "core.h"
#include "functions.h"

static const float LIMIT = 0x1p64f;  /* bound of parameters and velocities: so they are finite, whatever the gradient */
static const float MOST_SQUARES = 0x1p126f; /* bound of sums of squares, for the same reason */
static const float QUIET = 1e-30f;   /* moments below are 0: subnormal numbers slow CPUs down, and mean nothing */

INLINE float bounded(float x) {
    x = x > LIMIT ? LIMIT : x;
    return x < -LIMIT ? -LIMIT : x;
}

INLINE float at_most(float squares) { return squares > MOST_SQUARES ? MOST_SQUARES : squares; }

INLINE float quiet(float x) { return without_small(x, QUIET); }

/* The constants of a step, at `factor` times the rate. `powers` has Adam's betas to the number of steps. */
Update update_of(const Optimizer *o, double factor, double *powers, float *theta, float *first, float *second) {
    double rate = o->rate * factor;
    Update u = {
        .kind = o->kind, .rate = (float)rate, .decay = (float)(rate * o->weight_decay),
        .momentum = (float)o->momentum, .fresh1 = (float)(1.0 - o->momentum), .beta2 = (float)o->beta2,
        .fresh2 = (float)(1.0 - o->beta2), .epsilon = (float)o->epsilon, .beta = (float)o->beta,
        .l1 = (float)o->l1, .l2 = (float)o->l2, .clip_value = (float)o->clip_value, .scale = 1.0f,
        .theta = theta, .first = first, .second = second,
    };
    u.penalized = o->kind != FTRL && (o->l1 > 0.0 || o->l2 > 0.0);
    if (o->kind == ADAM || o->kind == NADAM) {
        powers[0] = powers[0] * o->momentum;
        powers[1] = powers[1] * o->beta2;
        double corrected = root(1.0 - powers[1]);
        u.epsilon = (float)(o->epsilon * corrected);
        u.alpha = (float)(rate * corrected / (1.0 - powers[0]));
        u.later = (float)(o->momentum * (1.0 - powers[0]) / (1.0 - powers[0] * o->momentum));
    }
    return u;
}

/* Adds the penalties' gradients, but not to biases, and clips. */
static void adjust(const Update *u, float *restrict g, const float *restrict theta, long count, int biases) {
    float l1 = u->l1, l2 = u->l2, most = u->clip_value;
    if (u->penalized && !biases && l1 > 0.0f)
        for (long i = 0; i < count; i++) {
            float t = theta[i];
            g[i] = g[i] + (t > 0.0f ? l1 : t < 0.0f ? -l1 : 0.0f);
        }
    if (u->penalized && !biases && l2 > 0.0f)
        for (long i = 0; i < count; i++) g[i] = g[i] + theta[i] * l2;
    if (most > 0.0f)
        for (long i = 0; i < count; i++) {
            float v = g[i] > most ? most : g[i];
            g[i] = v < -most ? -most : v;
        }
}

#define EACH(statements) \
    if (decay == 0.0f) \
        for (long i = 0; i < count; i++) { \
            float t = theta[i], d = g[i], step; \
            statements; \
            theta[i] = bounded(t - step); \
        } \
    else \
        for (long i = 0; i < count; i++) { \
            float t = theta[i], d = g[i], step; \
            statements; \
            theta[i] = bounded(t - (step + t * decay)); \
        } \
    break;

static void step(const Update *u, const float *restrict g, float *restrict theta, float *restrict first,
                 float *restrict second, long count, int biases) {
    const float rate = u->rate, decay = biases ? 0.0f : u->decay, momentum = u->momentum, epsilon = u->epsilon;
    const float fresh1 = u->fresh1, beta2 = u->beta2, fresh2 = u->fresh2, alpha = u->alpha, later = u->later;
    switch (u->kind) {
        case SGD: EACH(step = rate * d)
        case MOMENTUM:
            EACH(float v = quiet(bounded(momentum * first[i] - rate * d)); first[i] = v; step = -v)
        case NESTEROV:
            EACH(float v = quiet(bounded(momentum * first[i] - rate * d)); first[i] = v; step = rate * d - momentum * v)
        case ADAGRAD:
            EACH(float v = at_most(first[i] + d * d); first[i] = v; step = rate * (d / (__builtin_sqrtf(v) + epsilon)))
        case RMSPROP:
            EACH(float v = quiet(beta2 * first[i] + fresh2 * (d * d)); first[i] = v;
                 step = rate * (d / (__builtin_sqrtf(v) + epsilon)))
        case ADAM:
            EACH(float m = quiet(momentum * first[i] + fresh1 * d); float v = quiet(beta2 * second[i] + fresh2 * (d * d));
                 first[i] = m; second[i] = v; step = alpha * (m / (__builtin_sqrtf(v) + epsilon)))
        case NADAM:
            EACH(float m = quiet(momentum * first[i] + fresh1 * d); float v = quiet(beta2 * second[i] + fresh2 * (d * d));
                 first[i] = m; second[i] = v;
                 step = alpha * ((later * m + fresh1 * d) / (__builtin_sqrtf(v) + epsilon)))
    }
}

static void step_ftrl(const Update *u, const float *restrict g, float *restrict theta, float *restrict z,
                      float *restrict n, long count, int biases) {
    const float rate = u->rate, beta = u->beta, l1 = biases ? 0.0f : u->l1, l2 = biases ? 0.0f : u->l2;
    for (long i = 0; i < count; i++) {
        float squares = at_most(n[i] + g[i] * g[i]), now = __builtin_sqrtf(squares);
        float sum = bounded((z[i] + g[i]) - ((now - __builtin_sqrtf(n[i])) / rate) * theta[i]);
        float far = (sum < 0.0f ? -sum : sum) - l1, strength = (beta + now) / rate + l2;
        float size = (far > 0.0f ? far : 0.0f) / strength;
        n[i] = squares;
        z[i] = sum;
        theta[i] = bounded(sum < 0.0f ? size : -size);
    }
}

/* Takes the step for `count` parameters from `offset` on; changes the gradient. */
void apply(const Update *u, float *g, long offset, long count, int biases) {
    float *theta = u->theta ? u->theta + offset : 0;
    adjust(u, g, theta, count, biases);
    if (u->scale != 1.0f)
        for (long i = 0; i < count; i++) g[i] = g[i] * u->scale;
    if (u->kind == GRADIENT)
        copy_bytes(u->first + offset, g, count * sizeof(float));
    else if (u->kind == FTRL)
        step_ftrl(u, g, theta, u->first + offset, u->second + offset, count, biases);
    else
        step(u, g, theta, u->first ? u->first + offset : 0, u->second ? u->second + offset : 0, count, biases);
}

/* Sum in float64 of the squares: eight chains over every eighth number, then the chains' in their order. */
double sum_of_squares(const float *x, long count) {
    double sums[8] = {0};
    long i = 0;
    for (; i + 8 <= count; i += 8)
        for (int lane = 0; lane < 8; lane++) sums[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (; i < count; i++) sums[i % 8] += (double)x[i] * (double)x[i];
    double total = 0.0;
    for (int lane = 0; lane < 8; lane++) total += sums[lane];
    return total;
}

static double period_start(double growth, uint64_t full) { return (integer_power(growth, full) - 1.0) / (growth - 1.0); }

/* The part, in [0, 1], of the period of a cosine in which `periods` first periods end. */
static double part_of_period(double periods, double growth) {
    if (growth == 1.0) return periods - (double)(uint64_t)periods;
    double more = growth - 1.0;
    uint64_t full = (uint64_t)(logarithm_1_plus(periods * more) / logarithm_1_plus(more));
    while (period_start(growth, full + 1) <= periods) full++;
    while (full && period_start(growth, full) > periods) full--;
    return (periods - period_start(growth, full)) / integer_power(growth, full);
}

/* The factor of the rate after a number of rows. */
double schedule_factor(const Schedule *s, double rows) {
    double warmed = rows < s->warmup ? (rows + 1.0) / s->warmup : 1.0;
    double after = rows < s->warmup ? 0.0 : rows - s->warmup, units = after / s->rows;
    switch (s->kind) {
        case INVERSE: return warmed * power(1.0 + units, -s->power);
        case STEPS: return warmed * integer_power(s->drop, (uint64_t)units);
        case COSINE:
            return warmed * (s->least + (1.0 - s->least) / 2.0 * (1.0 + cosine_of_pi(part_of_period(units, s->growth))));
    }
    return warmed;
}

EXPORTED double core_schedule(const Schedule *schedule, double rows) { return schedule_factor(schedule, rows); }

/* One step for a given gradient, for tests and for merging FTRL's states. */
EXPORTED void core_update(const Optimizer *optimizer, double factor, double *powers, float *theta, float *first,
                          float *second, float *gradient, long count, int biases) {
    Update u = update_of(optimizer, factor, powers, theta, first, second);
    apply(&u, gradient, 0, count, biases);
}
