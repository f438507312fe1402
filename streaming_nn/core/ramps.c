/* Ramps of numeric columns (Gorishniy, Rubachev & Babenko 2022, section 3.2): docs/arithmetic.md, "Ramps".

   A column's knots are quantiles of its values in the ring, or all of its values where these are few. A ramp rises from
   0 at one knot to 1 at the next one: so a layer learns any function of the column that is linear between its knots. */
#include "core.h"
#include "functions.h"

#define SAMPLED 1024     /* rows of the ring whose values are sorted */
#define QUANTILES 16 /* knots of a column that has more values than there can be knots */
#define FIRST 32         /* rows after which knots are set first; then after twice as many, each time */
#define MOST_BETWEEN 4096 /* rows between two times */

long knots_bytes(const Options *o) { return o->ramped ? SAMPLED * (long)sizeof(double) : 0; }

/* How often knots are set until so many rows were appended. */
static long times_set(long rows) {
    if (rows >= MOST_BETWEEN) return rows / MOST_BETWEEN + 7;
    long count = 0;
    while (rows >= FIRST << count) count++;
    return count;
}

static void sift(double *heap, long root, long count) {
    for (long child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (!(heap[child] > heap[root])) return;
        double value = heap[root];
        heap[root] = heap[child];
        heap[child] = value;
    }
}

/* Heapsort (Williams 1964, algorithm 232). */
static void sort(double *values, long count) {
    for (long i = count / 2 - 1; i >= 0; i--) sift(values, i, count);
    for (long last = count - 1; last > 0; last--) {
        double most = values[0];
        values[0] = values[last];
        values[last] = most;
        sift(values, 0, last);
    }
}

/* Takes a column's values from rows of the ring that are spread over all that are kept, without those missing. */
static long sample(const Options *o, const State *s, long j, double *values) {
    long kept = smaller(*s->appended, o->capacity), rows = smaller(kept, SAMPLED), count = 0;
    for (long i = 0; i < rows; i++) {
        double value = row_at(o, s, (*s->appended - kept + i * kept / rows) % o->capacity)[j];
        if (value == value) values[count++] = value + 0.0; /* -0 becomes 0 */
    }
    return count;
}

static long distinct(const double *values, long count) {
    long found = 0;
    for (long i = 0; i < count; i++) found += i == 0 || values[i] != values[i - 1];
    return found;
}

/* Writes the knots of sorted values; a column of two values needs none. */
static void write_knots(const double *values, long count, long most, double *knots) {
    long all = distinct(values, count) <= most, steps = all ? count : smaller(QUANTILES, most), found = 0;
    for (long i = 0; i < steps; i++) {
        double value = values[all ? i : i * (count - 1) / (steps - 1)];
        if (found == 0 || value != knots[found - 1]) knots[found++] = value;
    }
    for (long i = found > 2 ? found : 0; i < most; i++) knots[i] = __builtin_inf();
}

/* Sets the knots if rows appended since `before` make it due; returns whether it was. */
int set_knots(const Options *o, const State *s, long before, double *work) {
    if (!o->ramped || times_set(before) == times_set(*s->appended)) return 0;
    for (long j = 0; j < o->ramped; j++) {
        long count = sample(o, s, j, work);
        sort(work, count);
        write_knots(work, count, o->ramps + 1, s->knots + j * (o->ramps + 1));
    }
    return 1;
}

/* Lists the ramps whose width is a number above 0: between two knots that differ in float32, and not by too much. */
void ramps_of(const Options *o, const State *s, Ramps *ramps) {
    ramps->columns = ramps->count = 0;
    for (long j = 0; j < o->ramped; j++) {
        const double *knots = s->knots + j * (o->ramps + 1);
        long first = ramps->count;
        for (long i = 0; i < o->ramps; i++) {
            float width = (float)(knots[i + 1] - knots[i]);
            if (!(width > 0.0f && width < __builtin_inff())) continue;
            ramps->number[ramps->count] = (int32_t)(j * o->ramps + i);
            ramps->origins[ramps->count] = knots[i];
            ramps->tops[ramps->count] = knots[i + 1];
            ramps->widths[ramps->count++] = width;
        }
        if (ramps->count == first) continue;
        ramps->column[ramps->columns] = (int32_t)j;
        ramps->starts[ramps->columns++] = (int32_t)first;
    }
    if (o->ramped) ramps->starts[ramps->columns] = (int32_t)ramps->count;
}

