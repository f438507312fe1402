/* One step of an ensemble: predict the new rows, learn them, and mix: docs/arithmetic.md, "Steps".

   Nothing of the state is changed before the step is known to be finite; from then on, everything is written in place. */
#include "core.h"
#include "functions.h"

static const double LEAST_MIXED = 1e-4;  /* below it a probability's logarithm in a mixture stops falling */
static const double EXPONENT_RATE = 0.004; /* of the steps of the exponents, by a row of weight 1 */
static const double MOST_STEPS = 32.0;   /* rows of weight 1 whose steps are taken whole, by a mini-batch */
static const double MOST_ACTIVE = 0.8;   /* part of the columns up to which leaving out the others pays */
static const double MOST_LOSS = 10.0;    /* of a row for a member that diverged; of an absolute error too */
static const double MOST_GRADIENT = 1e4; /* norm above which a member of several has diverged, for weights up to 1 */
static const double MOST_SQUARES = 1e36; /* of any gradient: its squares are finite in float32 */
static const float TARGET_CLIP = 6.0f;   /* bound of targets and predictions, in units of the target */
static const double RAISED = 2.0;        /* what a drift adds to the rate's factor */
static const double RAISED_ROWS = 500.0; /* after which half of it is left */
static const uint64_t GOLDEN = 0x9e3779b97f4a7c15ull;

/* What a step works with: the new rows first, then those drawn from the ring. */
typedef struct {
    const Options *options;
    Member *members;
    const State *state;
    long fresh, rows, outputs, targets, classes; /* new rows, all rows; values per row; classes with weights */
    long inputs;                    /* of a prepared row, without ramps */
    Scaling scaling;
    Ramps ramps;
    double *given;                  /* (rows, targets) as they came */
    float *z, *y, *weight, *scaled; /* (rows, ...) prepared, in units; weights, and those of one member */
    float *active;                  /* (rows, active columns) of z */
    int32_t *index;                 /* (active columns) in z */
    long columns;                   /* of them; all: z is used */
    RingIndex ring;                 /* with SPARSE, as what follows is */
    Entries entries, slot;          /* of the new rows as they came, of one drawn row */
    ByColumn by;                    /* the order of the new rows' entries */
    double *values;                 /* (fresh) entries of one column */
    Sparse sparse;                  /* instead of z */
    float *predictions;             /* (members, fresh, outputs) */
    double *sums;                   /* (outputs) of one row's linear mixture; then the prediction */
    double *geometric;              /* (outputs) of one row's geometric mixture */
    double *logs;                   /* (members, outputs) of one row's probabilities */
    double *slopes;                 /* (members) of the geometric mixture's loss by the exponents */
    double *member_losses;          /* (members) in the mixture */
    double *moments;                /* (targets, 3) with the new rows */
    double *clusters;               /* (7, targets) with the new rows */
    double *class_rows;             /* (classes) with the new rows */
    float *class_weights;           /* (classes) */
    double *statistics, *knots;     /* memory of add_rows, of set_knots */
    uint8_t *bad;                   /* (members) */
    void *pass;
} Step;

/* The loss of all members, whose outputs are the same too. */
static int loss_of(const Options *o) { return o->networks[0]->loss; }

static int is_classes(const Options *o) { return loss_of(o) == SOFTMAX || loss_of(o) == LOGISTIC; }

static int is_counting(const Options *o) { return o->weighting == BALANCED || o->weighting == EFFECTIVE; }

static int is_sparse(const Options *o) { return o->scale == SPARSE; }

static ByColumn take_order(Block *block, long entries, long columns) {
    long i = sizeof(int32_t), d = sizeof(int64_t), most = smaller(entries, columns);
    ByColumn by = {.index = take(block, most * i), .starts = take(block, (most + 1) * d), .rows = take(block, entries * i)};
    by.from = take(block, entries * d);
    by.set = take(block, words(columns) * d);
    by.position = take(block, columns * i);
    return by;
}

