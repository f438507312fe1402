/* Rows made ready for the network, and their running statistics: docs/arithmetic.md, "Rows".

   The mean is taken off in float64, before rounding: a column of timestamps keeps its small differences. */
#include "core.h"
#include "functions.h"

static const double SETTLED = 100.0; /* rows after which deviations are trusted to bound outliers */

static double deviation(double rows, double squares) { return root(squares / (rows < 1.0 ? 1.0 : rows)); }

/* The middle and half the width of a column's span. */
static double middle(const State *s, long j) { return s->low[j] <= s->high[j] ? ((double)s->low[j] + (double)s->high[j]) / 2.0 : 0.0; }

static float half_width(const State *s, long j) {
    if (!(s->low[j] <= s->high[j])) return __builtin_inff();
    float half = (float)(((double)s->high[j] - (double)s->low[j]) / 2.0);
    return half == 0.0f ? 1.0f : half;
}

/* What is taken off each column, what stands for a missing value, and what the difference is divided by: infinite
   before the first value, 1 where the column is constant. */
void scaling_of(const Options *options, const State *s, Scaling scaling) {
    for (long j = 0; j < options->columns; j++) {
        scaling.fills[j] = s->means[j];
        scaling.origins[j] = options->scale == STANDARD ? s->means[j] : options->scale == MINMAX ? middle(s, j) : 0.0;
        float width = 1.0f;
        if (options->scale == MINMAX) width = half_width(s, j);
        if (options->scale == STANDARD) {
            width = (float)deviation(s->rows[j], s->squares[j]);
            width = s->rows[j] == 0.0 ? __builtin_inff() : width == 0.0f ? 1.0f : width;
        }
        scaling.widths[j] = width;
    }
}

static float bounded(float z, float most) {
    z = z > most ? most : z;
    return z < -most ? -most : z;
}

/* Writes one row z (inputs) from x (columns). */
void prepare_row(const Options *options, Scaling scaling, const float *restrict x, float *restrict z) {
    long n = options->columns;
    const double *origins = scaling.origins;
    const float *widths = scaling.widths;
    float most = options->scale == MINMAX ? 1.0f : options->scale == STANDARD ? (float)options->clip : __builtin_inff();
    if (options->missing == REFUSE) {
        for (long j = 0; j < n; j++) z[j] = bounded((float)((double)x[j] - origins[j]) / widths[j], most);
        return;
    }
    for (long j = 0; j < n; j++) {
        double value = x[j] != x[j] ? scaling.fills[j] : (double)x[j];
        z[j] = bounded((float)(value - origins[j]) / widths[j], most);
    }
    if (options->missing == INDICATE)
        for (long j = 0; j < n; j++) z[n + j] = x[j] != x[j] ? 1.0f : 0.0f;
}

static double first_value(const float *x, long row, long rows) {
    for (long r = 0; r < rows; r++)
        if (x[r * row] == x[r * row]) return x[r * row];
    return 0.0;
}

/* Adds rows x (rows, columns) to the statistics: their moments about the old mean, or about the first value. */
void add_rows(const Options *options, const State *s, const float *x, long rows, double *work) {
    long n = options->columns;
    double *origin = work, *low = origin + n, *high = low + n, *count = high + n, *total = count + n, *squares = total + n;
    const double infinite = __builtin_inf();
    for (long j = 0; j < n; j++) {
        origin[j] = s->rows[j] > 0.0 ? s->means[j] : first_value(x + j, n, rows);
        int trusted = options->reach > 0.0 && s->rows[j] >= SETTLED && s->squares[j] > 0.0;
        double far = trusted ? options->reach * deviation(s->rows[j], s->squares[j]) : infinite;
        low[j] = s->means[j] - far;
        high[j] = s->means[j] + far;
        count[j] = total[j] = squares[j] = 0.0;
    }
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) {
            float raw = x[r * n + j];
            int missing = raw != raw;
            double value = raw;
            value = value < low[j] ? low[j] : value;
            value = value > high[j] ? high[j] : value;
            double delta = missing ? 0.0 : value - origin[j];
            count[j] += missing ? 0.0 : 1.0;
            total[j] += delta;
            squares[j] += delta * delta;
        }
    for (long j = 0; j < n; j++) {
        double all = s->rows[j] + count[j], shift = total[j] / (all < 1.0 ? 1.0 : all);
        double more = squares[j] - total[j] * shift;
        s->rows[j] = all;
        s->means[j] = origin[j] + shift;
        s->squares[j] = (more > 0.0 ? more : 0.0) + s->squares[j];
    }
    if (options->scale != MINMAX) return;
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) {
            float value = x[r * n + j];
            if (value < s->low[j]) s->low[j] = value;
            if (value > s->high[j]) s->high[j] = value;
        }
}

/* Adds the values of one target, `step` floats apart, to its moments (3), as `add_rows` does. */
void add_values(double *moments, const float *y, long step, long rows) {
    double origin = moments[0] > 0.0 ? moments[1] : (double)y[0], total = 0.0, squares = 0.0;
    for (long r = 0; r < rows; r++) {
        double delta = (double)y[r * step] - origin;
        total += delta;
        squares += delta * delta;
    }
    moments[0] = moments[0] + (double)rows;
    double shift = total / moments[0], more = squares - total * shift;
    moments[1] = origin + shift;
    moments[2] = (more > 0.0 ? more : 0.0) + moments[2];
}

/* The unit of a target: its deviation, of counts (Poisson) its mean; 1 where that is 0. */
double unit_of(const double *moments, int counts) {
    double unit = counts ? moments[1] : deviation(moments[0], moments[2]);
    return unit > 0.0 ? unit : 1.0;
}