/* Writes where the numbers of row x (columns) are among the ramps. */
void prepare_ramps(const Options *o, const Ramps *ramps, const double *fills, const double *x, long row) {
    for (long c = 0; c < ramps->columns; c++) {
        double value = x[ramps->column[c]];
        if (o->missing != REFUSE && value != value) value = fills[ramps->column[c]];
        long start = ramps->starts[c], end = ramps->starts[c + 1], at = start;
        for (long i = start; i < end; i++) at += value >= ramps->tops[i];
        float height = at < end ? (float)(value - ramps->origins[at]) / ramps->widths[at] : 0.0f;
        if (height >= 1.0f) { /* rounded to the top */
            height = 0.0f;
            at++;
        }
        ramps->at[row * ramps->columns + c] = (int32_t)at;
        ramps->heights[row * ramps->columns + c] = height < 0.0f ? 0.0f : height;
    }
}

/* Adds to each row's sums z (rows, row) those of its ramps: one chain for each column.

   The sums of a column's first ramps are the same for all rows: each row takes one of them, and adds one term. */
void add_ramps(const Ramps *ramps, const float *weights, long row, float *restrict z, long rows) {
    float *restrict sums = ramps->sums;
    for (long c = 0; c < ramps->columns; c++) {
        long start = ramps->starts[c], end = ramps->starts[c + 1], most = start;
        const int32_t *at = ramps->at + c;
        for (long r = 0; r < rows; r++) most = larger(most, at[r * ramps->columns]);
        fill_bytes(sums, 0, row * sizeof(float));
        for (long i = start; i < most; i++) {
            const float *w = weights + ramps->number[i] * row;
            float *from = sums + (i - start) * row, *to = from + row;
            for (long j = 0; j < row; j++) to[j] = from[j] + w[j];
        }
        for (long r = 0; r < rows; r++) {
            long i = at[r * ramps->columns];
            float height = ramps->heights[r * ramps->columns + c];
            const float *full = sums + (i - start) * row, *w = weights + ramps->number[i < end ? i : start] * row;
            for (long j = 0; j < row; j++) z[r * row + j] += full[j] + height * w[j];
        }
    }
}

/* Returns the gradient (ramps of the column, row) by the weights of a column's ramps, given that by the sums. */
float *ramps_gradient(const Ramps *ramps, long c, const float *restrict delta, long row, long rows) {
    long start = ramps->starts[c], count = ramps->starts[c + 1] - start;
    float *restrict rising = ramps->sums, *restrict full = rising + (count + 1) * row; /* of rows whose `at` it is */
    fill_bytes(rising, 0, 2 * (count + 1) * row * (long)sizeof(float));
    for (long r = 0; r < rows; r++) {
        long i = ramps->at[r * ramps->columns + c] - start;
        float height = ramps->heights[r * ramps->columns + c];
        for (long j = 0; j < row; j++) {
            rising[i * row + j] += height * delta[r * row + j];
            full[i * row + j] += delta[r * row + j];
        }
    }
    float *restrict after = full + count * row; /* of rows in which the ramp is 1 */
    for (long i = count - 1; i >= 0; i--)
        for (long j = 0; j < row; j++) {
            rising[i * row + j] += after[j];
            after[j] += full[i * row + j];
        }
    return rising;
}

/* An upper bound of the sum of all ramps' squares. */
double ramps_squares_at_most(const Ramps *ramps, long rows) {
    double total = 0.0;
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < ramps->columns; c++)
            total += (double)(ramps->at[r * ramps->columns + c] - ramps->starts[c] + 1);
    return total;
}
