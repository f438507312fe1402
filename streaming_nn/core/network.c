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

static float *take_floats(Block *block, long count) { return take(block, count * (long)sizeof(float)); }

static void divide(Pass *pass, Block *block) {
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
    pass->hidden = take_floats(block, rows * every);
    pass->saved = take_floats(block, is_saved(network, pass->dropout) ? rows * every : 0);
    pass->kept = take_floats(block, pass->dropout > 0.0 ? rows * every : 0);
    pass->outputs = take_floats(block, rows * outputs);
    pass->slopes = take_floats(block, rows * padded(outputs));
    pass->deltas = take_floats(block, rows * every);
    pass->transposed = take_floats(block, square);
    pass->panels = take_floats(block, panel_floats(longest, widest));
    pass->gradient = take_floats(block, larger(GRADIENT_FLOATS, 6 * widest));
    pass->block = take_floats(block, smaller(longest, larger(GRADIENT_FLOATS / PADDING, 6)) * rows);
    pass->whole = take_floats(block, parameters(network));
    pass->exponentials = take(block, rows * outputs * (long)sizeof(double));
}

long pass_bytes(const Network *network, long rows, double dropout) {
    Pass pass = {.network = network, .rows = rows, .dropout = dropout};
    Block block = {0};
    divide(&pass, &block);
    return block.used;
}

Pass pass_in(const Network *network, long rows, double dropout, void *work) {
    Pass pass = {.network = network, .rows = rows, .dropout = dropout};
    Block block = {.start = work};
    divide(&pass, &block);
    return pass;
}

