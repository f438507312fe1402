/* A network: its layout, its pass from rows to predictions, and the pass back: docs/arithmetic.md, "Networks".

   The backward pass hands each part of the gradient to the optimizer while it is in the cache: the whole gradient is
   written only where its length is needed first. */
#include "core.h"

#define GRADIENT_FLOATS 32768 /* of a gradient at once; so much stays in the second cache */
#define MANY_INPUTS 8192      /* floats that stay in the first cache: of more, the inputs are transposed */

Layer layer_of(const Network *network, int32_t layer) {
    const int32_t *units = network->units;
    long outputs = units[network->layers], offset = 0;
    for (int32_t l = 0;; l++) {
        Layer at = {.inputs = units[l], .outputs = units[l + 1], .row = padded(units[l + 1])};
        if (l == 0 && network->skip) at.row += padded(outputs);
        at.weights = offset;
        at.biases = offset + at.inputs * at.row;
        if (l == layer) return at;
        offset = at.biases + padded(at.outputs);
    }
}

/* Floats of the vector of parameters, padding included. */
long parameters(const Network *network) {
    Layer last = layer_of(network, network->layers - 1);
    return last.biases + padded(last.outputs);
}

static int is_saved(const Network *network, double dropout) { return network->activation == GELU || dropout > 0.0; }

/* Takes memory from a block, in whole cache lines; of no block, counts it only. */
static void *take(char **at, long bytes) {
    char *start = *at;
    *at += (bytes + 63) / 64 * 64;
    return start;
}

static float *take_floats(char **at, long count) { return take(at, count * (long)sizeof(float)); }

static char *divide(Pass *pass, char *at) {
    const Network *network = pass->network;
    long rows = pass->rows, every = 0, widest = 0, longest = rows, square = 0;
    for (int32_t l = 0; l < network->layers; l++) {
        Layer layer = layer_of(network, l);
        every += layer.row;
        widest = larger(widest, layer.row);
        longest = larger(longest, layer.inputs);
        if (l) square = larger(square, layer.outputs * padded(layer.inputs));
    }
    long outputs = network->units[network->layers];
    longest = larger(longest, outputs);
    pass->hidden = take_floats(&at, rows * every);
    pass->saved = take_floats(&at, is_saved(network, pass->dropout) ? rows * every : 0);
    pass->kept = take_floats(&at, pass->dropout > 0.0 ? rows * every : 0);
    pass->outputs = take_floats(&at, rows * outputs);
    pass->slopes = take_floats(&at, rows * padded(outputs));
    pass->deltas = take_floats(&at, rows * every);
    pass->transposed = take_floats(&at, square);
    pass->panels = take_floats(&at, panel_floats(longest, widest));
    pass->gradient = take_floats(&at, larger(GRADIENT_FLOATS, 6 * widest));
    pass->block = take_floats(&at, smaller(longest, larger(GRADIENT_FLOATS / PADDING, 6)) * rows);
    pass->whole = take_floats(&at, parameters(network));
    pass->exponentials = take(&at, rows * outputs * (long)sizeof(double));
    return at;
}

long pass_bytes(const Network *network, long rows, double dropout) {
    Pass pass = {.network = network, .rows = rows, .dropout = dropout};
    char start[1]; /* only distances are used */
    return divide(&pass, start) - start;
}

Pass pass_in(const Network *network, long rows, double dropout, void *work) {
    Pass pass = {.network = network, .rows = rows, .dropout = dropout};
    divide(&pass, work);
    return pass;
}

/* A layer's part of an array that has (rows, row) for each layer. */
static float *part(const Pass *pass, float *array, int32_t layer) {
    for (int32_t l = 0; l < layer; l++) array += pass->rows * layer_of(pass->network, l).row;
    return array;
}

static void add_to_rows(float *restrict z, long row, const float *restrict bias, long rows, long columns) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) z[r * row + j] += bias[j];
}

static void multiply(float *restrict z, const float *restrict factors, long count) {
    for (long i = 0; i < count; i++) z[i] *= factors[i];
}