/* Memory of rows that are mostly zero. It is virtual where they have few entries: nothing else of it is touched. */
static void divide_sparse(Step *s, long most, long rows, Block *block) {
    const Options *o = s->options;
    long f = sizeof(float), d = sizeof(double), i = sizeof(int32_t), n = o->columns;
    s->entries = (Entries){take(block, (most + 1) * d), take(block, most * n * i), take(block, most * n * d)};
    s->slot = (Entries){0, take(block, n * i), take(block, n * d)};
    s->by = take_order(block, most * n, n);
    s->values = take(block, most * d);
    s->sparse.inputs = (Inputs){take(block, (rows + 1) * d), take(block, rows * s->inputs * i), take(block, rows * s->inputs * f)};
    s->sparse.by = take_order(block, rows * s->inputs, s->inputs);
    s->sparse.values = take(block, rows * s->inputs * f);
}

/* Memory of rows with all of their values. */
static void divide_dense(Step *s, long rows, Block *block) {
    const Options *o = s->options;
    long f = sizeof(float), d = sizeof(double), i = sizeof(int32_t), n = o->columns, ramps = ramps_at_most(o), widest = 0;
    for (long k = 0; k < o->members; k++) widest = larger(widest, layer_of(o->networks[k], 0).row);
    s->scaling = (Scaling){take(block, n * d), take(block, n * d), take(block, n * f)};
    s->z = take(block, rows * s->inputs * f);
    s->active = take(block, rows * s->inputs * f);
    s->index = take(block, s->inputs * i);
    s->ramps.column = take(block, o->ramped * i);
    s->ramps.starts = take(block, (o->ramped + 1) * i);
    s->ramps.number = take(block, ramps * i);
    s->ramps.origins = take(block, ramps * d);
    s->ramps.tops = take(block, ramps * d);
    s->ramps.widths = take(block, ramps * f);
    s->ramps.at = take(block, rows * o->ramped * i);
    s->ramps.heights = take(block, rows * o->ramped * f);
    s->ramps.sums = take(block, o->ramped ? 2 * (o->ramps + 1) * widest * f : 0);
    s->knots = take(block, knots_bytes(o));
}

static void divide(Step *s, long most, Block *block) {
    const Options *o = s->options;
    const Network *network = o->networks[0];
    s->inputs = o->missing == INDICATE ? 2 * o->columns : o->columns;
    s->outputs = network->units[network->layers];
    s->targets = targets_of(network);
    s->classes = network->loss == LOGISTIC ? 2 : s->outputs;
    long f = sizeof(float), d = sizeof(double), rows = most + o->replay_rows, members = o->members, n = o->columns;
    if (is_sparse(o)) {
        s->ring.appended = take(block, d); /* first, as its position must not depend on `most` */
        s->ring.sets = take(block, o->capacity * words(n) * d);
        divide_sparse(s, most, rows, block);
    } else {
        divide_dense(s, rows, block);
    }
    s->given = take(block, rows * s->targets * d);
    s->y = take(block, rows * s->targets * f);
    s->weight = take(block, rows * f);
    s->scaled = take(block, rows * f);
    s->predictions = take(block, members * most * s->outputs * f);
    s->sums = take(block, s->outputs * d);
    s->geometric = take(block, s->outputs * d);
    s->logs = take(block, members * s->outputs * d);
    s->slopes = take(block, members * d);
    s->member_losses = take(block, members * d);
    s->moments = take(block, s->targets * 3 * d);
    s->clusters = take(block, s->targets * 7 * d);
    s->class_rows = take(block, s->classes * d);
    s->class_weights = take(block, s->classes * f);
    s->statistics = take(block, 8 * larger(n, s->targets) * d);
    s->bad = take(block, members);
    long pass = 0;
    for (long k = 0; k < members; k++) pass = larger(pass, pass_bytes(o->networks[k], rows, o->dropout));
    s->pass = take(block, pass);
}

/* Reads which ramps have knots. */
static void find_ramps(Step *s) {
    if (!is_sparse(s->options)) ramps_of(s->options, s->state, &s->ramps);
}

/* --- Predictions */

static int row_is_finite(const float *p, long m) {
    float sum = 0.0f;
    for (long j = 0; j < m; j++) sum += p[j] * 0.0f; /* NaN if one is not finite */
    return sum == 0.0f;
}

/* Equal numbers stay in their order: a 0 may have either sign. */
static void sort(double *p, long m) {
    for (long i = 1; i < m; i++)
        for (long j = i; j > 0 && p[j - 1] > p[j]; j--) {
            double larger = p[j - 1];
            p[j - 1] = p[j];
            p[j] = larger;
        }
}

