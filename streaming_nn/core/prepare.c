/* Rows made ready for the network, and their running statistics: docs/arithmetic.md, "Rows".

   The statistics are those of the values that are near to most others: a wild one is kept apart. The mean is taken off in float64, before rounding: a column of timestamps keeps its small differences. */
#include "core.h"
#include "functions.h"

static const double ENOUGH = 30.0; /* votes with which far values become the near ones */
static const long FEW = 4;           /* rows below which looking for equal far values costs more than adding them */

static double deviation(double rows, double squares) { return root(squares / (rows < 1.0 ? 1.0 : rows)); }

/* The middle and half the width of a column's span. */
static double middle(const State *s, long j) { return s->low[j] <= s->high[j] ? (s->low[j] + s->high[j]) / 2.0 : 0.0; }

static float half_width(const State *s, long j) {
    if (!(s->low[j] <= s->high[j])) return __builtin_inff();
    float half = (float)((s->high[j] - s->low[j]) / 2.0);
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
void prepare_row(const Options *options, Scaling scaling, const double *restrict x, float *restrict z) {
    long n = options->columns;
    const double *origins = scaling.origins;
    const float *widths = scaling.widths;
    float most = options->scale == MINMAX ? 1.0f : options->scale == STANDARD ? (float)options->clip : __builtin_inff();
    if (options->missing == REFUSE) {
        for (long j = 0; j < n; j++) z[j] = bounded((float)(x[j] - origins[j]) / widths[j], most);
        return;
    }
    for (long j = 0; j < n; j++) {
        double value = x[j] != x[j] ? scaling.fills[j] : x[j];
        z[j] = bounded((float)(value - origins[j]) / widths[j], most);
    }
    if (options->missing == INDICATE)
        for (long j = 0; j < n; j++) z[n + j] = x[j] != x[j] ? 1.0f : 0.0f;
}

/* Count, mean and sum of squared deviations of some values. */
typedef struct { double rows, mean, squares; } Moments;

static void push(Moments *m, double value) {
    double delta = value - m->mean;
    m->rows += 1.0;
    double shift = delta / m->rows;
    m->mean = m->mean + shift;
    m->squares = m->squares + delta * (delta - shift);
}

/* The moments of two sets of values; the first is not empty. */
static Moments merged(Moments a, Moments b) {
    double rows = a.rows + b.rows, part = b.rows / rows, delta = b.mean - a.mean;
    return (Moments){rows, delta * part + a.mean, delta * delta * (a.rows * part) + a.squares + b.squares};
}

/* The two clusters of one column's values: near ones, and those that are far from them. */
typedef struct {
    Moments near, far;
    double votes; /* far values, less the near ones since */
} Clusters;

static Moments moments_at(const double *clusters, long step, long j) {
    return (Moments){clusters[j], clusters[step + j], clusters[2 * step + j]};
}

static void write_moments(double *clusters, long step, long j, Moments m) {
    clusters[j] = m.rows;
    clusters[step + j] = m.mean;
    clusters[2 * step + j] = m.squares;
}

/* How far from their mean near values are: infinite without a reach. */
static double limit_of(Moments near, double reach) {
    return reach > 0.0 ? reach * deviation(near.rows, near.squares) : __builtin_inf();
}

/* What the far values are measured by: how far they are from the near ones' mean. */
static double distance(const Clusters *c) {
    double delta = c->far.mean - c->near.mean;
    return root(delta * delta + c->far.squares / c->far.rows);
}

/* Adds a value that is outside the limit: it joins the far ones if it is about as far as they are, replaces them if it
   is much nearer, and outvotes them if it is much farther. Near values without a deviation take in far ones that vary. */
static void add_far(Clusters *c, double value, double reach) {
    double size = absolute(value - c->near.mean), other = c->far.rows > 0.0 ? distance(c) : 0.0;
    int farther = c->far.rows > 0.0 && size > reach * other;
    if (farther && c->votes > 0.0) {
        c->votes -= 1.0;
        return;
    }
    if (farther || c->far.rows == 0.0 || other > reach * size) {
        c->far = (Moments){1.0, value, 0.0};
        c->votes = 1.0;
        return;
    }
    push(&c->far, value);
    c->votes += 1.0;
    if (c->near.squares == 0.0 && c->far.squares > 0.0 && distance(c) <= limit_of(c->far, reach)) {
        c->near = merged(c->near, c->far);
        c->far = (Moments){0.0, 0.0, 0.0};
        c->votes = 0.0;
    }
}

/* The far values become the near ones once enough of them came. */
static void elect(Clusters *c, double reach) {
    if (!(c->votes > (c->near.rows < ENOUGH ? c->near.rows : ENOUGH))) return;
    Moments before = c->near;
    c->near = c->far;
    c->votes = 0.0;
    int apart = absolute(before.mean - c->near.mean) > limit_of(c->near, reach);
    c->far = apart ? before : (Moments){0.0, 0.0, 0.0};
}

/* Adds values outside the limit, in order, `step` numbers apart; those that have come within it meanwhile are near. */
static void add_outside(double *clusters, long columns, long j, const double *x, long step, long rows, double low,
                        double high, double inside, double reach) {
    Clusters c = {moments_at(clusters, columns, j), moments_at(clusters + 3 * columns, columns, j),
                  clusters[6 * columns + j]};
    for (long r = 0; r < rows; r++) {
        double value = x[r * step];
        if (value != value || (value >= low && value <= high)) continue;
        if (c.near.rows == 0.0 || absolute(value - c.near.mean) <= limit_of(c.near, reach)) {
            push(&c.near, value);
            inside += 1.0;
        } else {
            add_far(&c, value, reach);
        }
    }
    c.votes = c.votes > inside ? c.votes - inside : 0.0;
    elect(&c, reach);
    write_moments(clusters, columns, j, c.near);
    write_moments(clusters + 3 * columns, columns, j, c.far);
    clusters[6 * columns + j] = c.votes;
}

/* The value of far ones that have all been equal beside a constant, such as a rare 1 among zeros; NaN if they are not.
   More of them only count. */
static double rare_value(const double *clusters, long columns, long j, double reach) {
    Clusters c = {moments_at(clusters, columns, j), moments_at(clusters + 3 * columns, columns, j), 0.0};
    if (c.near.squares != 0.0 || c.far.rows == 0.0 || c.far.squares != 0.0) return __builtin_nan("");
    double size = absolute(c.far.mean - c.near.mean), other = distance(&c);
    return size > reach * other || other > reach * size ? __builtin_nan("") : c.far.mean;
}

/* Adds rows x (rows, columns), `step` numbers apart, to the clusters (7, columns); work is (8, columns). */
void add_values(double *restrict clusters, long columns, const double *restrict x, long step, long rows, double reach,
                double *restrict work) {
    long n = columns;
    double *low = work, *high = low + n, *count = high + n, *total = count + n, *squares = total + n, *outside = squares + n;
    double *rare = outside + n, *equal = rare + n;
    const double infinite = __builtin_inf();
    for (long j = 0; j < n; j++) {
        double far = limit_of(moments_at(clusters, n, j), reach);
        low[j] = clusters[j] > 0.0 ? clusters[n + j] - far : infinite; /* without values, all are outside */
        high[j] = clusters[j] > 0.0 ? clusters[n + j] + far : -infinite;
        count[j] = total[j] = squares[j] = outside[j] = equal[j] = 0.0;
    }
    for (long j = 0; j < n; j++) rare[j] = rows < FEW ? __builtin_nan("") : rare_value(clusters, n, j, reach);
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) {
            double value = x[r * step + j];
            int inside = (value >= low[j]) & (value <= high[j]);
            double delta = inside ? value - clusters[n + j] : 0.0;
            count[j] += inside ? 1.0 : 0.0;
            outside[j] += (inside | (value != value)) ? 0.0 : 1.0;
            equal[j] += (!inside & (value == rare[j])) ? 1.0 : 0.0;
            total[j] += delta;
            squares[j] += delta * delta;
        }
    for (long j = 0; j < n; j++) {
        double all = clusters[j] + count[j], shift = total[j] / (all < 1.0 ? 1.0 : all), more = squares[j] - total[j] * shift;
        double votes = clusters[6 * n + j];
        write_moments(clusters, n, j, (Moments){all, clusters[n + j] + shift, (more > 0.0 ? more : 0.0) + clusters[2 * n + j]});
        if (outside[j] == 0.0) clusters[6 * n + j] = votes > count[j] ? votes - count[j] : 0.0;
    }
    for (long j = 0; j < n; j++) {
        if (outside[j] == 0.0) continue;
        long some = outside[j] == equal[j] ? 0 : rows;
        if (!some) {
            clusters[3 * n + j] += equal[j];
            clusters[4 * n + j] += 0.0; /* a mean of -0 becomes +0, as if they had been added one by one */
            clusters[6 * n + j] += equal[j];
        }
        add_outside(clusters, n, j, x + j, step, some, low[j], high[j], count[j], reach);
    }
}

