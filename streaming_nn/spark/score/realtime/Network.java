package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;

/** Predicts one row at a time with a version's state, by docs/arithmetic.md: the bits are those of core/. */
final class Network {
  private static final int ARITHMETIC = 1;
  private static final int PADDING = 8;  // floats: rows of weights are a multiple of it
  private static final float TARGET_CLIP = 6f;  // deviations
  private static final double STEEP = 30.0;  // Poisson: bound of the sum whose exponential is the mean
  private static final String ACTIVATIONS = "identity sigmoid tanh relu leaky_relu elu gelu softplus";
  private static final String LOSSES = "softmax logistic squared absolute huber quantile poisson";

  final int inputs;  // of a row as it comes
  final int outputs;  // of a prediction
  final int point;  // the output that is the prediction of a target
  private final Scaling scaling;
  private final String activation;
  private final String loss;
  private final boolean classes;
  private final boolean multilabel;  // any number of the classes applies to a row
  private final boolean skip;  // there is a linear part from inputs to outputs
  private final int[] units;  // from the network's inputs to its outputs
  private final int last;  // index of the last layer
  private final int members;
  private final double[] shares;  // weight of each member in the mixture
  private final double[] targets;  // count, mean and squared deviations of each target
  private final int firstRow;  // floats of a row of a member's first layer, those of the linear part included
  private final float[][] firstWeights;  // input; the members' rows side by side, as all of them have the same inputs
  private final float[][][][] weights;  // member, layer (not the first), unit that it comes from, unit that it goes to
  private final float[][][] biases;  // member, layer, unit

  Network(Version version) throws IOException {
    requireArithmetic(version.manifest);
    JsonNode options = Version.at(version.manifest, "learner");
    this.scaling = new Scaling(version);
    this.inputs = scaling.columns;
    this.classes = !Version.at(options, "classes").isNull();
    JsonNode listed = Version.at(options, "members");  // of an ensemble: all have one shape, and one loss
    JsonNode network = listed.isArray() ? Version.at(listed, 0) : options;
    this.activation = requireOneOf("activation", Version.at(network, "activation").asText(), ACTIVATIONS);
    this.multilabel = Version.at(options, "multilabel").asBoolean();
    this.loss = requireOneOf("loss", Version.at(network, "loss").asText(), LOSSES);
    double[] quantiles = loss.equals("quantile") ? quantiles(Version.at(network, "quantiles")) : new double[1];
    JsonNode names = Version.at(options, classes ? "classes" : "targets");
    boolean named = multilabel || loss.equals("softmax") || names.isArray() && !classes;
    this.units = units(Version.at(network, "hidden"), named ? names.size() : quantiles.length);
    this.last = units.length - 2;
    this.outputs = loss.equals("logistic") && !multilabel ? 2 : units[last + 1];
    this.point = nearestToMedian(quantiles);
    this.skip = Version.at(network, "linear").asBoolean();
    this.shares = version.doubles("model.weights");
    this.members = shares.length;
    this.targets = classes ? new double[0] : version.doubles("model.targets", 3 * (names.isArray() ? names.size() : 1));
    this.firstRow = padded(units[1]) + (skip ? padded(units[last + 1]) : 0);
    this.firstWeights = new float[units[0]][members * firstRow];
    this.weights = new float[members][last + 1][][];
    this.biases = new float[members][last + 1][];
    float[][] theta = version.floats("model.theta", members);
    for (int m = 0; m < members; m++) cut(m, theta[m]);
  }

  private static void requireArithmetic(JsonNode manifest) throws IOException {
    JsonNode got = Version.at(manifest, "arithmetic");
    if (got.isInt() && got.asInt() == ARITHMETIC) return;
    throw new IOException("version " + Version.at(manifest, "number") + ": arithmetic must be " + ARITHMETIC + "; got "
        + (got.isMissingNode() ? "none" : got.toString()) + "; score it with the release that wrote it");
  }

  private static String requireOneOf(String what, String got, String allowed) throws IOException {
    if (Arrays.asList(allowed.split(" ")).contains(got)) return got;
    throw new IOException(what + " must be one of " + allowed.replace(" ", ", ") + "; got " + got);
  }

