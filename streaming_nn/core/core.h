/* Types and functions that the files of the core share; what Python calls is marked EXPORTED.

   Nothing here allocates, keeps state between calls, or starts threads: all memory is the caller's, and was checked
   by streaming_nn/core/library.py before its address came here. docs/arithmetic.md has the order of each operation. */
#ifndef CORE_H
#define CORE_H

#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define copy_bytes __builtin_memcpy
#define fill_bytes __builtin_memset

/* One register of float32. An element is computed the same way in any width. */
#if defined(__AVX512F__)
#define LANES 16
typedef float vector __attribute__((vector_size(64), aligned(4), may_alias));
#define SPREAD(a) ((vector){(a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a), (a)})
typedef float half __attribute__((vector_size(32), aligned(4), may_alias));
#define SPREAD_HALF(a) ((half){(a), (a), (a), (a), (a), (a), (a), (a)})
#elif defined(__AVX2__)
#define LANES 8
typedef float vector __attribute__((vector_size(32), aligned(4), may_alias));
#define SPREAD(a) ((vector){(a), (a), (a), (a), (a), (a), (a), (a)})
#else
#define LANES 4
typedef float vector __attribute__((vector_size(16), aligned(4), may_alias));
#define SPREAD(a) ((vector){(a), (a), (a), (a)})
#endif

#define PADDING 8 /* floats: rows of weights are a multiple of as many columns, the last of them 0 */
INLINE float without_small(float x, float least) { return ((x < least) & (x > -least)) ? 0.0f : x; }
INLINE long padded(long columns) { return (columns + PADDING - 1) / PADDING * PADDING; }
INLINE long larger(long a, long b) { return a > b ? a : b; }
INLINE long smaller(long a, long b) { return a < b ? a : b; }

/* With gcc's sanitizers, bytes after each part of a block that nothing may touch. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define GUARD 64
INLINE void guard(char *start, long bytes) {
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    ASAN_POISON_MEMORY_REGION(start + bytes, (bytes + 63) / 64 * 64 - bytes + GUARD);
}
#else
#define GUARD 0
INLINE void guard(char *start, long bytes) { (void)start, (void)bytes; }
#endif

/* Memory that is divided into parts; without a start, its bytes are only counted. */
typedef struct {
    char *start;
    long used;
} Block;

/* Takes memory from a block, in whole cache lines. */
INLINE void *take(Block *block, long bytes) {
    char *start = block->start ? block->start + block->used : 0;
    block->used += (bytes + 63) / 64 * 64 + GUARD;
    if (start) guard(start, bytes);
    return start;
}

/* product.c */
long panel_floats(long n, long m);
void product(const float *x, long x_row, long x_step, const float *w, long w_row, const int32_t *index, float *z,
             long z_row, long rows, long n, long m, float *panels);

/* A network's shape and loss. Its parameters are one vector: for each layer its weights, a padded row per input, then
   its biases, padded too; of the first layer with `skip`, a row continues with the weights of the linear part. */
typedef struct {
    const int32_t *units; /* (layers + 1) from inputs to outputs */
    int32_t layers;
    int32_t activation;
    int32_t skip;
    int32_t loss;
    double huber_delta;
    double focal_gamma;
    const double *quantiles; /* (outputs) of the quantile loss */
} Network;

enum { IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, GELU, SOFTPLUS };
enum { SOFTMAX, LOGISTIC, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON };

typedef struct {
    long inputs, outputs; /* units */
    long row;             /* floats of a row of weights, those of the linear part included */
    long weights, biases; /* offsets in the vector of parameters */
} Layer;

/* The entries of a network's rows, by row: inputs that are not 0. */
typedef struct {
    int64_t *starts;  /* (rows + 1) */
    int32_t *columns; /* (entries) ascending in each row */
    float *values;    /* (entries) */
} Inputs;

/* The order of entries by column. */
typedef struct {
    long active;     /* columns with entries */
    int32_t *index;  /* (active) ascending */
    int64_t *starts; /* (active + 1) */
    int32_t *rows;   /* (entries) */
    int64_t *from;   /* (entries) position among the entries by row */
    uint64_t *set;   /* a bit per column */
    int32_t *position; /* (columns) of the next entry */
} ByColumn;