/* A layer's part of an array that has (rows, row) for each layer. */
static float *part(const Pass *pass, float *array, int32_t layer) {
    for (long l = 0; l < layer; l++) array += pass->rows * layer_of(pass->network, (int32_t)l).row;
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

/* What a layer gets: the rows, or the values of the units before it. */
static Rows inputs_of(const Pass *pass, Rows x, int32_t l) {
    if (l == 0) return x;
    long row = layer_of(pass->network, l - 1).row, columns = layer_of(pass->network, l).inputs;
    Rows inputs = {.x = part(pass, pass->hidden, l - 1), .row = row, .columns = columns, .inputs = columns};
    return inputs;
}

/* The product of entries with the first layer's weights. */
static void multiply_entries(Pass *pass, const Sparse *x, const float *weights, Layer layer, float *z) {
    const Inputs *inputs = &x->inputs;
    for (long r = 0; r < pass->rows; r++) {
        long start = inputs->starts[r], count = inputs->starts[r + 1] - start;
        product(inputs->values + start, 0, 1, weights, layer.row, inputs->columns + start, z + r * layer.row, layer.row,
                1, count, layer.row, pass->panels);
    }
}

/* Writes the predictions. */
void forward(Pass *pass, const float *theta, Rows x, int with_dropout) {
    const Network *network = pass->network;
    int32_t last = network->layers - 1;
    long outputs = network->units[network->layers];
    const float *linear = 0;
    for (int32_t l = 0; l <= last; l++) {
        Layer layer = layer_of(network, l);
        Rows inputs = inputs_of(pass, x, l);
        float *z = part(pass, pass->hidden, l);
        if (inputs.sparse)
            multiply_entries(pass, inputs.sparse, theta + layer.weights, layer, z);
        else
            product(inputs.x, inputs.row, 1, theta + layer.weights, layer.row, inputs.index, z, layer.row,
                    pass->rows, inputs.columns, layer.row, pass->panels);
        if (inputs.ramps) add_ramps(inputs.ramps, theta + layer.weights + inputs.inputs * layer.row, layer.row, z, pass->rows);
        if (l == 0 && network->skip) linear = z + padded(layer.outputs);
        if (l < last) activate_layer(pass, layer, l, theta, with_dropout);
    }
    Layer first = layer_of(network, 0), final = layer_of(network, last);
    const float *bias = theta + final.biases;
    for (long r = 0; r < pass->rows; r++) {
        float *output = pass->outputs + r * outputs;
        const float *z = part(pass, pass->hidden, last) + r * final.row;
        for (long j = 0; j < outputs; j++) output[j] = (linear ? z[j] + linear[r * first.row + j] : z[j]) + bias[j];
    }
    link_outputs(network, pass->outputs, pass->exponentials, pass->rows);
}

/* Below, a slope changes no parameter, but subnormal numbers follow from it: of rows that it was sure of, an ensemble
   at mini-batch 1 learned a fourth as many per second. */
static const float LEAST_SLOPE = 1e-15f;

/* Writes each row's slope times its weight, divided by the rows; and its loss, if `losses` is not null. */
void weigh_slopes(Pass *pass, const float *y, const float *weight, double *losses) {
    const Network *network = pass->network;
    long m = network->units[network->layers], columns = padded(m), targets = targets_of(network);
    float part_of_mean = (float)(1.0 / (double)pass->rows);
    for (long r = 0; r < pass->rows; r++) {
        float *slope = pass->slopes + r * columns;
        double loss = loss_and_slope(network, pass->outputs + r * m, y + r * targets, slope, losses != 0);
        if (losses) losses[r] = loss;
        for (long j = 0; j < m; j++) slope[j] = without_small((slope[j] * weight[r]) * part_of_mean, LEAST_SLOPE);
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
    product(part(pass, pass->deltas, l + 1), next.row, 1, pass->transposed, columns, 0, delta, layer.row,
            pass->rows, next.outputs, columns, pass->panels);
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

/* Whether a gradient of 0 changes nothing: then weights whose input is 0 in all rows are left alone. */
static int is_plain(const Update *update) {
    int adjusted = update->penalized || update->clip_value != 0.0f || update->scale != 1.0f;
    return update->kind == SGD && update->decay == 0.0f && !adjusted;
}

/* SGD of one input of one row. */
static void descend_input(float a, long i, const float *restrict delta, Layer layer, const Update *update) {
    if (a == 0.0f) return;
    float *restrict theta = update->theta + layer.weights + i * layer.row, rate = update->rate;
    for (long j = 0; j < layer.row; j++) {
        float t = theta[j] - rate * (0.0f + a * delta[j]);
        t = t > 0x1p64f ? 0x1p64f : t;
        theta[j] = t < -0x1p64f ? -0x1p64f : t;
    }
}

/* SGD of one row. */
static void descend_row(Rows inputs, const float *delta, Layer layer, const Update *update) {
    const Ramps *ramps = inputs.ramps;
    for (long k = 0; k < inputs.columns; k++)
        descend_input(inputs.x[k], inputs.index ? inputs.index[k] : k, delta, layer, update);
    for (long c = 0; ramps && c < ramps->columns; c++) {
        long at = ramps->at[c];
        for (long i = ramps->starts[c]; i < at; i++)
            descend_input(1.0f, inputs.inputs + ramps->number[i], delta, layer, update);
        if (at < ramps->starts[c + 1])
            descend_input(ramps->heights[c], inputs.inputs + ramps->number[at], delta, layer, update);
    }
}

/* Takes the step for the weights of inputs that are 0 in all rows: they have no column. */
static void descend_zeros(Pass *pass, Rows inputs, Layer layer, Update *update) {
    if (is_plain(update)) return;
    for (long i = 0, next = 0; i < inputs.inputs; i++) {
        if (next < inputs.columns && inputs.index[next] == i) {
            next++;
            continue;
        }
        fill_bytes(pass->gradient, 0, layer.row * sizeof(float));
        apply(update, pass->gradient, layer.weights + i * layer.row, layer.row, 0);
    }
}

/* Takes the step for weights with `count` gradients; columns need not be side by side. */
static void descend_columns(Pass *pass, const int32_t *index, long start, long count, Layer layer, Update *update) {
    if (!index) {
        apply(update, pass->gradient, layer.weights + start * layer.row, count * layer.row, 0);
        return;
    }
    for (long k = 0; k < count; k++)
        apply(update, pass->gradient + k * layer.row, layer.weights + index[start + k] * layer.row, layer.row, 0);
}

/* Takes the step for the weights of inputs with entries; all others are left as they are. */
static void descend_entries(Pass *pass, const Sparse *x, const float *delta, Layer layer, Update *update) {
    const ByColumn *by = &x->by;
    int plain = is_plain(update);
    if (update->kind == GRADIENT) fill_bytes(update->first + layer.weights, 0, layer.inputs * layer.row * sizeof(float));
    for (long k = 0; k < by->active; k++) {
        long start = by->starts[k], count = by->starts[k + 1] - start;
        while (count && by->rows[start + count - 1] >= pass->rows) count--; /* drawn rows that it does not learn */
        if (!count && plain) continue;
        product(x->values + start, 0, 1, delta, layer.row, by->rows + start, pass->gradient, layer.row, 1, count,
                layer.row, pass->panels);
        apply(update, pass->gradient, layer.weights + by->index[k] * layer.row, layer.row, 0);
    }
}

/* Takes the step for the weights of ramps; those of the ones that are not there are left as they are. */
static void descend_ramps(const Pass *pass, Rows inputs, const float *delta, Layer layer, const Update *update) {
    const Ramps *ramps = inputs.ramps;
    for (long c = 0; c < ramps->columns; c++) {
        float *gradient = ramps_gradient(ramps, c, delta, layer.row, pass->rows);
        for (long i = ramps->starts[c], count; i < ramps->starts[c + 1]; i += count, gradient += count * layer.row) {
            for (count = 1; i + count < ramps->starts[c + 1] && ramps->number[i + count] == ramps->number[i] + count;) count++;
            apply(update, gradient, layer.weights + (inputs.inputs + ramps->number[i]) * layer.row, count * layer.row, 0);
        }
    }
}

static void descend_weights(Pass *pass, Rows inputs, const float *delta, Layer layer, Update *update) {
    long x_row = inputs.row;
    if (inputs.ramps && update->kind == GRADIENT)
        fill_bytes(update->first + layer.weights, 0, layer.inputs * layer.row * sizeof(float));
    if (inputs.sparse) {
        descend_entries(pass, inputs.sparse, delta, layer, update);
        return;
    }
    if (pass->rows == 1 && is_plain(update)) {
        descend_row(inputs, delta, layer, update);
        return;
    }
    long most = larger(GRADIENT_FLOATS / layer.row, 6);
    for (long i = 0; i < inputs.columns; i += most) {
        long count = smaller(most, inputs.columns - i), n = pass->rows;
        const float *x = inputs.x + i;
        int transposed = n * x_row > MANY_INPUTS;
        if (transposed) {
            for (long k = 0; k < count; k++)
                for (long r = 0; r < n; r++) pass->block[k * n + r] = x[r * x_row + k];
            x = pass->block;
        }
        product(x, transposed ? n : 1, transposed ? 1 : x_row, delta, layer.row, 0, pass->gradient, layer.row, count, n,
                layer.row, pass->panels);
        descend_columns(pass, inputs.index, i, count, layer, update);
    }
    if (inputs.index) descend_zeros(pass, inputs, layer, update);
    if (inputs.ramps) descend_ramps(pass, inputs, delta, layer, update);
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
void backward(Pass *pass, Rows x, Update *update) {
    for (int32_t l = 0; l < pass->network->layers; l++) {
        Layer layer = layer_of(pass->network, l);
        const float *delta = part(pass, pass->deltas, l);
        descend_weights(pass, inputs_of(pass, x, l), delta, layer, update);
        descend_biases(pass, delta, layer, update);
    }
}

#define CHAIN 65536 /* numbers whose sum of squares is off by less than 1 % in float32, in any order */

static float squares_of(const float *x, long count) {
    vector sums = SPREAD(0.0f);
    float rest = 0.0f;
    long j = 0;
    for (; j + LANES <= count; j += LANES) {
        vector v = *(const vector *)(x + j);
        sums += v * v;
    }
    for (; j < count; j++) rest += x[j] * x[j];
    for (int lane = 0; lane < LANES; lane++) rest += sums[lane];
    return rest;
}

/* An upper bound of a sum of squares. */
static double squares_at_most(const float *x, long row, long rows, long columns) {
    double total = 0.0;
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j += CHAIN) total += squares_of(x + r * row + j, smaller(CHAIN, columns - j));
    return total * 1.01 + 1e-30;
}

/* After `propagate`, returns the gradient's sum of squares, or 0 where a bound shows that it is below `limit`.

   The bound is Cauchy's and Schwarz's: a layer's gradient is no longer than its inputs times its slopes. */
double gradient_squares(Pass *pass, Rows x, double limit) {
    const Network *network = pass->network;
    double bound = 0.0;
    for (int32_t l = 0; l < network->layers; l++) {
        Layer layer = layer_of(network, l);
        Rows given = inputs_of(pass, x, l);
        const Inputs *some = given.sparse ? &given.sparse->inputs : 0;
        double inputs = some ? squares_at_most(some->values, 0, 1, some->starts[pass->rows])
                             : squares_at_most(given.x, given.row, pass->rows, given.columns);
        if (given.ramps) inputs += ramps_squares_at_most(given.ramps, pass->rows);
        bound += (inputs + (double)pass->rows) * squares_at_most(part(pass, pass->deltas, l), layer.row, pass->rows, layer.row);
    }
    if (bound * 1.02 < limit && pass->rows < 65536) return 0.0;
    Update update = {.kind = GRADIENT, .scale = 1.0f, .first = pass->whole};
    backward(pass, x, &update);
    return sum_of_squares(pass->whole, parameters(network));
}

/* Takes the step for the weights of one input, whose gradient is in `whole`. */
static void apply_row(const Update *update, Pass *pass, Layer layer, long input) {
    long at = layer.weights + input * layer.row;
    apply(update, pass->whole + at, at, layer.row, 0);
}

/* After `propagate`, takes a step whose gradient's length is bounded first. */
void backward_clipped(Pass *pass, Rows x, Update *update, double most) {
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
        Rows inputs = inputs_of(pass, x, l);
        const ByColumn *by = inputs.sparse ? &inputs.sparse->by : 0;
        for (long k = 0; by && k < by->active; k++) apply_row(&clipped, pass, layer, by->index[k]);
        if (!by) apply(&clipped, pass->whole + layer.weights, layer.weights, inputs.inputs * layer.row, 0);
        for (long i = 0; inputs.ramps && i < inputs.ramps->count; i++)
            apply_row(&clipped, pass, layer, inputs.inputs + inputs.ramps->number[i]);
        apply(&clipped, pass->whole + layer.biases, layer.biases, padded(layer.outputs), 1);
    }
}

/* Predictions, losses and gradient of some rows, for tests: y (rows, targets), weight (rows). */
EXPORTED void core_gradient(const Network *network, const float *theta, const float *x, const float *y,
                            const float *weight, long rows, double dropout, uint64_t key, float *outputs, double *losses,
                            float *gradient, void *work) {
    Pass pass = pass_in(network, rows, dropout, work);
    pass.key = key;
    Rows all = {.x = x, .row = network->units[0], .columns = network->units[0], .inputs = network->units[0]};
    forward(&pass, theta, all, 1);
    long m = network->units[network->layers];
    weigh_slopes(&pass, y, weight, losses);
    copy_bytes(outputs, pass.outputs, rows * m * sizeof(float));
    propagate(&pass, theta);
    Update update = {.kind = GRADIENT, .scale = 1.0f, .first = gradient};
    backward(&pass, all, &update);
}

/* Predictions (rows, outputs). */
EXPORTED void core_outputs(const Network *network, const float *theta, const float *x, long rows, float *outputs,
                           void *work) {
    Pass pass = pass_in(network, rows, 0.0, work);
    Rows all = {.x = x, .row = network->units[0], .columns = network->units[0], .inputs = network->units[0]};
    forward(&pass, theta, all, 0);
    copy_bytes(outputs, pass.outputs, rows * network->units[network->layers] * sizeof(float));
}

EXPORTED long core_parameters(const Network *network) { return parameters(network); }

EXPORTED long core_pass_bytes(const Network *network, long rows, double dropout) {
    return pass_bytes(network, rows, dropout);
}
