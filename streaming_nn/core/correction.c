/* How much of the last error a version adds to its predictions of targets: docs/arithmetic.md, "Correction".

   Errors of a micro-batch are (3, targets): the unit of the version at its start; the sums of the rows' errors as that
   version predicts them; the error of the last row as it was predicted before it was learned. */
#include "core.h"

static const double KEPT = 0.999; /* of the sums, at each micro-batch */
static const double PRIOR = 10.0; /* squares that are added to the sum: the part of a model with few versions is small */

EXPORTED void core_begin_errors(const Options *o, const State *s, double *errors) {
    long targets = targets_of(o->networks[0]);
    for (long t = 0; t < targets; t++) {
        errors[t] = unit_of(s->targets + 3 * t, 0);
        errors[targets + t] = errors[2 * targets + t] = 0.0;
    }
}

/* An error without the correction, in units, within 1 of 0; 0 if it is not finite. */
static double error_of(double y, double prediction, double added, double unit) {
    double error = ((y - prediction) + added) / unit;
    if (!(error * 0.0 == 0.0)) return 0.0;
    error = error > 1.0 ? 1.0 : error;
    return error < -1.0 ? -1.0 : error;
}

/* Adds the errors of rows: y, predictions from before they were learned, and as served, (rows, targets) each. */
EXPORTED void core_add_errors(const Options *o, const State *s, const double *y, const double *output,
                              const double *as_served, long rows, double *errors) {
    long targets = targets_of(o->networks[0]);
    const double *added = s->correction;
    double *sums = errors + targets, *last = sums + targets;
    for (long r = 0; r < rows; r++)
        for (long t = 0; t < targets; t++) {
            long at = r * targets + t;
            sums[t] += error_of(y[at], as_served[at], added[t], errors[t]);
            last[t] = error_of(y[at], output[at], added[t], errors[t]);
        }
}

/* Sets the correction for the next micro-batch. The part that is added is the slope, without a constant, of the errors
   as served by the last error of the version that served them. */
EXPORTED void core_correct(const Options *o, const State *s, const double *errors, long rows) {
    long targets = targets_of(o->networks[0]);
    double *added = s->correction, *squares = added + targets, *products = squares + targets, *last = products + targets;
    for (long t = 0; t < targets; t++) {
        squares[t] = KEPT * squares[t] + last[t] * last[t];
        products[t] = KEPT * products[t] + last[t] * (errors[targets + t] / (double)rows);
        double part = products[t] / (squares[t] + PRIOR);
        part = part < 1.0 ? part : 1.0;
        part = part > 0.0 ? part : 0.0;
        last[t] = errors[2 * targets + t];
        added[t] = (part * last[t]) * unit_of(s->targets + 3 * t, 0);
    }
}