/* The entries of a network's rows, by row and by column. */
typedef struct {
    Inputs inputs;
    ByColumn by;
    float *values; /* (entries) by column */
} Sparse;

/* The ramps that are there: those of column column[c] are starts[c] to starts[c + 1]. A row has one number per column:
   its ramps before `at` are 1, and those after it 0. */
typedef struct {
    long columns, count;
    int32_t *column; /* (columns) */
    int32_t *starts; /* (columns + 1) */
    int32_t *number; /* (count) among all that there could be */
    double *origins; /* (count) the knot where it rises from 0 */
    double *tops;    /* (count) the knot where it is 1 */
    float *widths;   /* (count) from one to the other */
    int32_t *at;     /* (rows, columns) the first ramp that is not 1; the column's end: all are */
    float *heights;  /* (rows, columns) of that one; at the column's end 0 */
    float *sums;     /* (2, most ramps of a column + 1, widest first row) memory */
} Ramps;

/* Rows of a network's inputs; of mostly zeros, only the columns that are not 0 in all of them. */
typedef struct {
    const float *x;       /* (rows, row), of which the first `columns` are read */
    long row, columns;
    const int32_t *index; /* (columns) of each column among the network's inputs; null: all of them, in order */
    long inputs;          /* of the network, without ramps */
    const Ramps *ramps;   /* what it sees after these; null: nothing */
    const Sparse *sparse; /* instead of these */
} Rows;

/* The memory of one pass over some rows. */
typedef struct {
    const Network *network;
    long rows;
    double dropout;     /* probability that a hidden unit is left out */
    uint64_t key;       /* of the draws that leave units out */
    float *hidden;      /* for each layer: its sums, which become its units' values, (rows, row) */
    float *saved;       /* for each layer but the last: what its derivative needs, if that is not the value */
    float *kept;        /* for each layer but the last: the factors of dropout */
    float *outputs;     /* (rows, outputs) predictions */
    float *slopes;      /* (rows, padded outputs) gradient of the loss by the last sums */
    float *deltas;      /* for each layer: gradient by its sums, (rows, row) */
    float *transposed;  /* weights of one layer */
    float *panels;      /* of a product */
    float *gradient;    /* some rows of a layer's gradient */
    float *block;       /* the same rows of a layer's input, transposed */
    float *whole;       /* a whole gradient (parameters) */
    double *exponentials; /* (rows, outputs) */
} Pass;

enum { FIXED, INVERSE, STEPS, COSINE };

/* A schedule's options: the rate's factor after a number of rows. */
typedef struct {
    int32_t kind;
    int32_t reserved;
    double warmup, rows, power, drop, growth, least;
} Schedule;

enum { GRADIENT, SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, NADAM, FTRL };

/* An optimizer's options; those that a kind does not have are not read. */
typedef struct {
    int32_t kind;
    int32_t reserved;
    double rate, weight_decay, momentum, beta2, epsilon, beta, l1, l2; /* momentum: beta1 of Adam; beta2: rho too */
    double clip_value, clip_norm;                                      /* 0: not clipped */
} Optimizer;

/* One step of an optimizer: its constants in float32, and what it changes. */
typedef struct {
    int32_t kind;
    int32_t penalized; /* whether gradients get l1, l2 and clip_value first */
    float rate, decay, momentum, fresh1, beta2, fresh2, epsilon, alpha, later, beta, l1, l2, clip_value, scale;
    float *theta, *first, *second; /* (parameters) weights; velocity, squares or moments */
} Update;

/* network.c */
Layer layer_of(const Network *network, int32_t layer);
long parameters(const Network *network);
long pass_bytes(const Network *network, long rows, double dropout);
Pass pass_in(const Network *network, long rows, double dropout, void *work);
void forward(Pass *pass, const float *theta, Rows x, int with_dropout);
void weigh_slopes(Pass *pass, const float *y, const float *weight, double *losses);
void propagate(Pass *pass, const float *theta);
double gradient_squares(Pass *pass, Rows x, double limit);
void backward(Pass *pass, Rows x, Update *update);
void backward_clipped(Pass *pass, Rows x, Update *update, double most);