static double clipped(const Options *o, float p) {
    if (is_classes(o) || loss_of(o) == POISSON) return p;
    p = p > TARGET_CLIP ? TARGET_CLIP : p;
    return p < -TARGET_CLIP ? -TARGET_CLIP : p;
}

/* Whether members' probabilities are mixed in two ways: a weighted mean, and a weighted geometric mean. */
static int has_exponents(const Step *s) { return s->state->exponents != 0; }

static double bounded_logarithm(double p) { return logarithm(p < LEAST_MIXED ? LEAST_MIXED : p); }

/* Adds a member's probabilities of one row to the geometric mixture: of labels, their odds. */
static void add_logs(const Step *s, long k, const float *p) {
    double *logs = s->logs + k * s->outputs, exponent = s->state->exponents[k];
    for (long j = 0; j < s->outputs; j++) {
        logs[j] = bounded_logarithm((double)p[j]);
        if (loss_of(s->options) == LOGISTIC) logs[j] -= bounded_logarithm((double)(1.0f - p[j]));
        s->geometric[j] += exponent * logs[j];
    }
}

/* Makes probabilities of the geometric mixture's sums of logarithms. */
static void normalize_geometric(const Step *s) {
    double *p = s->geometric, most = p[0], total = 0.0;
    if (loss_of(s->options) == LOGISTIC) {
        for (long j = 0; j < s->outputs; j++) p[j] = sigmoid(p[j]);
        return;
    }
    for (long j = 1; j < s->outputs; j++) most = p[j] > most ? p[j] : most;
    for (long j = 0; j < s->outputs; j++) total += p[j] = exponential(p[j] - most);
    for (long j = 0; j < s->outputs; j++) p[j] = p[j] / total;
}

/* Mixes the members' predictions of one row into the sums; one that is not finite is left out. */
static void mix(const Step *s, long r) {
    const Options *o = s->options;
    long m = s->outputs, all = s->fresh * m;
    double total = 0.0, *sums = s->sums;
    int two = has_exponents(s);
    for (long j = 0; j < m; j++) sums[j] = s->geometric[j] = 0.0;
    for (long k = 0; k < o->members; k++) {
        const float *p = s->predictions + k * all + r * m;
        double weight = s->state->weights[k];
        if (two) fill_bytes(s->logs + k * m, 0, m * sizeof(double));
        if (!row_is_finite(p, m)) continue;
        total += weight;
        for (long j = 0; j < m; j++) sums[j] += weight * clipped(o, p[j]);
        if (two) add_logs(s, k, p);
    }
    if (two) normalize_geometric(s);
    for (long j = 0; j < m; j++) {
        double value = total > 0.0 ? sums[j] / total : is_classes(o) ? 1.0 / (double)m : 0.0;
        if (!is_classes(o)) {
            long t = s->targets == 1 ? 0 : j;
            const double *moments = s->state->targets + 3 * t;
            int counts = loss_of(o) == POISSON;
            value = value * unit_of(moments, counts) + (counts ? 0.0 : moments[1]);
            if (s->state->correction) value += s->state->correction[t];
        }
        sums[j] = two ? 0.5 * (value + s->geometric[j]) : value;
    }
    if (loss_of(o) == QUANTILE) sort(sums, m);
}

/* Leaves out columns that are 0 in all rows, such as constant ones: no bit depends on it, as weights are finite. */
static void select_columns(Step *s, long rows) {
    if (is_sparse(s->options)) {
        Sparse *x = &s->sparse;
        sort_entries(x->inputs.starts, x->inputs.columns, rows, s->inputs, &x->by);
        for (long i = 0; i < x->inputs.starts[rows]; i++) x->values[i] = x->inputs.values[x->by.from[i]];
        return;
    }
    long n = s->inputs, columns = 0;
    float *used = s->active; /* the sizes' sums are not 0 where a value is not; NaN neither */
    fill_bytes(used, 0, n * sizeof(float));
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) used[j] = s->z[r * n + j] != 0.0f ? 1.0f : used[j];
    for (long j = 0; j < n; j++)
        if (used[j] != 0.0f) s->index[columns++] = (int32_t)j;
    s->columns = columns > MOST_ACTIVE * (double)n ? n : columns;
    if (s->columns == n) return;
    for (long r = 0; r < rows; r++)
        for (long k = 0; k < columns; k++) s->active[r * columns + k] = s->z[r * n + s->index[k]];
}