/* Sums, biases and activation of one hidden layer; with dropout, units are left out after it. */
static void activate_layer(Pass *pass, Layer layer, int32_t l, const float *theta, int with_dropout) {
    const Network *network = pass->network;
    float *z = part(pass, pass->hidden, l);
    float *saved = is_saved(network, pass->dropout) ? part(pass, pass->saved, l) : 0;
    long columns = padded(layer.outputs);
    add_to_rows(z, layer.row, theta + layer.biases, pass->rows, columns);
    for (long r = 0; r < pass->rows; r++)
        activate(network->activation, z + r * layer.row, saved ? saved + r * layer.row : 0, columns);
    if (!with_dropout || pass->dropout == 0.0) return;
    float *kept = part(pass, pass->kept, l);
    uint64_t key = draw_key(pass->key, (uint64_t)l, 0);
    for (long r = 0; r < pass->rows; r++) {
        float *factors = kept + r * layer.row;
        fill_bytes(factors, 0, columns * sizeof(float));
        keep_units(key, pass->dropout, r * layer.outputs, factors, layer.outputs);
        multiply(z + r * layer.row, factors, columns);
    }
}

/* Writes the predictions, for x (rows, inputs). */
void forward(Pass *pass, const float *theta, const float *x, int with_dropout) {
    const Network *network = pass->network;
    int32_t last = network->layers - 1;
    long outputs = network->units[network->layers], x_row = network->units[0];
    const float *linear = 0, *input = x;
    for (int32_t l = 0; l <= last; l++) {
        Layer layer = layer_of(network, l);
        float *z = part(pass, pass->hidden, l);
        product(input, x_row, 1, theta + layer.weights, layer.row, z, layer.row, pass->rows, layer.inputs, layer.row,
                pass->panels);
        if (l == 0 && network->skip) linear = z + padded(layer.outputs);
        if (l < last) activate_layer(pass, layer, l, theta, with_dropout);
        input = z;
        x_row = layer.row;
    }
    Layer first = layer_of(network, 0), final = layer_of(network, last);
    const float *bias = theta + final.biases;
    for (long r = 0; r < pass->rows; r++) {
        float *output = pass->outputs + r * outputs;
        const float *z = input + r * x_row;
        for (long j = 0; j < outputs; j++) output[j] = (linear ? z[j] + linear[r * first.row + j] : z[j]) + bias[j];
    }
    link_outputs(network, pass->outputs, pass->exponentials, pass->rows);
}

/* Writes each row's slope times its weight, divided by the rows; and its loss, if `losses` is not null. */
void weigh_slopes(Pass *pass, const float *y, const float *weight, double *losses) {
    const Network *network = pass->network;
    long m = network->units[network->layers], columns = padded(m), targets = targets_of(network);
    float part_of_mean = (float)(1.0 / (double)pass->rows);
    for (long r = 0; r < pass->rows; r++) {
        float *slope = pass->slopes + r * columns;
        double loss = loss_and_slope(network, pass->outputs + r * m, y + r * targets, slope, losses != 0);
        if (losses) losses[r] = loss;
        for (long j = 0; j < m; j++) slope[j] = (slope[j] * weight[r]) * part_of_mean;
        for (long j = m; j < columns; j++) slope[j] = 0.0f;
    }
}

static void transpose(const float *restrict w, long row, long n, long m, float *restrict t, long t_row) {
    for (long j = 0; j < m; j++)
        for (long i = n; i < t_row; i++) t[j * t_row + i] = 0.0f;
    for (long start = 0; start < n; start += 8)
        for (long j = 0; j < m; j++)
            for (long i = start; i < smaller(start + 8, n); i++) t[j * t_row + i] = w[i * row + j];
}

static void copy_columns(const float *from, long from_row, float *to, long to_row, long rows, long columns) {
    for (long r = 0; r < rows; r++) copy_bytes(to + r * to_row, from + r * from_row, columns * sizeof(float));
}