/* losses.c */
void activate(int32_t kind, float *z, float *saved, long count);
void differentiate(int32_t kind, float *delta, const float *saved, long count);
void link_outputs(const Network *network, float *z, double *exponentials, long rows);
double loss_and_slope(const Network *network, const float *output, const float *y, float *slope, int wanted);
long targets_of(const Network *network);

/* optimizers.c */
Update update_of(const Optimizer *optimizer, double factor, double *powers, float *theta, float *first, float *second);
void apply(const Update *update, float *gradient, long offset, long count, int biases);
double sum_of_squares(const float *x, long count);
double schedule_factor(const Schedule *schedule, double rows);

/* random.c */
uint64_t draw_key(uint64_t seed, uint64_t a, uint64_t b);
uint64_t draw_bits(uint64_t key, uint64_t index);
void keep_units(uint64_t key, double dropout, long start, float *kept, long count);

enum { STANDARD, MINMAX, UNSCALED, SPARSE };
enum { REFUSE, IMPUTE, INDICATE };
enum { UNWEIGHTED, GIVEN, BALANCED, EFFECTIVE };

/* An ensemble's options; a network alone is an ensemble of one member. */
typedef struct {
    const Network *const *networks; /* (members) those of one shape are one; loss and outputs are those of all */
    Schedule schedule;
    int32_t columns;   /* of a row as it comes; with INDICATE a network has twice as many inputs */
    int32_t scale, missing;
    int32_t members;
    int32_t replay_rows, capacity; /* rows drawn for a step, rows kept */
    int32_t weighting; /* of classes */
    int32_t point;     /* the output that is the point prediction of a regression */
    int32_t ramped;    /* columns that have ramps, the first ones; 0 if no member sees them */
    int32_t ramps;     /* of each: inputs of the networks that see them, after the others */
    double clip;       /* bound of z-scores */
    double reach;      /* deviations beyond which a value is far from the others; 0: none is */
    double eta, share; /* of the mixture: rate of its weights, part that is redistributed per row */
    double dropout;
    double class_beta; /* of EFFECTIVE */
    const double *class_weights; /* (classes) of GIVEN */
    uint64_t seed;               /* of dropout */
} Options;

/* One network that learns. */
typedef struct {
    Optimizer optimizer;
    double emphasis; /* rows drawn that a new one weighs; 0: learns new rows only */
    float *theta, *first, *second; /* (parameters) */
    float *initial;                /* (parameters) with which it restarts where no other member is good */
    double *powers;                /* (2) of Adam */
} Member;

/* What changes besides the members; all is written in place. */
typedef struct {
    double *weights;   /* (members) of the linear mixture */
    double *exponents; /* (members) of the geometric mixture; null: there is only the linear one */
    int64_t *restarts; /* (members) */
    double *rows, *means, *squares; /* (columns) counts, means and sums of squared deviations that scale the inputs */
    double *clusters;               /* (7, columns) count, mean, squares of near and of far values; votes */
    double *low, *high; /* (columns) of MINMAX */
    double *knots;     /* (ramped, ramps + 1) between which the ramps rise; infinite: none */
    double *correction; /* (4, targets) the first ones are added to predictions; null: none are */
    double *targets;   /* (targets, 3) count, mean and sum of squared deviations of a regression's targets */
    double *target_clusters; /* (7, targets) */
    double *class_rows; /* (classes) rows learned of each class, of BALANCED and EFFECTIVE */
    int64_t *learned;  /* rows */
    double *boost;     /* of the rate after a drift: 1 at the drift, then decaying */
    double *ring;      /* (capacity, columns + targets + 1) rows as they came, targets, weight */
    int64_t *appended; /* rows */
    uint64_t *drawn;   /* rows */
} State;

/* Rows as they come: dense (rows, columns), or their entries by row. */
typedef struct {
    const double *values;
    const int64_t *starts;  /* (rows + 1); null: dense */
    const int32_t *columns; /* (entries) ascending in each row */
} Given;

