/* Predictions measured: docs/arithmetic.md, "Metrics".

   Each row has four predictions: before learning it, as served, and two baselines; the first two are a model's. */
#include "core.h"
#include "functions.h"

enum { PREDICTIONS = 4, OF_MODELS = 2, OCTAVES = 16, PART = 64 }; /* PART: rows looked at together */
static const float LEAST = 0x1p-23f; /* of a right class's probability, and of its distance from 1 */
static const double LEAST_WATCHED = 1e-4; /* probability below which a loss stops growing for a drift detector */
static const double MOST_WATCHED = 10.0;  /* deviations of the target at which an error does */

INLINE float finite_or_0(float p) { return p - p == 0.0f ? p : 0.0f; }

/* Weights of `rows` rows, the last of which weighs 1; returns that of what was counted before. */
static double fade(double decay, double *weights, long rows) {
    double weight = 1.0;
    for (long r = rows - 1; r >= 0; r--) {
        weights[r] = weight;
        weight = weight * decay;
    }
    return weight;
}

static void scale(double *x, long count, double by) {
    for (long i = 0; i < count; i++) x[i] = x[i] * by;
}

/* --- Classes */

typedef int32_t lanes __attribute__((vector_size(sizeof(vector)), may_alias));

INLINE vector finite_or_0s(const float *p) {
    vector v = *(const vector *)p;
    return (vector)((lanes)(v - v == SPREAD(0.0f)) & (lanes)v);
}

/* The class of the greatest probability, of equal ones the first. */
static int32_t greatest(const float *p, long classes) {
    float top = finite_or_0(p[0]);
    int32_t first = 0;
    long j = 1;
    if (classes >= 2 * LANES) {
        vector tops = finite_or_0s(p);
        lanes firsts = {0}, here = {0}, step = {0};
        for (int k = 0; k < LANES; k++) {
            firsts[k] = here[k] = k;
            step[k] = LANES;
        }
        for (j = LANES; j + LANES <= classes; j += LANES) {
            vector v = finite_or_0s(p + j);
            lanes more = (lanes)(v > tops);
            here += step;
            tops = (vector)((more & (lanes)v) | (~more & (lanes)tops));
            firsts = (more & here) | (~more & firsts);
        }
        for (int k = 0; k < LANES; k++) {
            int better = tops[k] > top || (tops[k] == top && firsts[k] < first);
            first = better ? firsts[k] : first;
            top = better ? tops[k] : top;
        }
    }
    for (; j < classes; j++) {
        float v = finite_or_0(p[j]);
        first = v > top ? (int32_t)j : first;
        top = v > top ? v : top;
    }
    return first;
}

INLINE float log_loss(float right) {
    right = right < LEAST ? LEAST : right;
    right = right > 1.0f - LEAST ? 1.0f - LEAST : right;
    return (float)-logarithm((double)right);
}

/* The bin of each probability, of `bins`: read from the bits of its odds, whose exponent and first digits it has. */
static void bins_of(const float *restrict p, long count, long bins, uint8_t *restrict found) {
    int32_t octave = (int32_t)bins / (2 * OCTAVES), lowest = (127 - OCTAVES) * octave, most = (int32_t)bins - 1;
    int shift = octave == 8 ? 20 : 21;
    for (long i = 0; i < count; i++) {
        float v = finite_or_0(p[i]), odds = v / (1.0f - v);
        uint32_t bits;
        copy_bytes(&bits, &odds, sizeof bits);
        int32_t bin = (int32_t)(bits >> shift) - lowest;
        bin = bin < 0 ? 0 : bin;
        found[i] = (uint8_t)(bin > most ? most : bin);
    }
}

static void count_row(const ClassCounts *c, long y, const int32_t *p, const float *loss, long step, double weight) {
    long classes = c->classes, side = c->confusion ? classes : 0;
    c->actual[y] += weight;
    for (long k = 0; k < PREDICTIONS; k++) {
        long predicted = p[k * step];
        c->predicted[k * classes + predicted] += weight;
        c->correct[k * classes + y] += predicted == y ? weight : 0.0;
        if (k < OF_MODELS && side) c->confusion[(k * side + y) * side + predicted] += weight;
    }
    for (long k = 0; k < OF_MODELS; k++) c->log_loss[k] += weight * (double)loss[k * step];
}

