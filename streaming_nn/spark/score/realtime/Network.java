package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;

/** Predicts one row at a time with a version's state, by docs/arithmetic.md: the bits are those of core/. */
final class Network {
  private static final int ARITHMETIC = 2;  // the newest; arithmetic 1 had no ramps, and only the linear mixture
  private static final int PADDING = 8;  // floats: rows of weights are a multiple of it
  private static final double LEAST_MIXED = 1e-4;  // least probability in the geometric mixture
  private static final float TARGET_CLIP = 6f;  // deviations
  private static final String ACTIVATIONS = "identity sigmoid tanh relu leaky_relu elu gelu softplus";
  private static final String LOSSES = "softmax logistic squared absolute huber quantile poisson";

  final int inputs;  // of a row as it comes
  final int outputs;  // of a prediction
  final int point;  // the output that is the prediction of a target
  private final Scaling scaling;
  private final String loss;
  private final boolean classes;
  private final boolean multilabel;  // any number of the classes applies to a row
  private final Member[] members;
  private final double[] shares;  // weight of each member in the linear mixture
  private final double[] exponents;  // of each member in the geometric mixture; empty: there is none
  private final double[] corrections;  // the first are added to the targets' predictions; empty: nothing is
  private final double[] targets;  // count, mean and squared deviations of each target
  private final int firstSums;  // of all members' first layers
  private final int rampedSums;  // of those that see ramps, which are the first ones
  private final float[][] firstWeights;  // input; the rows of the members that have it, side by side

  Network(Version version) throws IOException {
    requireArithmetic(version.manifest);
    JsonNode options = Version.at(version.manifest, "learner");
    this.scaling = new Scaling(version);
    this.inputs = scaling.columns;
    this.classes = !Version.at(options, "classes").isNull();
    JsonNode listed = Version.at(options, "members");  // of an ensemble: all have one loss
    JsonNode network = listed.isArray() ? Version.at(listed, 0) : options;
    this.multilabel = Version.at(options, "multilabel").asBoolean();
    this.loss = requireOneOf("loss", Version.at(network, "loss").asText(), LOSSES);
    double[] quantiles = loss.equals("quantile") ? quantiles(Version.at(network, "quantiles")) : new double[1];
    JsonNode names = Version.at(options, classes ? "classes" : "targets");
    boolean named = multilabel || loss.equals("softmax") || names.isArray() && !classes;
    int last = named ? names.size() : quantiles.length;
    this.outputs = loss.equals("logistic") && !multilabel ? 2 : last;
    this.point = nearestToMedian(quantiles);
    this.members = new Member[listed.isArray() ? listed.size() : 1];
    for (int m = 0; m < members.length; m++) {
      members[m] = new Member(listed.isArray() ? Version.at(listed, m) : options, scaling, last);
    }
    this.shares = version.doubles("model.weights", members.length);
    int columns = classes ? 0 : names.isArray() ? names.size() : 1;  // of targets
    this.exponents = doublesOrNone(version, "model.exponents", members.length);
    this.corrections = doublesOrNone(version, "model.correction", 4 * columns);
    this.targets = classes ? new double[0] : version.doubles("model.targets", 3 * columns);
    this.rampedSums = setStarts(true, 0);
    this.firstSums = setStarts(false, rampedSums);
    this.firstWeights = new float[scaling.inputs + scaling.ramps][];
    for (int i = 0; i < firstWeights.length; i++) firstWeights[i] = new float[i < scaling.inputs ? firstSums : rampedSums];
    cut(version.floats("model.theta"));
  }

  private static void requireArithmetic(JsonNode manifest) throws IOException {
    JsonNode got = Version.at(manifest, "arithmetic");
    if (got.isInt() && got.asInt() >= 1 && got.asInt() <= ARITHMETIC) return;
    throw new IOException("version " + Version.at(manifest, "number") + ": arithmetic must be 1 to " + ARITHMETIC + "; got "
        + (got.isMissingNode() ? "none" : got.toString()) + "; score it with the release that wrote it");
  }

  /** Returns the numbers of a tensor that a model which began by arithmetic 1 lacks, or has without any. */
  private static double[] doublesOrNone(Version version, String name, int count) throws IOException {
    boolean any = version.has(name) && version.doubles(name).length > 0;
    return any ? version.doubles(name, count) : new double[0];
  }