/* Writes the gradient by a hidden layer's sums, given that by the sums of the layer after it. */
static void hidden_delta(Pass *pass, const float *theta, int32_t l) {
    const Network *network = pass->network;
    Layer layer = layer_of(network, l), next = layer_of(network, l + 1);
    long columns = padded(layer.outputs);
    const float *saved = part(pass, is_saved(network, pass->dropout) ? pass->saved : pass->hidden, l);
    float *delta = part(pass, pass->deltas, l);
    transpose(theta + next.weights, next.row, next.inputs, next.outputs, pass->transposed, columns);
    product(part(pass, pass->deltas, l + 1), next.row, 1, pass->transposed, columns, delta, layer.row, pass->rows,
            next.outputs, columns, pass->panels);
    for (long r = 0; r < pass->rows; r++) {
        float *d = delta + r * layer.row;
        if (pass->dropout > 0.0) multiply(d, part(pass, pass->kept, l) + r * layer.row, columns);
        differentiate(network->activation, d, saved + r * layer.row, columns);
    }
}

/* From the slopes, writes the gradient by each layer's sums; the linear part's, in the first layer, are the slopes. */
void propagate(Pass *pass, const float *theta) {
    const Network *network = pass->network;
    int32_t last = network->layers - 1;
    long columns = padded(network->units[network->layers]);
    copy_columns(pass->slopes, columns, part(pass, pass->deltas, last), layer_of(network, last).row, pass->rows, columns);
    for (int32_t l = last - 1; l >= 0; l--) hidden_delta(pass, theta, l);
    if (!network->skip) return;
    Layer first = layer_of(network, 0);
    copy_columns(pass->slopes, columns, pass->deltas + padded(first.outputs), first.row, pass->rows, columns);
}

/* SGD of one row: weights whose input is 0 do not change. */
static void descend_row(const float *x, const float *restrict delta, Layer layer, const Update *update) {
    for (long i = 0; i < layer.inputs; i++) {
        if (x[i] == 0.0f) continue;
        float *restrict theta = update->theta + layer.weights + i * layer.row;
        float a = x[i], rate = update->rate;
        for (long j = 0; j < layer.row; j++) {
            float t = theta[j] - rate * (0.0f + a * delta[j]);
            t = t > 0x1p64f ? 0x1p64f : t;
            theta[j] = t < -0x1p64f ? -0x1p64f : t;
        }
    }
}

static void descend_weights(Pass *pass, const float *x, long x_row, const float *delta, Layer layer, Update *update) {
    int alone = update->kind == SGD && update->decay == 0.0f && !update->penalized && update->clip_value == 0.0f;
    if (pass->rows == 1 && alone && update->scale == 1.0f) {
        descend_row(x, delta, layer, update);
        return;
    }
    long most = larger(GRADIENT_FLOATS / layer.row, 6);
    for (long i = 0; i < layer.inputs; i += most) {
        long count = smaller(most, layer.inputs - i), n = pass->rows;
        const float *inputs = x + i;
        int transposed = n * x_row > MANY_INPUTS;
        if (transposed) {
            for (long k = 0; k < count; k++)
                for (long r = 0; r < n; r++) pass->block[k * n + r] = inputs[r * x_row + k];
            inputs = pass->block;
        }
        product(inputs, transposed ? n : 1, transposed ? 1 : x_row, delta, layer.row, pass->gradient, layer.row, count,
                n, layer.row, pass->panels);
        apply(update, pass->gradient, layer.weights + i * layer.row, count * layer.row, 0);
    }
}

static void descend_biases(Pass *pass, const float *delta, Layer layer, Update *update) {
    float *g = pass->gradient;
    long columns = padded(layer.outputs);
    for (long j = 0; j < columns; j++) g[j] = 0.0f;
    for (long r = 0; r < pass->rows; r++)
        for (long j = 0; j < columns; j++) g[j] += delta[r * layer.row + j];
    apply(update, g, layer.biases, columns, 1);
}

/* After `propagate`, takes the optimizer's step for every parameter. */
void backward(Pass *pass, const float *x, Update *update) {
    const Network *network = pass->network;
    for (int32_t l = 0; l < network->layers; l++) {
        Layer layer = layer_of(network, l);
        const float *delta = part(pass, pass->deltas, l), *input = l ? part(pass, pass->hidden, l - 1) : x;
        long x_row = l ? layer_of(network, l - 1).row : network->units[0];
        descend_weights(pass, input, x_row, delta, layer, update);
        descend_biases(pass, delta, layer, update);
    }
}