/* The rows as a member sees them: without the ramps, or with them. */
static Rows rows_of(const Step *s, long k) {
    if (is_sparse(s->options)) return (Rows){.sparse = &s->sparse, .inputs = s->inputs};
    Rows rows = {.x = s->z, .row = s->inputs, .columns = s->columns, .inputs = s->inputs};
    if (s->columns < s->inputs) {
        rows.x = s->active;
        rows.row = s->columns;
        rows.index = s->index;
    }
    if (s->options->networks[k]->units[0] > s->inputs) rows.ramps = &s->ramps;
    return rows;
}

static void predict_fresh(const Step *s, long k) {
    Pass pass = pass_in(s->options->networks[k], s->fresh, s->options->dropout, s->pass);
    forward(&pass, s->members[k].theta, rows_of(s, k), 0);
    copy_bytes(s->predictions + k * s->fresh * s->outputs, pass.outputs, s->fresh * s->outputs * sizeof(float));
}

/* Writes one row of z. */
static void prepare(const Step *s, const double *x, long r) {
    prepare_row(s->options, s->scaling, x, s->z + r * s->inputs);
    prepare_ramps(s->options, &s->ramps, s->scaling.fills, x, r);
}

/* Prepares the new rows: those of x from `start` on. */
static void prepare_fresh(Step *s, Given x, long start) {
    const Options *o = s->options;
    if (!is_sparse(o)) {
        scaling_of(o, s->state, s->scaling);
        for (long r = 0; r < s->fresh; r++) prepare(s, x.values + (start + r) * o->columns, r);
        return;
    }
    const Entries *e = &s->entries;
    gather(o, x, start, s->fresh, &s->entries);
    s->sparse.inputs.starts[0] = 0;
    for (long r = 0; r < s->fresh; r++)
        prepare_entries(o, s->state, e->columns + e->starts[r], e->values + e->starts[r], e->starts[r + 1] - e->starts[r],
                        &s->sparse.inputs, r);
}

/* Adds how the geometric mixture's log loss of one row, which is mixed, changes with each exponent. */
static void add_slopes(const Step *s, long r) {
    const float *y = s->y + r * s->targets;
    double weight = (double)s->weight[r];
    for (long j = 0; j < s->outputs; j++) {
        double truth = loss_of(s->options) == LOGISTIC ? (double)y[j] : j == (long)y[0] ? 1.0 : 0.0;
        s->geometric[j] = weight * (s->geometric[j] - truth);
    }
    for (long k = 0; k < s->options->members; k++)
        for (long j = 0; j < s->outputs; j++) s->slopes[k] += s->geometric[j] * s->logs[k * s->outputs + j];
}

/* Writes predictions of the new rows from `start` on: probabilities in float32, targets in float64. */
static void write_output(const Step *s, void *output, long start, int learns) {
    fill_bytes(s->slopes, 0, s->options->members * sizeof(double));
    for (long r = 0; r < s->fresh; r++) {
        long at = (start + r) * s->outputs;
        mix(s, r);
        for (long j = 0; j < s->outputs; j++)
            if (is_classes(s->options))
                ((float *)output)[at + j] = (float)s->sums[j];
            else
                ((double *)output)[at + j] = s->sums[j];
        if (learns && has_exponents(s)) add_slopes(s, r);
    }
}

/* --- Rows */

static int is_missing_allowed(const Options *o) { return o->missing != REFUSE; }

/* Whether a row's targets, rounded to float32, are ones of the loss. */
static int targets_are_valid(const Step *s, const double *y) {
    int loss = loss_of(s->options);
    if (loss == SOFTMAX) return (float)y[0] >= 0.0f && (float)y[0] < (float)s->outputs;
    float sum = 0.0f;
    for (long t = 0; t < s->targets; t++) {
        float value = (float)y[t];
        if (loss == LOGISTIC && value != 0.0f && value != 1.0f) return 0;
        if (loss == POISSON && value < 0.0f) return 0; /* a count */
        sum += value * 0.0f;
    }
    return sum == 0.0f;
}

