package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;

/** Makes a row ready for the networks by a version's statistics: docs/arithmetic.md, "Rows" and "Ramps". */
final class Scaling {
  private static final int RAMPS = 23;  // of a column, at most, as in core/ensemble.py
  private static final int RAMPED = 48;  // columns that have ramps, at most

  final int columns;  // of a row as it comes
  final int inputs;  // of a network that sees no ramps
  final int rampsOfColumn = RAMPS;
  final int ramps;  // inputs after them of the networks that do; 0: there are none
  private final boolean missing;  // a NaN is a missing value
  private final double[] fills;  // of each column: they replace missing values
  private final double[] origins;  // subtracted from each column
  private final float[] widths;  // by which the difference is divided
  private final float bound;  // of the quotient
  private final int[] rises;  // of each column: ramps up to the last one that is there
  private final double[] feet;  // of each ramp: the knot where it rises from 0
  private final float[] steps;  // of each ramp: from there to the knot where it is 1; 0: it is not there

  Scaling(Version version) throws IOException {
    JsonNode options = Version.at(version.manifest, "learner");
    String scale = Version.at(options, "scale").asText();
    this.columns = Version.at(options, "inputs").asInt();
    this.missing = !Version.at(options, "missing").asText().equals("refuse");
    this.inputs = Version.at(options, "missing").asText().equals("indicate") ? 2 * columns : columns;
    this.fills = scale.equals("sparse") ? new double[columns] : version.doubles("model.means", columns);
    this.origins = new double[columns];
    this.widths = new float[columns];
    float clip = (float) Version.at(options, "clip").asDouble();
    this.bound = scale.equals("minmax") ? 1f : scale.equals("none") ? Float.POSITIVE_INFINITY : clip;
    if (scale.equals("standard")) standardize(version);
    else if (scale.equals("minmax")) span(version);
    else if (scale.equals("sparse")) keepZeros(version);
    else Arrays.fill(widths, 1f);
    boolean ramped = version.has("model.knots") && version.doubles("model.knots").length > 0;
    this.rises = new int[ramped ? Math.min(columns, RAMPED) : 0];
    this.ramps = rises.length * RAMPS;
    this.feet = new double[ramps];
    this.steps = new float[ramps];
    if (ramped) rise(version.doubles("model.knots", rises.length + ramps));
  }

  /** Places the ramps between the columns' knots; one is there if its width in float32 is above 0 and finite. */
  private void rise(double[] knots) {
    for (int c = 0; c < rises.length; c++) {
      for (int i = 0; i < RAMPS; i++) {
        int knot = c * (RAMPS + 1) + i;
        float step = (float) (knots[knot + 1] - knots[knot]);
        if (!(step > 0f && step < Float.POSITIVE_INFINITY)) continue;
        feet[c * RAMPS + i] = knots[knot];
        steps[c * RAMPS + i] = step;
        rises[c] = i + 1;
      }
    }
  }

  private void standardize(Version version) throws IOException {
    double[] rows = version.doubles("model.rows", columns);
    double[] squares = version.doubles("model.squares", columns);
    for (int i = 0; i < columns; i++) {
      float width = (float) deviation(rows[i], squares[i]);
      origins[i] = fills[i];
      widths[i] = rows[i] == 0 ? Float.POSITIVE_INFINITY : width == 0f ? 1f : width;
    }
  }

  private void span(Version version) throws IOException {
    double[] low = version.doubles("model.low", columns);
    double[] high = version.doubles("model.high", columns);
    for (int i = 0; i < columns; i++) {
      boolean seen = low[i] <= high[i];
      float half = (float) ((high[i] - low[i]) / 2.0);
      origins[i] = seen ? (low[i] + high[i]) / 2.0 : 0.0;
      widths[i] = !seen ? Float.POSITIVE_INFINITY : half == 0f ? 1f : half;
    }
  }

  private void keepZeros(Version version) throws IOException {
    double[] rows = version.doubles("model.rows", columns);
    double[] means = version.doubles("model.means", columns);
    double[] squares = version.doubles("model.squares", columns);
    for (int i = 0; i < columns; i++) {
      float width = (float) Math.sqrt(means[i] * means[i] + squares[i] / Math.max(rows[i], 1.0));
      widths[i] = width == 0f ? 1f : width;
    }
  }

  static double deviation(double count, double squares) {
    return Math.sqrt(squares / (count < 1.0 ? 1.0 : count));
  }

  /** Writes the networks' inputs z from a row x; those of ramps that are not there are left as they are, 0. */
  void prepare(double[] x, float[] z) {
    for (int i = 0; i < columns; i++) {
      double value = missing && x[i] != x[i] ? fills[i] : x[i];
      float scaled = (float) (value - origins[i]) / widths[i];
      scaled = scaled > bound ? bound : scaled;
      z[i] = scaled < -bound ? -bound : scaled;
    }
    for (int i = columns; i < inputs; i++) z[i] = x[i - columns] != x[i - columns] ? 1f : 0f;
    for (int c = 0; c < rises.length; c++) {
      double value = missing && x[c] != x[c] ? fills[c] : x[c];
      for (int i = c * RAMPS; i < c * RAMPS + rises[c]; i++) {
        if (steps[i] == 0f) continue;
        float height = (float) (value - feet[i]) / steps[i];
        height = height > 1f ? 1f : height;
        z[inputs + i] = height < 0f ? 0f : height;
      }
    }
  }
}