static void fade_counts(const ClassCounts *c, double kept) {
    long classes = c->classes;
    scale(c->actual, classes, kept);
    scale(c->predicted, PREDICTIONS * classes, kept);
    scale(c->correct, PREDICTIONS * classes, kept);
    if (c->confusion) scale(c->confusion, OF_MODELS * classes * classes, kept);
    scale(c->log_loss, OF_MODELS, kept);
}

static int are_classes(const int32_t *y, long rows, long classes) {
    for (long r = 0; r < rows; r++)
        if (y[r] < 0 || y[r] >= classes) return 0;
    return 1;
}

/* Counts rows: y (rows), predictions (4, step), losses (2, step). Returns 1 for a class that does not exist. */
EXPORTED int core_count_classes(const ClassCounts *counts, const int32_t *y, const int32_t *predictions,
                                const float *losses, long rows, long step) {
    if (!are_classes(y, rows, counts->classes)) return 1;
    for (long k = 0; k < PREDICTIONS; k++)
        if (!are_classes(predictions + k * step, rows, counts->classes)) return 1;
    for (long r = 0; r < rows; r++) count_row(counts, y[r], predictions + r, losses + r, step, 1.0);
    return 0;
}

/* Counts the bins of one model's rows: found (rows, classes). */
static void count_scores(const ClassMetrics *m, long k, const uint8_t *found, const int32_t *y, long rows) {
    long classes = m->cumulative.classes, bins = m->bins;
    int64_t *all = m->scores + k * classes * bins, *own = all + OF_MODELS * classes * bins;
    for (long r = 0; r < rows; r++) {
        for (long j = 0; j < classes; j++) all[j * bins + found[r * classes + j]]++;
        own[y[r] * bins + found[r * classes + y[r]]]++;
    }
}

/* What one part of the rows works with. */
typedef struct {
    int32_t predictions[PREDICTIONS * PART];
    float losses[OF_MODELS * PART];
    uint8_t bins[OF_MODELS * PART * SCORED_CLASSES];
} Part;

/* Looks at one model's probabilities (rows, classes). */
static void measure_model(const ClassMetrics *m, long k, const float *p, const int32_t *y, long rows, Part *part) {
    long classes = m->cumulative.classes;
    float *losses = part->losses + k * PART;
    for (long r = 0; r < rows; r++) {
        part->predictions[k * PART + r] = greatest(p + r * classes, classes);
        losses[r] = finite_or_0(p[r * classes + y[r]]);
    }
    for (long r = 0; r < rows; r++) losses[r] = log_loss(losses[r]);
    if (!m->scores) return;
    uint8_t *bins = part->bins + k * PART * classes;
    bins_of(p, rows * classes, m->bins, bins);
    count_scores(m, k, bins, y, rows);
}

/* Writes row r of a part into the ring. */
static void remember(const ClassMetrics *m, long slot, int32_t y, const Part *part, long r) {
    long classes = m->cumulative.classes, window = m->window;
    m->ring_y[slot] = y;
    for (long k = 0; k < PREDICTIONS; k++) m->ring_predictions[k * window + slot] = part->predictions[k * PART + r];
    for (long k = 0; k < OF_MODELS; k++) m->ring_losses[k * window + slot] = part->losses[k * PART + r];
    if (!m->scores) return;
    for (long k = 0; k < OF_MODELS; k++)
        for (long j = 0; j < classes; j++)
            m->ring_scores[(k * classes + j) * window + slot] = part->bins[(k * PART + r) * classes + j];
}

static int32_t most_frequent(const ClassCounts *c) {
    int32_t first = 0;
    for (int32_t j = 1; j < c->classes; j++) first = c->actual[j] > c->actual[first] ? j : first;
    return first;
}

/* Measures rows: y (rows), output and as_served (rows, classes); weights (rows) is written. Returns 1, and changes
   nothing, for a class that does not exist. */
EXPORTED int core_measure_classes(const ClassMetrics *m, const int32_t *y, const float *output, const float *as_served,
                                  long rows, double *weights) {
    long classes = m->cumulative.classes, window = m->window;
    int64_t before = m->rows[0];
    int32_t last = m->ring_y[(before + window - 1) % window], majority = most_frequent(&m->cumulative);
    if (!are_classes(y, rows, classes) || !are_classes(&last, 1, classes)) return 1;
    if (m->scores && classes > SCORED_CLASSES) return 1;
    fade_counts(&m->fading, fade(m->decay, weights, rows));
    for (long start = 0; start < rows; start += PART) {
        long count = smaller(PART, rows - start);
        const int32_t *truth = y + start;
        Part part;
        measure_model(m, 0, output + start * classes, truth, count, &part);
        measure_model(m, 1, as_served + start * classes, truth, count, &part);
        for (long r = 0; r < count; r++) {
            part.predictions[2 * PART + r] = majority;
            part.predictions[3 * PART + r] = last;
            last = truth[r];
            count_row(&m->cumulative, last, part.predictions + r, part.losses + r, PART, 1.0);
            count_row(&m->fading, last, part.predictions + r, part.losses + r, PART, weights[start + r]);
            const double *seen = m->cumulative.actual;
            if (seen[last] > seen[majority] || (seen[last] == seen[majority] && last < majority)) majority = last;
            if (start + r >= rows - window) remember(m, (before + start + r) % window, last, &part, r);
        }
    }
    m->rows[0] = before + rows;
    return 0;
}

