/* Learns and measures recorded streams by the core alone, without Python: so that any compiler's core can run, also in
   an emulator.

   benchmarks/bits.py writes the streams to standard input, and compares the bits that come out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

void core_learn(const Options *options, Member *members, const State *state, const Given *x, const double *y,
                const float *weight, long rows, long most, void *output, uint8_t *trained, void *work);
long core_step_bytes(const Options *options, long most);
int core_measure_classes(const ClassMetrics *metrics, const int32_t *y, const float *output, const float *as_served,
                         long rows, double *weights);
void core_measure_targets(const TargetMetrics *metrics, const double *y, const double *output, const double *as_served,
                          long rows, double *weights);

typedef struct {
    int64_t size;
    void *bytes;
} Part;

static void must(int condition) {
    if (!condition) {
        fputs("cannot read the streams\n", stderr);
        exit(1);
    }
}

static void *memory(int64_t size) {
    void *bytes = aligned_alloc(64, (size_t)(size + 128) / 64 * 64);
    must(bytes != 0);
    return memset(bytes, 0, (size_t)size);
}

static Part read_part(void) {
    Part part = {0, 0};
    must(fread(&part.size, sizeof part.size, 1, stdin) == 1);
    if (!part.size) return part;
    part.bytes = memory(part.size);
    must(fread(part.bytes, 1, (size_t)part.size, stdin) == (size_t)part.size);
    return part;
}

static void write_part(Part part) { must(fwrite(part.bytes, 1, (size_t)part.size, stdout) == (size_t)part.size); }

static Part zeros(int64_t size) {
    Part part = {size, memory(size)};
    fill_bytes(part.bytes, 0, (size_t)size);
    return part;
}

enum { WINDOW = 20, BINS = 128 };
static const double DECAY = 0.99;

/* Measures all rows but the first; as served is the prediction of the row before. */
static void measure_classes(const double *y, const float *output, long rows, long classes) {
    const int64_t d = sizeof(double), sizes[] = {
        8, WINDOW * 4, 4 * WINDOW * 4, 2 * WINDOW * 4, 2 * classes * WINDOW,
        classes * d, 4 * classes * d, 4 * classes * d, 2 * classes * classes * d, 2 * d,
        classes * d, 4 * classes * d, 4 * classes * d, 2 * classes * classes * d, 2 * d,
        2 * 2 * classes * BINS * 8,
    };
    enum { COUNT = sizeof sizes / sizeof *sizes };
    Part a[COUNT];
    for (int i = 0; i < COUNT; i++) a[i] = zeros(sizes[i]);
    const ClassMetrics metrics = {
        WINDOW, BINS, DECAY, a[0].bytes, a[1].bytes, a[2].bytes, a[3].bytes, a[4].bytes,
        {classes, a[5].bytes, a[6].bytes, a[7].bytes, a[8].bytes, a[9].bytes},
        {classes, a[10].bytes, a[11].bytes, a[12].bytes, a[13].bytes, a[14].bytes}, a[15].bytes,
    };
    int32_t *truth = memory(rows * 4);
    for (long r = 0; r < rows; r++) truth[r] = (int32_t)y[r];
    must(!core_measure_classes(&metrics, truth + 1, output + classes, output, rows - 1, memory(rows * d)));
    for (int i = 0; i < COUNT; i++) write_part(a[i]);
}

/* The same of the first target, which is y's and the output's first column; the logistic loss has float32. */
static void measure_targets(int loss, const double *y, long targets, const void *output, long outputs, long rows) {
    const int64_t d = sizeof(double), sizes[] = {
        8, WINDOW * d, 4 * WINDOW * d, d, d, d, 4 * d, 4 * d, d, d, d, 4 * d, 4 * d,
    };
    enum { COUNT = sizeof sizes / sizeof *sizes };
    Part a[COUNT];
    for (int i = 0; i < COUNT; i++) a[i] = zeros(sizes[i]);
    const TargetMetrics metrics = {
        WINDOW, DECAY, a[0].bytes, a[1].bytes, a[2].bytes,
        {a[3].bytes, a[4].bytes, a[5].bytes, a[6].bytes, a[7].bytes},
        {a[8].bytes, a[9].bytes, a[10].bytes, a[11].bytes, a[12].bytes},
    };
    double *truth = memory(rows * d);
    double *predictions = memory(rows * d);
    for (long r = 0; r < rows; r++) {
        truth[r] = y[r * targets];
        predictions[r] = loss == LOGISTIC ? ((const float *)output)[r * outputs] : ((const double *)output)[r * outputs];
    }
    core_measure_targets(&metrics, truth + 1, predictions + 1, predictions, rows - 1, memory(rows * d));
    for (int i = 0; i < COUNT; i++) write_part(a[i]);
}