/* Entries of rows as they come: values that are not 0. */
typedef struct {
    int64_t *starts;
    int32_t *columns;
    double *values;
} Entries;

/* Which columns of the ring's rows are not 0: kept from call to call, with the rows appended when that was true. */
typedef struct {
    int64_t *appended;
    uint64_t *sets; /* (capacity, words) */
} RingIndex;

/* Numbers of a row of the ring, and the row in a slot. */
INLINE long ring_row(const Options *o) { return o->columns + targets_of(o->networks[0]) + 1; }
INLINE double *row_at(const Options *o, const State *s, long slot) { return s->ring + slot * ring_row(o); }

/* The scaling of a row's columns. */
typedef struct {
    double *origins, *fills;
    float *widths;
} Scaling;

/* Weighted counts of classified rows. */
typedef struct {
    int64_t classes;
    double *actual;    /* (classes) rows of a class */
    double *predicted; /* (4, classes) rows predicted as a class */
    double *correct;   /* (4, classes) both */
    double *confusion; /* (2, classes, classes); null: not kept */
    double *log_loss;  /* (2) sums */
} ClassCounts;

#define SCORED_CLASSES 10 /* with more, no scores are counted */

/* The metrics of a classifier; all but `window`, `bins` and `decay` is written in place. */
typedef struct {
    int64_t window, bins;
    double decay; /* of a fading weight at each row */
    int64_t *rows;
    int32_t *ring_y;           /* (window) */
    int32_t *ring_predictions; /* (4, window) */
    float *ring_losses;        /* (2, window) */
    uint8_t *ring_scores;      /* (2, classes, window) bins of the probabilities */
    ClassCounts fading, cumulative;
    int64_t *scores; /* (2, 2, classes, bins) rows: all and those of the class, by model; null: not counted */
} ClassMetrics;

/* Weighted sums over rows with a target. */
typedef struct {
    double *weight, *mean, *m2;  /* (1) of the targets */
    double *absolute, *squared;  /* (4) of errors */
} TargetSums;

/* The metrics of a regression. */
typedef struct {
    int64_t window;
    double decay;
    int64_t *rows;
    double *ring_y;           /* (window) */
    double *ring_predictions; /* (4, window) */
    TargetSums fading, cumulative;
} TargetMetrics;

/* prepare.c */
void scaling_of(const Options *options, const State *state, Scaling scaling);
void prepare_row(const Options *options, Scaling scaling, const double *x, float *z);
void add_rows(const Options *options, const State *state, const double *x, long rows, double *work);
void add_values(double *clusters, long columns, const double *x, long step, long rows, double reach, double *work);
void moments_of(const double *clusters, long columns, long j, double *moments, long step);
int is_far(const double *moments, double y, double reach);
double unit_of(const double *moments, int counts);

/* ramps.c */
INLINE long ramps_at_most(const Options *o) { return (long)o->ramped * o->ramps; }
long knots_bytes(const Options *options);
void ramps_of(const Options *options, const State *state, Ramps *ramps);
void prepare_ramps(const Options *options, const Ramps *ramps, const double *fills, const double *x, long row);
void add_ramps(const Ramps *ramps, const float *weights, long row, float *z, long rows);
float *ramps_gradient(const Ramps *ramps, long column, const float *delta, long row, long rows);
double ramps_squares_at_most(const Ramps *ramps, long rows);
int set_knots(const Options *options, const State *state, long before, double *work);

/* sparse.c */
long words(long columns);
void gather(const Options *options, Given x, long start, long rows, Entries *to);
void prepare_entries(const Options *options, const State *s, const int32_t *columns, const double *values, long count,
                     Inputs *to, long r);
void sort_entries(const int64_t *starts, const int32_t *columns, long rows, long inputs, ByColumn *to);
void add_entries(const Options *options, const State *s, const Entries *x, long rows, ByColumn *by, double *values);
void index_ring(const Options *o, const State *s, RingIndex *index);
void prepare_slot(const Options *o, const State *s, const RingIndex *index, long slot, Entries *memory, Inputs *to, long r);
void write_slot(const Options *o, const State *s, RingIndex *index, long slot, const Entries *x, long r);

#endif