/* What a drift detector reads: sums (2, steps) of the losses and rows of steps of `size` rows, the last one shorter.
   Of classes y (rows) with probabilities output (rows, classes). Returns 1 for a class that does not exist. */
EXPORTED int core_class_losses(const int32_t *y, const float *output, long rows, long classes, long size, double *sums) {
    long steps = (rows + size - 1) / size;
    if (!are_classes(y, rows, classes)) return 1;
    fill_bytes(sums, 0, 2 * steps * (long)sizeof(double));
    for (long r = 0; r < rows; r++) {
        double right = output[r * classes + y[r]], least = right < LEAST_WATCHED ? LEAST_WATCHED : right;
        sums[r / size] += right - right == 0.0 ? -logarithm(least > 1.0 ? 1.0 : least) : MOST_WATCHED;
        sums[steps + r / size] += 1.0;
    }
    return 0;
}

/* --- Targets */

/* The same of targets y (rows), with predictions output (rows), in `unit`. */
EXPORTED void core_target_losses(const double *y, const double *output, long rows, double unit, long size, double *sums) {
    long steps = (rows + size - 1) / size;
    fill_bytes(sums, 0, 2 * steps * (long)sizeof(double));
    for (long r = 0; r < rows; r++) {
        double error = absolute(output[r] - y[r]) / unit;
        sums[r / size] += error < MOST_WATCHED ? error : MOST_WATCHED;
        sums[steps + r / size] += 1.0;
    }
}

static void add_target(const TargetSums *s, double y, const double *p, long step, double weight) {
    double before = s->weight[0], total = before + weight, delta = y - s->mean[0];
    double mean = before > 0.0 ? s->mean[0] + delta * (weight / total) : y;
    s->weight[0] = total;
    s->mean[0] = mean;
    s->m2[0] += weight * delta * (y - mean);
    for (long k = 0; k < PREDICTIONS; k++) {
        double error = absolute(p[k * step] - y);
        s->absolute[k] += weight * error;
        s->squared[k] += weight * (error * error);
    }
}

static void fade_sums(const TargetSums *s, double kept) {
    scale(s->weight, 1, kept);
    scale(s->m2, 1, kept);
    scale(s->absolute, PREDICTIONS, kept);
    scale(s->squared, PREDICTIONS, kept);
}

/* Adds rows: y (rows), predictions (4, step). */
EXPORTED void core_add_targets(const TargetSums *sums, const double *y, const double *predictions, long rows, long step) {
    for (long r = 0; r < rows; r++) add_target(sums, y[r], predictions + r, step, 1.0);
}

/* Measures rows: y (rows) finite, output and as_served (rows); weights (rows) is written. */
EXPORTED void core_measure_targets(const TargetMetrics *m, const double *y, const double *output, const double *as_served,
                                   long rows, double *weights) {
    long window = m->window;
    int64_t before = m->rows[0];
    double last = m->ring_y[(before + window - 1) % window];
    fade_sums(&m->fading, fade(m->decay, weights, rows));
    for (long r = 0; r < rows; r++) {
        double mean = m->cumulative.mean[0], p[PREDICTIONS] = {output[r], as_served[r], mean, last};
        for (long k = 0; k < OF_MODELS; k++) p[k] = p[k] - p[k] == 0.0 ? p[k] : mean;
        last = y[r];
        add_target(&m->cumulative, last, p, 1, 1.0);
        add_target(&m->fading, last, p, 1, weights[r]);
        if (r < rows - window) continue;
        long slot = (before + r) % window;
        m->ring_y[slot] = last;
        for (long k = 0; k < PREDICTIONS; k++) m->ring_predictions[k * window + slot] = p[k];
    }
    m->rows[0] = before + rows;
}