/* Whether all numbers are finite in float32, as gradients are. With SPARSE, zeros need no look. */
static int is_learnable(const Step *s, const double *x, const double *y, const float *weight) {
    const Options *o = s->options;
    float sum = 0.0f;
    long count = is_sparse(o) ? s->entries.starts[s->fresh] : s->fresh * o->columns;
    if (is_sparse(o)) x = s->entries.values;
    for (long i = 0; i < count; i++) sum += is_missing_allowed(o) && x[i] != x[i] ? 0.0f : (float)x[i] * 0.0f;
    for (long r = 0; r < s->fresh; r++) {
        if (weight) sum += weight[r] * 0.0f;
        if (!targets_are_valid(s, y + r * s->targets)) return 0;
    }
    return sum == 0.0f;
}

static long kept_rows(const Step *s) { return larger(smaller(*s->state->appended, s->options->capacity), 0); }

static long drawn_rows(const Step *s) { return smaller(s->options->replay_rows, kept_rows(s)); }

/* The slot of the i-th row that this step draws: multiples of the golden ratio cover the ring evenly. */
static long drawn_slot(const Step *s, long i) {
    uint64_t turn = (*s->state->drawn + (uint64_t)i) * GOLDEN;
    return (long)(((turn >> 32) * (uint64_t)kept_rows(s)) >> 32);
}

static const double *drawn_row(const Step *s, long i) { return row_at(s->options, s->state, drawn_slot(s, i)); }

/* Starts to load the drawn rows: the ring is larger than the caches, and its slots come in no order. */
static void prefetch_rows(const Step *s) {
    if (is_sparse(s->options)) return;
    for (long i = 0; i < drawn_rows(s); i++) {
        const double *row = drawn_row(s, i);
        for (long j = 0; j < ring_row(s->options); j += 8) __builtin_prefetch(row + j);
    }
}

/* Appends rows drawn from the ring to the step's; returns whether all of them are valid. */
static int draw_rows(Step *s) {
    const Options *o = s->options;
    long count = drawn_rows(s);
    for (long i = 0; i < count; i++) {
        long r = s->fresh + i;
        const double *row = drawn_row(s, i);
        if (is_sparse(o))
            prepare_slot(o, s->state, &s->ring, drawn_slot(s, i), &s->slot, &s->sparse.inputs, r);
        else
            prepare(s, row, r);
        copy_bytes(s->given + r * s->targets, row + o->columns, s->targets * sizeof(double));
        s->weight[r] = (float)row[o->columns + s->targets];
        if (!targets_are_valid(s, s->given + r * s->targets)) return 0;
    }
    s->rows = s->fresh + count;
    return 1;
}

static void append_rows(Step *s, const double *x, const double *y, const float *weight) {
    const Options *o = s->options;
    if (o->capacity < 1) return;
    for (long r = 0; r < s->fresh; r++) {
        long slot = (*s->state->appended + r) % o->capacity;
        double *row = row_at(o, s->state, slot);
        if (is_sparse(o))
            write_slot(o, s->state, &s->ring, slot, &s->entries, r);
        else
            copy_bytes(row, x + r * o->columns, o->columns * sizeof(double));
        copy_bytes(row + o->columns, y + r * s->targets, s->targets * sizeof(double));
        row[o->columns + s->targets] = weight ? (double)weight[r] : 1.0;
    }
    *s->state->appended += s->fresh;
    *s->state->drawn += (uint64_t)(s->rows - s->fresh);
}

/* Class indices as they are; targets in their units, by moments that include the new rows: so the first rows have a
   unit already. */
static void standardize_targets(Step *s) {
    const Options *o = s->options;
    for (long i = 0; is_classes(o) && i < s->rows * s->targets; i++) s->y[i] = (float)s->given[i];
    if (is_classes(o)) return;
    int counts = loss_of(o) == POISSON;
    copy_bytes(s->clusters, s->state->target_clusters, 7 * s->targets * sizeof(double));
    add_values(s->clusters, s->targets, s->given, s->targets, s->fresh, o->reach, s->statistics);
    for (long t = 0; t < s->targets; t++) {
        double *moments = s->moments + 3 * t;
        moments_of(s->clusters, s->targets, t, moments, 1);
        double unit = unit_of(moments, counts), origin = counts ? 0.0 : moments[1];
        for (long r = 0; r < s->rows; r++) {
            double given = s->given[r * s->targets + t];
            if (is_far(moments, given, o->reach)) s->weight[r] = 0.0f;
            float y = (float)((given - origin) / unit);
            s->y[r * s->targets + t] = counts ? y : (float)clipped(o, y);
        }
    }
}