  private static String requireOneOf(String what, String got, String allowed) throws IOException {
    if (Arrays.asList(allowed.split(" ")).contains(got)) return got;
    throw new IOException(what + " must be one of " + allowed.replace(" ", ", ") + "; got " + got);
  }

  private static double[] quantiles(JsonNode chosen) {
    double[] quantiles = new double[chosen.size()];
    for (int j = 0; j < quantiles.length; j++) quantiles[j] = Version.at(chosen, j).asDouble();
    return quantiles;
  }

  /** Returns the index of the quantile that is the prediction, as `point` of nn/mlp.py. */
  private static int nearestToMedian(double[] quantiles) {
    int best = 0;
    for (int j = 1; j < quantiles.length; j++) {
      if (Math.abs(quantiles[j] - 0.5) < Math.abs(quantiles[best] - 0.5)) best = j;
    }
    return best;
  }

  private static int padded(int columns) {
    return (columns + PADDING - 1) / PADDING * PADDING;
  }

  /** Sets where the sums of members that see ramps, or of the others, are among those of all; returns their end. */
  private int setStarts(boolean ramps, int start) {
    for (int m = 0; m < members.length; m++) {
      if (members[m].ramps != ramps) continue;
      members[m].start = start;
      start += members[m].row(0);
    }
    return start;
  }

  /** Cuts the members' parameters, which follow each other, as `Layout` of core/ensemble.py. */
  private void cut(float[] theta) throws IOException {
    int size = 0;
    for (int m = 0; m < members.length; m++) size += members[m].size();
    if (size != theta.length) throw new IOException("members must have " + size + " parameters; got " + theta.length);
    int at = 0;
    for (int m = 0; m < members.length; m++) at = members[m].cut(theta, at, firstWeights);
  }

  /** One network, whose first layer is computed together with those of all others. */
  private static final class Member {
    final boolean ramps;  // it sees them
    final String activation;
    final boolean skip;  // there is a linear part from inputs to outputs
    final int[] units;  // from its inputs to its outputs
    final int last;  // index of the last layer
    final float[][][] weights;  // layer (not the first), unit that it comes from, unit that it goes to
    final float[][] biases;  // layer, unit
    int start;  // of its sums among those of all first layers

    Member(JsonNode options, Scaling scaling, int outputs) throws IOException {
      this.activation = requireOneOf("activation", Version.at(options, "activation").asText(), ACTIVATIONS);
      this.skip = Version.at(options, "linear").asBoolean();
      this.ramps = Version.at(options, "inputs").asText().equals("ramps");
      JsonNode hidden = Version.at(options, "hidden");
      this.last = hidden.size();
      this.units = new int[last + 2];
      units[0] = scaling.inputs + (ramps ? scaling.ramps : 0);
      for (int l = 0; l < last; l++) units[l + 1] = Version.at(hidden, l).asInt();
      units[last + 1] = outputs;
      this.weights = new float[last + 1][][];
      this.biases = new float[last + 1][];
    }

    /** Returns the floats of a row of weights of a layer, those of the linear part included. */
    int row(int l) {
      return padded(units[l + 1]) + (l == 0 && skip ? padded(units[last + 1]) : 0);
    }

    /** Returns the number of parameters, padding included. */
    int size() {
      int size = 0;
      for (int l = 0; l <= last; l++) size += units[l] * row(l) + padded(units[l + 1]);
      return size;
    }

    /** Cuts rows of weights, and biases, from parameters, as `Shape.layers` of core/networks.py; returns the end. */
    int cut(float[] theta, int at, float[][] firstWeights) {
      for (int l = 0; l <= last; l++) {
        int row = row(l);
        weights[l] = new float[l == 0 ? 0 : units[l]][];
        for (int i = 0; i < units[l]; i++) {
          if (l == 0) System.arraycopy(theta, at, firstWeights[i], start, row);
          else weights[l][i] = Arrays.copyOfRange(theta, at, at + row);
          at += row;
        }
        biases[l] = Arrays.copyOfRange(theta, at, at + units[l + 1]);
        at += padded(units[l + 1]);
      }
      return at;
    }