/* An upper bound of a sum of squares, in any order. */
static double squares_at_most(const float *x, long row, long rows, long columns) {
    double total = 0.0;
    for (long r = 0; r < rows; r++) {
        vector sums = SPREAD(0.0f);
        float rest = 0.0f;
        long j = 0;
        for (; j + LANES <= columns; j += LANES) {
            vector v = *(const vector *)(x + r * row + j);
            sums += v * v;
        }
        for (; j < columns; j++) rest += x[r * row + j] * x[r * row + j];
        for (int lane = 0; lane < LANES; lane++) rest += sums[lane];
        total += rest;
    }
    return total * 1.01 + 1e-30;
}

/* After `propagate`, returns the gradient's sum of squares, or 0 where a bound shows that it is below `limit`.

   The bound is Cauchy's and Schwarz's: a layer's gradient is no longer than its inputs times its slopes. */
double gradient_squares(Pass *pass, const float *x, double limit) {
    const Network *network = pass->network;
    double bound = 0.0;
    for (int32_t l = 0; l < network->layers; l++) {
        Layer layer = layer_of(network, l);
        const float *input = l ? part(pass, pass->hidden, l - 1) : x;
        long x_row = l ? layer_of(network, l - 1).row : network->units[0];
        double inputs = squares_at_most(input, x_row, pass->rows, layer.inputs);
        bound += (inputs + (double)pass->rows) * squares_at_most(part(pass, pass->deltas, l), layer.row, pass->rows, layer.row);
    }
    if (bound * 1.02 < limit && pass->rows < 65536) return 0.0;
    Update update = {.kind = GRADIENT, .scale = 1.0f, .first = pass->whole};
    backward(pass, x, &update);
    return sum_of_squares(pass->whole, parameters(network));
}

/* After `propagate`, takes a step whose gradient's length is bounded first. */
void backward_clipped(Pass *pass, const float *x, Update *update, double most) {
    Update whole = *update;
    whole.kind = GRADIENT;
    whole.first = pass->whole;
    backward(pass, x, &whole);
    double squares = sum_of_squares(pass->whole, parameters(pass->network)), length = __builtin_sqrt(squares);
    Update clipped = *update;
    clipped.penalized = 0;
    clipped.clip_value = 0.0f;
    clipped.scale = length > most ? (float)(most / length) : 1.0f;
    for (int32_t l = 0; l < pass->network->layers; l++) {
        Layer layer = layer_of(pass->network, l);
        apply(&clipped, pass->whole + layer.weights, layer.weights, layer.inputs * layer.row, 0);
        apply(&clipped, pass->whole + layer.biases, layer.biases, padded(layer.outputs), 1);
    }
}

/* Predictions, losses and gradient of some rows, for tests: y (rows, targets), weight (rows). */
EXPORTED void core_gradient(const Network *network, const float *theta, const float *x, const float *y,
                            const float *weight, long rows, double dropout, uint64_t key, float *outputs, double *losses,
                            float *gradient, void *work) {
    Pass pass = pass_in(network, rows, dropout, work);
    pass.key = key;
    forward(&pass, theta, x, 1);
    long m = network->units[network->layers];
    weigh_slopes(&pass, y, weight, losses);
    copy_bytes(outputs, pass.outputs, rows * m * sizeof(float));
    propagate(&pass, theta);
    Update update = {.kind = GRADIENT, .scale = 1.0f, .first = gradient};
    backward(&pass, x, &update);
}

/* Predictions (rows, outputs). */
EXPORTED void core_outputs(const Network *network, const float *theta, const float *x, long rows, float *outputs,
                           void *work) {
    Pass pass = pass_in(network, rows, 0.0, work);
    forward(&pass, theta, x, 0);
    copy_bytes(outputs, pass.outputs, rows * network->units[network->layers] * sizeof(float));
}

EXPORTED long core_parameters(const Network *network) { return parameters(network); }

EXPORTED long core_pass_bytes(const Network *network, long rows, double dropout) {
    return pass_bytes(network, rows, dropout);
}