/* --- Weights of classes */

static double effective_rows(double beta, double rows) { return -1.0 / exponential_minus_1(rows * logarithm(beta)); }

static void weigh_classes(Step *s) {
    const Options *o = s->options;
    long m = s->classes;
    double all = 0.0, seen = 0.0, inverse = 0.0;
    if (is_counting(o)) {
        copy_bytes(s->class_rows, s->state->class_rows, m * sizeof(double));
        for (long r = 0; r < s->fresh; r++) s->class_rows[(long)s->y[r]] += 1.0;
        for (long j = 0; j < m; j++) {
            if (s->class_rows[j] == 0.0) continue;
            all += s->class_rows[j];
            seen += 1.0;
            if (o->weighting == EFFECTIVE) inverse += effective_rows(o->class_beta, s->class_rows[j]);
        }
    }
    for (long j = 0; j < m; j++) {
        double weight = o->weighting == GIVEN ? o->class_weights[j] : 1.0;
        int is_seen = is_counting(o) && s->class_rows[j] > 0.0;
        if (is_seen && o->weighting == BALANCED) weight = all / (seen * s->class_rows[j]);
        if (is_seen && o->weighting == EFFECTIVE)
            weight = effective_rows(o->class_beta, s->class_rows[j]) * (seen / inverse);
        s->class_weights[j] = (float)weight;
    }
}

static void weigh_rows(Step *s) {
    if (s->options->weighting == UNWEIGHTED) return;
    weigh_classes(s);
    for (long r = 0; r < s->rows; r++) s->weight[r] = s->class_weights[(long)s->y[r]] * s->weight[r];
}

/* --- Members */

static double mixture_loss(const Step *s, const float *p, const float *y) {
    const Options *o = s->options;
    double loss = 0.0;
    if (is_classes(o)) {
        for (long j = 0; j < (loss_of(o) == SOFTMAX ? 1 : s->outputs); j++) {
            double right = loss_of(o) == SOFTMAX ? p[(long)y[0]] : y[j] == 1.0f ? p[j] : 1.0f - p[j];
            loss += -bounded_logarithm(right);
        }
        return loss;
    }
    for (long t = 0; t < s->targets; t++) {
        double error = absolute((double)p[s->targets == 1 ? o->point : t] - (double)y[t]);
        loss += error > MOST_LOSS ? MOST_LOSS : error;
    }
    return loss / (double)s->targets;
}

static double greatest_weight(const Step *s) {
    double most = 1.0;
    for (long r = 0; r < s->rows; r++) most = s->weight[r] > most ? s->weight[r] : most;
    return most;
}

static double squares_limit(const Step *s) {
    if (s->options->members == 1) return MOST_SQUARES;
    double most = MOST_GRADIENT * greatest_weight(s);
    return most * most < MOST_SQUARES ? most * most : MOST_SQUARES;
}

/* Weights of new and drawn rows for a member: in the mean 1, before the rows' own. */
static void emphasize(const Step *s, const Member *member, long rows) {
    long drawn = rows - s->fresh;
    double mean = (member->emphasis * (double)s->fresh + (double)drawn) / (double)rows;
    float fresh = drawn ? (float)(member->emphasis / mean) : 1.0f, old = drawn ? (float)(1.0 / mean) : 1.0f;
    for (long r = 0; r < rows; r++) s->scaled[r] = (r < s->fresh ? fresh : old) * s->weight[r];
}

