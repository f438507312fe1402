/* Random numbers by counting: docs/arithmetic.md, "Random numbers". No state but the index, so any part can be drawn alone. */
#include "core.h"
#include "functions.h"

static const uint64_t GOLDEN = 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio */

/* Steele, Lea & Flood 2014, SplitMix64's finalizer. */
static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* The key of a sequence of draws, one for each use a and b. */
uint64_t draw_key(uint64_t seed, uint64_t a, uint64_t b) {
    return mixed(mixed(mixed(seed + GOLDEN) + a * GOLDEN) + b * GOLDEN);
}

uint64_t draw_bits(uint64_t key, uint64_t index) { return mixed(key + (index + 1) * GOLDEN); }

/* Factors of dropout: 0 with its probability, else what keeps the mean. */
void keep_units(uint64_t key, double dropout, long start, float *kept, long count) {
    uint64_t bound = (uint64_t)(dropout * 4294967296.0);
    float factor = (float)(1.0 / (1.0 - dropout));
    for (long i = 0; i < count; i++)
        kept[i] = (draw_bits(key, (uint64_t)(start + i)) >> 32) >= bound ? factor : 0.0f;
}

/* A number evenly in [0, 1). */
static double uniform(uint64_t key, uint64_t index) { return (double)(draw_bits(key, index) >> 11) * 0x1p-53; }

/* A standard normal number (Box & Muller 1958), of two draws. */
static double normal(uint64_t key, uint64_t index) {
    double u = (double)((draw_bits(key, 2 * index) >> 11) + 1) * 0x1p-53;
    return root(-2.0 * logarithm(u)) * cosine_of_pi(2.0 * uniform(key, 2 * index + 1));
}

/* Makes the columns of q (rows, columns), no more than rows, orthonormal: Gram and Schmidt, twice, column by column. */
static void orthonormalize(double *q, long rows, long columns) {
    for (long c = 0; c < columns; c++) {
        for (int again = 0; again < 2; again++)
            for (long b = 0; b < c; b++) {
                double along = 0.0;
                for (long r = 0; r < rows; r++) along += q[r * columns + b] * q[r * columns + c];
                for (long r = 0; r < rows; r++) q[r * columns + c] -= along * q[r * columns + b];
            }
        double squares = 0.0;
        for (long r = 0; r < rows; r++) squares += q[r * columns + c] * q[r * columns + c];
        double length = root(squares);
        for (long r = 0; r < rows; r++) q[r * columns + c] /= length;
    }
}

/* How weights are drawn: a constant, evenly in [-size, size), normally of deviation size, or orthogonally. */
enum { CONSTANT, UNIFORM, NORMAL, ORTHOGONAL };

/* Draws w (rows, columns), each row `row` floats apart, as numbers `start` and on of a sequence. */
EXPORTED void core_draw(int32_t kind, double size, uint64_t seed, uint64_t a, uint64_t b, uint64_t start, float *w,
                        long rows, long columns, long row, double *work) {
    uint64_t key = draw_key(seed, a, b);
    long tall = larger(rows, columns), narrow = smaller(rows, columns);
    if (kind == ORTHOGONAL) {
        for (long i = 0; i < rows * columns; i++) work[i] = normal(key, start + (uint64_t)i);
        orthonormalize(work, tall, narrow);
    }
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c++) {
            uint64_t index = start + (uint64_t)(r * columns + c);
            double value = size;
            if (kind == UNIFORM) value = (2.0 * uniform(key, index) - 1.0) * size;
            if (kind == NORMAL) value = normal(key, index) * size;
            if (kind == ORTHOGONAL) value = rows >= columns ? work[r * narrow + c] : work[c * narrow + r];
            w[r * row + c] = (float)value;
        }
}

EXPORTED void core_keep(uint64_t seed, uint64_t a, uint64_t b, double dropout, float *kept, long count) {
    keep_units(draw_key(seed, a, b), dropout, 0, kept, count);
}