/* The moments that rows are scaled by: of near values without a deviation, with the far ones. */
void moments_of(const double *clusters, long columns, long j, double *moments, long step) {
    Moments near = moments_at(clusters, columns, j), far = moments_at(clusters + 3 * columns, columns, j);
    write_moments(moments, step, 0, near.squares == 0.0 && far.rows > 0.0 ? merged(near, far) : near);
}

/* Adds rows x (rows, columns) to the statistics. */
void add_rows(const Options *options, const State *s, const double *x, long rows, double *work) {
    long n = options->columns;
    add_values(s->clusters, n, x, n, rows, options->reach, work);
    for (long j = 0; j < n; j++) {
        double moments[3];
        moments_of(s->clusters, n, j, moments, 1);
        s->rows[j] = moments[0];
        s->means[j] = moments[1];
        s->squares[j] = moments[2];
    }
    if (options->scale != MINMAX) return;
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) {
            double value = x[r * n + j];
            if (value < s->low[j]) s->low[j] = value;
            if (value > s->high[j]) s->high[j] = value;
        }
}

/* Whether a target is too far from the others to be learned. */
int is_far(const double *moments, double y, double reach) {
    if (reach == 0.0 || moments[2] == 0.0) return 0;
    return absolute(y - moments[1]) > reach * deviation(moments[0], moments[2]);
}

/* The unit of a target: its deviation, of counts (Poisson) its mean; 1 where that is 0. */
double unit_of(const double *moments, int counts) {
    double unit = counts ? moments[1] : deviation(moments[0], moments[2]);
    return unit > 0.0 ? unit : 1.0;
}