/* Predicts by one member, and learns unless it has diverged, or is alone and must refuse the step. */
static void learn_member(Step *s, long k, double factor, double limit) {
    const Options *o = s->options;
    Member *member = s->members + k;
    long rows = member->emphasis > 0.0 ? s->rows : s->fresh;
    float *predictions = s->predictions + k * s->fresh * s->outputs;
    if (o->dropout > 0.0) predict_fresh(s, k);
    Pass pass = pass_in(o->networks[k], rows, o->dropout, s->pass);
    pass.key = draw_key(o->seed, (uint64_t)*s->state->learned, (uint64_t)k);
    forward(&pass, member->theta, rows_of(s, k), 1);
    if (o->dropout == 0.0) copy_bytes(predictions, pass.outputs, s->fresh * s->outputs * sizeof(float));
    double loss = 0.0;
    for (long r = 0; r < s->fresh; r++)
        loss += mixture_loss(s, predictions + r * s->outputs, s->y + r * s->targets) * (double)s->weight[r];
    emphasize(s, member, rows);
    weigh_slopes(&pass, s->y, s->scaled, 0);
    propagate(&pass, member->theta);
    s->member_losses[k] = loss;
    s->bad[k] = !(loss * 0.0 == 0.0) || !(gradient_squares(&pass, rows_of(s, k), limit) < limit);
    if (s->bad[k]) return;
    Update update = update_of(&member->optimizer, factor, member->powers, member->theta, member->first, member->second);
    if (member->optimizer.clip_norm > 0.0)
        backward_clipped(&pass, rows_of(s, k), &update, member->optimizer.clip_norm);
    else
        backward(&pass, rows_of(s, k), &update);
}

static void update_mixture(const Step *s) {
    const Options *o = s->options;
    double *weights = s->state->weights, least = 0.0, sum = 0.0, rows = 0.0;
    for (long r = 0; r < s->fresh; r++) rows += (double)s->weight[r];
    for (long k = 0; k < o->members; k++) {
        double loss = o->eta * (s->bad[k] ? MOST_LOSS * rows : s->member_losses[k]);
        s->member_losses[k] = loss;
        least = k == 0 || loss < least ? loss : least;
    }
    for (long k = 0; k < o->members; k++) {
        weights[k] = weights[k] * exponential(least - s->member_losses[k]);
        sum += weights[k];
    }
    double spread = 1.0 - integer_power(1.0 - o->share, (uint64_t)s->fresh), kept = (1.0 - spread) / sum;
    for (long k = 0; k < o->members; k++) weights[k] = weights[k] * kept + spread / (double)o->members;
    double step = rows > MOST_STEPS ? EXPONENT_RATE * (MOST_STEPS / rows) : EXPONENT_RATE;
    for (long k = 0; has_exponents(s) && k < o->members; k++) s->state->exponents[k] -= step * s->slopes[k];
}

/* Starts an optimizer's state from the member's parameters. */
static void reset_optimizer(Member *member, long count) {
    const Optimizer *o = &member->optimizer;
    float strength = (float)(o->beta / o->rate);
    for (long i = 0; member->first && i < count; i++)
        member->first[i] = o->kind == FTRL ? -(member->theta[i] * strength) : 0.0f;
    for (long i = 0; member->second && i < count; i++) member->second[i] = 0.0f;
    member->powers[0] = member->powers[1] = 1.0;
}

/* The best good member of the same shape as member k; -1 if there is none. */
static long best_like(const Step *s, long k) {
    const Options *o = s->options;
    const double *weights = s->state->weights;
    long best = -1;
    for (long i = 0; i < o->members; i++)
        if (!s->bad[i] && o->networks[i] == o->networks[k] && (best < 0 || weights[i] > weights[best])) best = i;
    return best;
}

/* Members that diverged become copies of the best other one of their shape, or start from scratch. */
static void restart_members(const Step *s) {
    const Options *o = s->options;
    for (long k = 0; k < o->members; k++) {
        Member *member = s->members + k;
        if (!s->bad[k]) continue;
        long best = best_like(s, k), count = parameters(o->networks[k]);
        const float *from = best < 0 ? member->initial : s->members[best].theta;
        copy_bytes(member->theta, from, count * sizeof(float));
        reset_optimizer(member, count);
        s->state->restarts[k] += 1;
    }
}

/* --- The step */

static double rate_factor(const Step *s) {
    double boost = *s->state->boost;
    double factor = boost > 0.0 ? 1.0 + RAISED * boost : 1.0;
    return factor * schedule_factor(&s->options->schedule, (double)*s->state->learned);
}