#define ARRAYS (sizeof(State) / sizeof(void *))

/* Reads each member's network; members of one shape have one. */
static const Network *const *read_networks(int members) {
    const Network **networks = memory(members * (int64_t)sizeof(Network *));
    Part shapes = read_part();
    must(shapes.size == members * (int64_t)sizeof(int64_t));
    for (int k = 0; k < members; k++) {
        int64_t like = ((int64_t *)shapes.bytes)[k];
        if (like < k) {
            networks[k] = networks[like];
            continue;
        }
        Part network = read_part();
        must(network.size == sizeof(Network));
        ((Network *)network.bytes)->units = read_part().bytes;
        ((Network *)network.bytes)->quantiles = read_part().bytes;
        networks[k] = network.bytes;
    }
    return networks;
}

static void learn_stream(void) {
    Part options_ = read_part();
    must(options_.size == sizeof(Options));
    Options *options = options_.bytes;
    options->class_weights = read_part().bytes;
    options->networks = read_networks(options->members);
    Member *members = memory(options->members * (int64_t)sizeof(Member));
    Part *vectors = memory(options->members * 4 * (int64_t)sizeof(Part)), arrays[ARRAYS];
    for (int k = 0; k < options->members; k++) {
        Part member = read_part();
        must(member.size == sizeof(Member));
        members[k] = *(Member *)member.bytes;
        members[k].initial = read_part().bytes;
        Part *own = vectors + 4 * k;
        for (int i = 0; i < 4; i++) own[i] = read_part();
        members[k].theta = own[0].bytes;
        members[k].first = own[1].bytes;
        members[k].second = own[2].bytes;
        members[k].powers = own[3].bytes;
    }
    State state;
    for (size_t i = 0; i < ARRAYS; i++) {
        arrays[i] = read_part();
        ((void **)&state)[i] = arrays[i].bytes;
    }
    Part x = read_part(), y = read_part(), weight = read_part(), sizes = read_part();
    must(sizes.size == 2 * sizeof(int64_t));
    int64_t rows = ((int64_t *)sizes.bytes)[0], most = ((int64_t *)sizes.bytes)[1];
    const Network *network = options->networks[0];
    int loss = network->loss, is_classes = loss == SOFTMAX || loss == LOGISTIC;
    long outputs = network->units[network->layers], targets = y.size / (rows * (int64_t)sizeof(double));
    Part output = {rows * outputs * (int64_t)(is_classes ? sizeof(float) : sizeof(double)), 0};
    Part trained = {(rows + most - 1) / most, 0};
    output.bytes = memory(output.size);
    trained.bytes = memory(trained.size);
    Given rows_of = {.values = x.bytes};
    core_learn(options, members, &state, &rows_of, y.bytes, weight.bytes, (long)rows, (long)most, output.bytes,
               trained.bytes, memory(core_step_bytes(options, (long)most)));
    for (int i = 0; i < 4 * options->members; i++) write_part(vectors[i]);
    for (size_t i = 0; i < ARRAYS; i++) write_part(arrays[i]);
    write_part(output);
    write_part(trained);
    if (loss == SOFTMAX)
        measure_classes(y.bytes, output.bytes, rows, outputs);
    else
        measure_targets(loss, y.bytes, targets, output.bytes, outputs, rows);
}

int main(void) {
    int more;
    while ((more = getchar()) != EOF) {
        ungetc(more, stdin);
        learn_stream();
    }
    return 0;
}
