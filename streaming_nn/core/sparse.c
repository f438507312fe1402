/* Rows that are mostly zero (scale SPARSE): docs/arithmetic.md, "Rows". What is done to them follows their entries, the
   values that are not 0; beside these only bits are read, one per column. */
#include "core.h"
#include "functions.h"

#define WORD 64 /* columns of one word of bits */

long words(long columns) { return (columns + WORD - 1) / WORD; }

/* The next column of a set from `from` on; `columns` if there is none. */
INLINE long next_column(const uint64_t *set, long from, long columns) {
    for (long w = from / WORD; from < columns; from = ++w * WORD) {
        uint64_t word = set[w] >> (from % WORD);
        if (word) return from + __builtin_ctzll(word);
    }
    return columns;
}

INLINE void include(uint64_t *set, long column) { set[column / WORD] |= (uint64_t)1 << (column % WORD); }

/* Reads rows from `start` on: the entries of x, which are all of its values that are not 0. */
void gather(const Options *options, Given x, long start, long rows, Entries *to) {
    long n = 0, columns = options->columns;
    to->starts[0] = 0;
    for (long r = 0; r < rows; r++) {
        long from = x.starts ? x.starts[start + r] : (start + r) * columns;
        long count = x.starts ? x.starts[start + r + 1] - from : columns;
        for (long i = 0; i < count; i++) {
            double value = x.values[from + i];
            if (value == 0.0) continue;
            to->columns[n] = x.starts ? x.columns[from + i] : (int32_t)i;
            to->values[n++] = value;
        }
        to->starts[r + 1] = n;
    }
}

/* Root of the mean square of a column's values that are not 0; 1 without any. */
static float width_of(const State *s, long j) {
    double rows = s->rows[j] < 1.0 ? 1.0 : s->rows[j];
    float width = (float)root(s->means[j] * s->means[j] + s->squares[j] / rows);
    return width == 0.0f ? 1.0f : width;
}

/* Appends a prepared row: a missing value is 0. */
static void prepare_entry(const Options *options, const State *s, int32_t column, double value, Inputs *to, long *n) {
    if (options->missing != REFUSE && value != value) return;
    float most = (float)options->clip, z = (float)value / width_of(s, column);
    z = z > most ? most : z;
    z = z < -most ? -most : z;
    if (z == 0.0f) return;
    to->columns[*n] = column;
    to->values[(*n)++] = z;
}

/* Writes row r of the network's inputs, after those before it. */
void prepare_entries(const Options *options, const State *s, const int32_t *columns, const double *values, long count,
                     Inputs *to, long r) {
    long n = to->starts[r];
    for (long i = 0; i < count; i++) prepare_entry(options, s, columns[i], values[i], to, &n);
    for (long i = 0; options->missing == INDICATE && i < count; i++)
        if (values[i] != values[i]) {
            to->columns[n] = options->columns + columns[i];
            to->values[n++] = 1.0f;
        }
    to->starts[r + 1] = n;
}

/* Sorts the entries of rows by column; those of one column stay in the order of rows. */
void sort_entries(const int64_t *starts, const int32_t *columns, long rows, long inputs, ByColumn *to) {
    long active = 0, count = starts[rows];
    fill_bytes(to->set, 0, words(inputs) * sizeof(uint64_t));
    for (long i = 0; i < count; i++) include(to->set, columns[i]);
    for (long j = next_column(to->set, 0, inputs); j < inputs; j = next_column(to->set, j + 1, inputs)) {
        to->position[j] = (int32_t)active;
        to->index[active++] = (int32_t)j;
    }
    to->active = active;
    for (long k = 0; k <= active; k++) to->starts[k] = 0;
    for (long i = 0; i < count; i++) to->starts[to->position[columns[i]] + 1]++;
    for (long k = 0; k < active; k++) to->starts[k + 1] += to->starts[k];
    for (long k = 0; k < active; k++) to->position[to->index[k]] = (int32_t)to->starts[k];
    for (long r = 0; r < rows; r++)
        for (long i = starts[r]; i < starts[r + 1]; i++) {
            long at = to->position[columns[i]]++;
            to->rows[at] = (int32_t)r;
            to->from[at] = i;
        }
}

/* Adds the entries of rows to the statistics, column by column; `values` has memory for those of one. */
void add_entries(const Options *options, const State *s, const Entries *x, long rows, ByColumn *by, double *values) {
    long n = options->columns;
    sort_entries(x->starts, x->columns, rows, n, by);
    for (long k = 0; k < by->active; k++) {
        double clusters[7], work[8], moments[3];
        long j = by->index[k], count = by->starts[k + 1] - by->starts[k];
        for (long i = 0; i < count; i++) values[i] = x->values[by->from[by->starts[k] + i]];
        for (int part = 0; part < 7; part++) clusters[part] = s->clusters[part * n + j];
        add_values(clusters, 1, values, 1, count, options->reach, work);
        moments_of(clusters, 1, 0, moments, 1);
        for (int part = 0; part < 7; part++) s->clusters[part * n + j] = clusters[part];
        s->rows[j] = moments[0];
        s->means[j] = moments[1];
        s->squares[j] = moments[2];
    }
}

/* --- The ring: its rows have all columns, as without SPARSE; sets of columns hold which of them are not 0. */

/* Brings the sets up to date with the ring: after the first call, and after another memory wrote to the ring. */
void index_ring(const Options *o, const State *s, RingIndex *index) {
    long appended = *s->appended, from = *index->appended > appended ? 0 : *index->appended;
    for (long a = larger(from, appended - o->capacity); a < appended; a++) {
        uint64_t *set = index->sets + a % o->capacity * words(o->columns);
        const double *row = row_at(o, s, a % o->capacity);
        fill_bytes(set, 0, words(o->columns) * sizeof(uint64_t));
        for (long j = 0; j < o->columns; j++)
            if (row[j] != 0.0) include(set, j);
    }
    *index->appended = appended;
}

/* Writes row r of the network's inputs from a slot of the ring. */
void prepare_slot(const Options *o, const State *s, const RingIndex *index, long slot, Entries *memory, Inputs *to, long r) {
    const uint64_t *set = index->sets + slot * words(o->columns);
    const double *row = row_at(o, s, slot);
    long count = 0;
    for (long j = next_column(set, 0, o->columns); j < o->columns; j = next_column(set, j + 1, o->columns)) {
        memory->columns[count] = (int32_t)j;
        memory->values[count++] = row[j];
    }
    prepare_entries(o, s, memory->columns, memory->values, count, to, r);
}

/* Writes the columns of one row into a slot. */
void write_slot(const Options *o, const State *s, RingIndex *index, long slot, const Entries *x, long r) {
    uint64_t *set = index->sets + slot * words(o->columns);
    double *row = row_at(o, s, slot);
    for (long j = next_column(set, 0, o->columns); j < o->columns; j = next_column(set, j + 1, o->columns)) row[j] = 0.0;
    fill_bytes(set, 0, words(o->columns) * sizeof(uint64_t));
    for (long i = x->starts[r]; i < x->starts[r + 1]; i++) {
        row[x->columns[i]] = x->values[i];
        include(set, x->columns[i]);
    }
    *index->appended += 1;
}