static void commit(Step *s, const double *x, const double *y, const float *weight) {
    const Options *o = s->options;
    const State *state = s->state;
    if (is_sparse(o))
        add_entries(o, state, &s->entries, s->fresh, &s->by, s->values);
    else
        add_rows(o, state, x, s->fresh, s->statistics);
    if (!is_classes(o)) {
        copy_bytes(state->targets, s->moments, s->targets * 3 * sizeof(double));
        copy_bytes(state->target_clusters, s->clusters, s->targets * 7 * sizeof(double));
    }
    if (is_counting(o)) copy_bytes(state->class_rows, s->class_rows, s->classes * sizeof(double));
    long before = *state->appended;
    append_rows(s, x, y, weight);
    if (set_knots(o, state, before, s->knots)) find_ramps(s);
    *state->learned += s->fresh;
    double left = *state->boost * exponential((double)s->fresh / RAISED_ROWS * logarithm(0.5));
    *state->boost = left > 1e-3 ? left : 0.0;
}

/* Returns 1 if the step was taken; else only the predictions are written. */
static int learn_fresh(Step *s, Given given, const double *y, const float *weight, void *output, long start) {
    const Options *o = s->options;
    const double *x = is_sparse(o) ? 0 : given.values + start * o->columns;
    int any_bad = 0;
    prefetch_rows(s);
    prepare_fresh(s, given, start);
    s->rows = s->fresh;
    copy_bytes(s->given, y, s->fresh * s->targets * sizeof(double));
    for (long r = 0; r < s->fresh; r++) s->weight[r] = weight ? weight[r] : 1.0f;
    if (!is_learnable(s, x, y, weight) || !draw_rows(s)) {
        select_columns(s, s->fresh);
        for (long k = 0; k < o->members; k++) predict_fresh(s, k);
        write_output(s, output, start, 0);
        return 0;
    }
    standardize_targets(s);
    weigh_rows(s);
    select_columns(s, s->rows);
    double factor = rate_factor(s), limit = squares_limit(s);
    for (long k = 0; k < o->members; k++) {
        learn_member(s, k, factor, limit);
        any_bad |= s->bad[k];
    }
    write_output(s, output, start, 1);
    if (any_bad && o->members == 1) return 0;
    if (o->members > 1) update_mixture(s);
    if (any_bad) restart_members(s);
    commit(s, x, y, weight);
    return 1;
}

/* Learns rows, `most` at a time: y (rows, targets), weight (rows) or null; x has entries only with SPARSE. Writes the
   predictions from before each step (rows, outputs), and for each step whether it was taken. `work` is 0 at first, and
   the same for later steps with this state. */
EXPORTED void core_learn(const Options *options, Member *members, const State *state, const Given *x, const double *y,
                         const float *weight, long rows, long most, void *output, uint8_t *trained, void *work) {
    Step step = {.options = options, .members = members, .state = state};
    Block block = {.start = work};
    divide(&step, most, &block);
    find_ramps(&step);
    if (is_sparse(options) && options->capacity > 0) index_ring(options, state, &step.ring);
    for (long start = 0; start < rows; start += most) {
        step.fresh = smaller(most, rows - start);
        *trained++ = (uint8_t)learn_fresh(&step, *x, y + start * step.targets, weight ? weight + start : 0, output, start);
    }
}

/* Predicts rows, `most` at a time. */
EXPORTED void core_predict(const Options *options, Member *members, const State *state, const Given *x, long rows,
                           long most, void *output, void *work) {
    Step step = {.options = options, .members = members, .state = state};
    Block block = {.start = work};
    divide(&step, most, &block);
    find_ramps(&step);
    for (long start = 0; start < rows; start += most) {
        step.fresh = smaller(most, rows - start);
        prepare_fresh(&step, *x, start);
        select_columns(&step, step.fresh);
        for (long k = 0; k < options->members; k++) predict_fresh(&step, k);
        write_output(&step, output, start, 0);
    }
}

/* Sets knots as steps do, after rows were appended to the ring otherwise; `before` is how many there were. */
EXPORTED void core_set_knots(const Options *options, const State *state, long before, double *work) {
    set_knots(options, state, before, work);
}

EXPORTED long core_knots_bytes(const Options *options) { return knots_bytes(options); }

EXPORTED long core_step_bytes(const Options *options, long most) {
    Step step = {.options = options};
    Block block = {0};
    divide(&step, most, &block);
    return block.used;
}