  private int[] units(JsonNode hidden, int outputs) {
    int[] units = new int[hidden.size() + 2];
    units[0] = scaling.inputs;
    for (int i = 0; i < hidden.size(); i++) units[i + 1] = Version.at(hidden, i).asInt();
    units[units.length - 1] = outputs;
    return units;
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

  /** Cuts a member's parameters into rows of weights, and biases, as `Shape.layers` of core/networks.py. */
  private void cut(int m, float[] theta) throws IOException {
    int size = 0;
    for (int l = 0; l <= last; l++) size += units[l] * row(l) + padded(units[l + 1]);
    if (size != theta.length) throw new IOException("a member must have " + size + " parameters; got " + theta.length);
    int at = 0;
    for (int l = 0; l <= last; l++) {
      int row = row(l);
      weights[m][l] = new float[l == 0 ? 0 : units[l]][];
      for (int i = 0; i < units[l]; i++) {
        if (l == 0) System.arraycopy(theta, at, firstWeights[i], m * row, row);
        else weights[m][l][i] = Arrays.copyOfRange(theta, at, at + row);
        at += row;
      }
      biases[m][l] = Arrays.copyOfRange(theta, at, at + units[l + 1]);
      at += padded(units[l + 1]);
    }
  }

  private int row(int l) {
    return l == 0 ? firstRow : padded(units[l + 1]);
  }

  /** The arrays that a prediction needs, and the prediction. */
  final class Work {
    final double[] x = new double[inputs];  // the row, filled in by the caller
    final double[] output = new double[outputs];  // probabilities, which are floats, or targets
    private final float[] z = new float[units[0]];  // the network's inputs
    private final float[] first = new float[members * firstRow];  // sums of the members' first layers
    private final float[][] sums = new float[last + 1][];  // of each later layer
    private final float[][] h = new float[last + 1][];  // values of each layer's units
    private final int[] used;  // a layer's inputs that are not 0
    private final double[] exponentials = new double[units[last + 1]];
    private final double[] mixture = new double[units[last + 1]];

    Work() {
      int widest = units[0];
      for (int l = 0; l <= last; l++) {
        sums[l] = new float[padded(units[l + 1])];
        h[l] = new float[units[l + 1]];
        widest = Math.max(widest, units[l + 1]);
      }
      this.used = new int[widest];
    }
  }

  Work work() {
    return new Work();
  }

  /** Predicts work's row x. A member whose predictions are not finite has weight 0. */
  void predict(Work work) {
    scaling.prepare(work.x, work.z);
    multiply(work.z, firstWeights, work.first, work.used);
    float[] p = work.h[last];
    double[] mixture = work.mixture;
    double total = 0.0;
    Arrays.fill(mixture, 0.0);
    for (int m = 0; m < members; m++) {
      forward(m, work);
      if (!finite(p)) continue;
      total += shares[m];
      for (int j = 0; j < p.length; j++) mixture[j] += shares[m] * (double) clipped(p[j]);
    }
    for (int j = 0; j < p.length; j++) {
      double mean = total > 0.0 ? mixture[j] / total : classes ? 1.0 / p.length : 0.0;
      work.output[j] = classes ? (float) mean : restored(mean, targets.length > 3 ? 3 * j : 0);
    }
    complete(work.output);
  }

  /** Writes a member's predictions, the values of the last layer. */
  private void forward(int m, Work work) {
    float[] z = work.first;
    int start = m * firstRow;
    for (int l = 0; l < last; l++) {
      float[] h = work.h[l];
      float[] bias = biases[m][l];
      for (int j = 0; j < h.length; j++) h[j] = z[start + j] + bias[j];
      Functions.activate(activation, h);
      z = work.sums[l + 1];
      start = 0;
      multiply(h, weights[m][l + 1], z, work.used);
    }
    float[] p = work.h[last];
    float[] bias = biases[m][last];
    int linear = m * firstRow + padded(units[1]);
    for (int j = 0; j < p.length; j++) {
      float sum = skip ? z[start + j] + work.first[linear + j] : z[start + j];
      p[j] = sum + bias[j];
    }
    link(p, work.exponentials);
  }

  /** Writes x W to z: each element is one chain over the inputs that are not 0, beside the others. */
  private static void multiply(float[] x, float[][] W, float[] z, int[] used) {
    int count = 0;
    for (int i = 0; i < x.length; i++) {  // without a branch, which relu's zeros would make unpredictable
      used[count] = i;
      int bits = Float.floatToRawIntBits(x[i]) << 1;
      count += (bits | -bits) >>> 31;
    }
    Arrays.fill(z, 0f);
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
    for (int j = 0; j < z.length; j++) z[j] = z[j] + x * row[j];
  }

  /** Adds four terms to each chain. With the same index for all arrays, the JVM emits vector instructions. */
  private static void add(float x0, float[] row0, float x1, float[] row1, float x2, float[] row2,
      float x3, float[] row3, float[] z) {
    for (int j = 0; j < z.length; j++) {
      z[j] = (((z[j] + x0 * row0[j]) + x1 * row1[j]) + x2 * row2[j]) + x3 * row3[j];
    }
  }

  private void link(float[] z, double[] exponentials) {
    if (loss.equals("softmax")) softmax(z, exponentials);
    else if (loss.equals("logistic")) for (int j = 0; j < z.length; j++) z[j] = (float) Functions.sigmoid(z[j]);
    else if (loss.equals("poisson")) for (int j = 0; j < z.length; j++) z[j] = (float) Functions.exp(bounded(z[j]));
  }

  private static double bounded(double z) {
    return z < -STEEP ? -STEEP : z > STEEP ? STEEP : z;
  }

  private static void softmax(float[] z, double[] exponentials) {
    float top = z[0];
    for (int j = 1; j < z.length; j++) top = z[j] > top ? z[j] : top;
    for (int j = 0; j < z.length; j++) exponentials[j] = Functions.exp((double) z[j] - (double) top);
    double sum = 0.0;
    for (int j = 0; j < z.length; j++) sum += exponentials[j];
    for (int j = 0; j < z.length; j++) z[j] = (float) (exponentials[j] / sum);
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