    /** Writes the last layer's sums, given those of the first layers. */
    void forward(float[] first, float[][] sums, float[][] h, int[] used) {
      float[] z = first;
      int at = start;
      for (int l = 0; l < last; l++) {
        float[] values = h[l];
        float[] bias = biases[l];
        for (int j = 0; j < values.length; j++) values[j] = z[at + j] + bias[j];
        Functions.activate(activation, values);
        z = sums[l + 1];
        at = 0;
        Arrays.fill(z, 0f);
        multiply(values, 0, values.length, weights[l + 1], z, used);
      }
      float[] p = h[last];
      float[] bias = biases[last];
      int linear = start + padded(units[1]);
      for (int j = 0; j < p.length; j++) {
        float sum = skip ? z[at + j] + first[linear + j] : z[at + j];
        p[j] = sum + bias[j];
      }
    }
  }

  /** The arrays that a prediction needs, and the prediction. */
  final class Work {
    final double[] x = new double[inputs];  // the row, filled in by the caller
    final double[] output = new double[outputs];  // probabilities, which are floats, or targets
    private final float[] z = new float[firstWeights.length];  // the networks' inputs
    private final float[] first = new float[firstSums];  // sums of the members' first layers
    private final float[] ofColumn = new float[rampedSums];  // those of one column's ramps
    private final float[][][] sums = new float[members.length][][];  // of a member's later layers
    private final float[][][] h = new float[members.length][][];  // member, layer: values of its units
    private final int[] used;  // a layer's inputs that are not 0
    private final double[] exponentials;
    private final double[] mixture;  // the linear one
    private final double[] geometric;

    Work() {
      int widest = z.length;
      for (int m = 0; m < members.length; m++) {
        Member member = members[m];
        sums[m] = new float[member.last + 1][];
        h[m] = new float[member.last + 1][];
        for (int l = 0; l <= member.last; l++) {
          int units = member.units[l + 1];
          sums[m][l] = new float[padded(units)];
          h[m][l] = new float[units];
          widest = Math.max(widest, units);
        }
      }
      this.used = new int[widest];
      int units = members[0].units[members[0].last + 1];
      this.exponentials = new double[units];
      this.mixture = new double[units];
      this.geometric = new double[units];
    }
  }

  Work work() {
    return new Work();
  }

  /** Predicts work's row x. A member whose predictions are not finite has weight 0. */
  void predict(Work work) {
    scaling.prepare(work.x, work.z);
    Arrays.fill(work.first, 0f);
    multiply(work.z, 0, scaling.inputs, firstWeights, work.first, work.used);
    for (int i = scaling.inputs; i < work.z.length; i += scaling.rampsOfColumn) addRamps(work, i);
    double[] mixture = work.mixture;
    double total = 0.0;
    Arrays.fill(mixture, 0.0);
    Arrays.fill(work.geometric, 0.0);
    for (int m = 0; m < members.length; m++) {
      float[] p = work.h[m][members[m].last];
      members[m].forward(work.first, work.sums[m], work.h[m], work.used);
      Functions.link(loss, p, work.exponentials);
      if (!finite(p)) continue;
      total += shares[m];
      for (int j = 0; j < p.length; j++) mixture[j] += shares[m] * (double) clipped(p[j]);
      if (exponents.length > 0) addLogs(exponents[m], p, work.geometric);
    }
    if (exponents.length > 0) normalize(work.geometric);
    for (int j = 0; j < mixture.length; j++) {
      double mean = total > 0.0 ? mixture[j] / total : classes ? 1.0 / mixture.length : 0.0;
      if (exponents.length > 0) mean = 0.5 * (mean + work.geometric[j]);
      work.output[j] = classes ? (float) mean : restored(mean, targets.length > 3 ? 3 * j : 0);
      if (corrections.length > 0) work.output[j] += corrections[j];
    }
    complete(work.output);
  }

  /** Adds the sums of a column's ramps, which begin at input i: a chain of their own. */
  private void addRamps(Work work, int i) {
    Arrays.fill(work.ofColumn, 0f);
    multiply(work.z, i, i + scaling.rampsOfColumn, firstWeights, work.ofColumn, work.used);
    for (int j = 0; j < work.ofColumn.length; j++) work.first[j] += work.ofColumn[j];
  }

  private static double boundedLog(double p) {
    return Functions.log(p < LEAST_MIXED ? LEAST_MIXED : p);
  }

  /** Adds a member's probabilities to the geometric mixture: of labels, their odds. */
  private void addLogs(double exponent, float[] p, double[] geometric) {
    for (int j = 0; j < p.length; j++) {
      double log = boundedLog((double) p[j]);
      if (loss.equals("logistic")) log -= boundedLog((double) (1f - p[j]));
      geometric[j] += exponent * log;
    }
  }

  /** Makes probabilities of the geometric mixture's sums of logarithms. */
  private void normalize(double[] sums) {
    if (loss.equals("logistic")) {
      for (int j = 0; j < sums.length; j++) sums[j] = Functions.sigmoid(sums[j]);
      return;
    }
    double most = sums[0];
    double total = 0.0;
    for (int j = 1; j < sums.length; j++) most = sums[j] > most ? sums[j] : most;
    for (int j = 0; j < sums.length; j++) {
      sums[j] = Functions.exp(sums[j] - most);
      total += sums[j];
    }
    for (int j = 0; j < sums.length; j++) sums[j] = sums[j] / total;
  }

  /** Adds x W of inputs `from` to `to` to z: each element is one chain over those that are not 0, beside the others. */
  private static void multiply(float[] x, int from, int to, float[][] W, float[] z, int[] used) {
    int count = 0;
    for (int i = from; i < to; i++) {  // without a branch, which relu's zeros would make unpredictable
      used[count] = i;
      int bits = Float.floatToRawIntBits(x[i]) << 1;
      count += (bits | -bits) >>> 31;
    }
    int k = 0;
    for (; k + 4 <= count; k += 4) {
      int a = used[k];
      int b = used[k + 1];
      int c = used[k + 2];
      int d = used[k + 3];
      add(x[a], W[a], x[b], W[b], x[c], W[c], x[d], W[d], z);
    }
    for (; k < count; k++) add(x[used[k]], W[used[k]], z);
  }

  private static void add(float x, float[] row, float[] z) {
    for (int j = 0; j < row.length; j++) z[j] = z[j] + x * row[j];
  }

  /** Adds four terms to each chain. With the same index for all arrays, the JVM emits vector instructions. */
  private static void add(float x0, float[] row0, float x1, float[] row1, float x2, float[] row2,
      float x3, float[] row3, float[] z) {
    for (int j = 0; j < row0.length; j++) {
      z[j] = (((z[j] + x0 * row0[j]) + x1 * row1[j]) + x2 * row2[j]) + x3 * row3[j];
    }
  }

  private static boolean finite(float[] p) {
    float sum = 0f;
    for (int j = 0; j < p.length; j++) sum += p[j] * 0f;  // NaN if one is not finite
    return sum == 0f;
  }

  private float clipped(float p) {
    if (classes || loss.equals("poisson")) return p;
    return p > TARGET_CLIP ? TARGET_CLIP : p < -TARGET_CLIP ? -TARGET_CLIP : p;
  }

  /** Returns a target, whose statistics begin at k, in its own unit: deviations from the mean before, of counts means. */
  private double restored(double value, int k) {
    boolean counts = loss.equals("poisson");
    double unit = counts ? targets[k + 1] : Scaling.deviation(targets[k], targets[k + 2]);
    return value * (unit > 0.0 ? unit : 1.0) + (counts ? 0.0 : targets[k + 1]);
  }

  /** Sorts quantiles; adds the first class's probability to that of the second. */
  private void complete(double[] output) {
    if (loss.equals("quantile")) sort(output);
    if (!loss.equals("logistic") || multilabel) return;
    output[1] = output[0];
    output[0] = 1f - (float) output[1];
  }

  /** Sorts by insertion: Arrays.sort would order zeros by their signs. */
  private static void sort(double[] p) {
    for (int i = 1; i < p.length; i++) {
      for (int j = i; j > 0 && p[j - 1] > p[j]; j--) {
        double larger = p[j - 1];
        p[j - 1] = p[j];
        p[j] = larger;
      }
    }
  }
}
