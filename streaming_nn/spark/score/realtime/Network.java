package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;

/** Predicts one row at a time with a version's state, as nn/ does: scaling, layers, links and the mixture. */
final class Network {
  private static final float TARGET_CLIP = 6f;  // as in nn/mlp.py; it leaves probabilities unchanged

  final int inputs;
  final int outputs;  // of a prediction
  private final int members;
  private final int[] layers;  // units, from the network's inputs to its outputs
  private final float[][][][] weights;  // member, layer, unit that it comes from, unit that it goes to
  private final float[][][] biases;  // member, layer, unit
  private final float[][][] skip;  // member, input, output; null if there is none
  private final float[] shares;  // weight of each member in the mixture
  private final String activation;
  private final String loss;
  private final boolean classes;
  private final float[] middle;  // of each column: subtracted from it, before it is divided by spread
  private final float[] spread;
  private final float clip;  // bound of a scaled value
  private final float[] filled;  // replaces a missing value of each column; null: none is missing
  private final boolean indicate;
  private final double targetMean;
  private final float targetSpread;

  Network(Version version) throws IOException {
    JsonNode options = Version.at(version.manifest, "learner");
    boolean ensemble = Version.at(options, "learner").asText().equals("ensemble");
    this.inputs = Version.at(options, "inputs").asInt();
    this.classes = !Version.at(options, "classes").isNull();
    this.activation = requireOneOf("activation", Version.at(options, "activation").asText(), "relu tanh sigmoid");
    String set = ensemble ? "null" : Version.at(options, "loss").asText();
    String name = !set.equals("null") ? set : classes ? "softmax" : "squared";
    this.loss = requireOneOf("loss", name, "softmax logistic squared absolute huber");
    this.indicate = Version.at(options, "missing").asText().equals("indicate");
    this.filled = Version.at(options, "missing").asText().equals("refuse") ? null : means(version);
    String scale = Version.at(options, "scale").asText();
    this.middle = new float[inputs];
    this.spread = new float[inputs];
    float bound = (float) Version.at(options, "clip").asDouble();
    this.clip = scale.equals("standard") ? bound : scale.equals("minmax") ? 1f : Float.POSITIVE_INFINITY;
    scaling(version, scale);
    float[][] theta = ensemble
        ? concatenate(version.floats("model.sgd_members.theta"), version.floats("model.replay_members.theta"))
        : version.floats("model.theta");
    this.members = theta.length;
    this.shares = ensemble ? toFloats(version.doubles("model.weights")) : new float[] {1f};
    int last = loss.equals("softmax") ? Version.at(options, "classes").size() : 1;
    this.layers = layers(Version.at(options, "hidden"), last);
    this.outputs = loss.equals("logistic") ? 2 : layers[layers.length - 1];
    this.weights = new float[members][][][];
    this.biases = new float[members][][];
    this.skip = ensemble ? new float[members][][] : null;
    for (int m = 0; m < members; m++) cut(m, theta[m]);
    this.targetMean = classes ? 0 : version.doubles("model.target_moments.mean")[0];
    float unit = classes ? 1f : deviations(version, "model.target_moments.")[0];
    this.targetSpread = Float.isInfinite(unit) ? 1f : unit;
  }

  private static String requireOneOf(String what, String got, String allowed) throws IOException {
    if (Arrays.asList(allowed.split(" ")).contains(got)) return got;
    throw new IOException("in real-time mode " + what + " must be one of " + allowed.replace(" ", ", ")
        + "; got " + got + "; use --engine batch");
  }

  private int[] layers(JsonNode hidden, int last) {
    int[] units = new int[hidden.size() + 2];
    units[0] = indicate ? 2 * inputs : inputs;
    for (int i = 0; i < hidden.size(); i++) units[i + 1] = Version.at(hidden, i).asInt();
    units[units.length - 1] = last;
    return units;
  }

  /** Cuts a member's parameters as `views` and `skip_view` of nn/network.py do. */
  private void cut(int m, float[] theta) throws IOException {
    int at = 0;
    weights[m] = new float[layers.length - 1][][];
    biases[m] = new float[layers.length - 1][];
    for (int l = 0; l < layers.length - 1; l++) {
      weights[m][l] = rows(theta, at, layers[l], layers[l + 1]);
      at += layers[l] * layers[l + 1];
      biases[m][l] = Arrays.copyOfRange(theta, at, at + layers[l + 1]);
      at += layers[l + 1];
    }
    if (skip != null) {
      skip[m] = rows(theta, at, layers[0], layers[layers.length - 1]);
      at += layers[0] * layers[layers.length - 1];
    }
    if (at == theta.length) return;
    throw new IOException("a member must have " + at + " parameters; got " + theta.length);
  }

  private static float[][] rows(float[] theta, int at, int from, int to) {
    float[][] rows = new float[from][];
    for (int i = 0; i < from; i++) rows[i] = Arrays.copyOfRange(theta, at + i * to, at + (i + 1) * to);
    return rows;
  }

  private static float[][] concatenate(float[][] a, float[][] b) {
    float[][] all = new float[a.length + b.length][];
    System.arraycopy(a, 0, all, 0, a.length);
    System.arraycopy(b, 0, all, a.length, b.length);
    return all;
  }

  private static float[] toFloats(double[] wide) {
    float[] values = new float[wide.length];
    for (int i = 0; i < wide.length; i++) values[i] = (float) wide[i];
    return values;
  }

  /** The scaling of nn/preprocessing.py as one rule: (x - middle) / spread, within clip; unseen: infinite spread. */
  private void scaling(Version version, String scale) throws IOException {
    Arrays.fill(spread, 1f);
    if (scale.equals("standard")) {
      System.arraycopy(toFloats(version.doubles("model.feature_moments.mean")), 0, middle, 0, inputs);
      System.arraycopy(deviations(version, "model.feature_moments."), 0, spread, 0, inputs);
    } else if (scale.equals("minmax")) {
      double[] low = version.doubles("model.feature_moments.low");
      double[] high = version.doubles("model.feature_moments.high");
      for (int i = 0; i < inputs; i++) {
        boolean seen = low[i] <= high[i];
        middle[i] = seen ? (float) ((low[i] + high[i]) / 2) : 0f;
        float half = (float) ((high[i] - low[i]) / 2);
        spread[i] = !seen ? Float.POSITIVE_INFINITY : half == 0 ? 1f : half;
      }
    }
  }

  private static float[] means(Version version) throws IOException {
    boolean spans = version.has("model.feature_moments.moments.mean");
    String moments = spans ? "model.feature_moments.moments." : "model.feature_moments.";
    return toFloats(version.doubles(moments + "mean"));
  }

  private static float[] deviations(Version version, String of) throws IOException {
    double[] rows = version.doubles(of + "rows");  // one number, or one a column
    double[] squares = version.doubles(of + "m2");
    float[] deviations = new float[squares.length];
    for (int i = 0; i < squares.length; i++) {
      double seen = rows[rows.length == 1 ? 0 : i];
      float deviation = (float) Math.sqrt(squares[i] / Math.max(seen, 1));
      deviations[i] = seen > 0 ? deviation == 0 ? 1f : deviation : Float.POSITIVE_INFINITY;
    }
    return deviations;
  }

  /** The arrays that a prediction needs, and the prediction. */
  final class Work {
    final float[] x = new float[inputs];  // the row, filled in by the caller
    final float[] output = new float[outputs];
    final float[] z = new float[layers[0]];
    final float[][] h = new float[layers.length - 1][];

    Work() {
      for (int l = 0; l < h.length; l++) h[l] = new float[layers[l + 1]];
    }
  }

  Work work() {
    return new Work();
  }

  /** Predicts work's row x. */
  void predict(Work work) {
    prepare(work.x, work.z);
    float[] last = work.h[work.h.length - 1];
    Arrays.fill(work.output, 0f);
    float total = 0f;
    for (int m = 0; m < members; m++) {
      forward(m, work);
      if (members > 1 && !finite(last)) continue;  // it has weight 0
      total += shares[m];
      for (int j = 0; j < last.length; j++) work.output[j] += shares[m] * clipped(last[j], TARGET_CLIP);
    }
    if (total == 0f) Arrays.fill(work.output, classes ? 1f / outputs : 0f);
    else if (members > 1) for (int j = 0; j < outputs; j++) work.output[j] /= total;
    if (loss.equals("logistic")) {
      work.output[1] = work.output[0];
      work.output[0] = 1 - work.output[1];
    }
    if (!classes) work.output[0] = (float) (work.output[0] * targetSpread + targetMean);
  }

  private void prepare(float[] x, float[] z) {
    for (int i = 0; i < inputs; i++) {
      float value = filled != null && Float.isNaN(x[i]) ? filled[i] : x[i];
      z[i] = clipped((value - middle[i]) / spread[i], clip);
      if (indicate) z[inputs + i] = Float.isNaN(x[i]) ? 1f : 0f;
    }
  }

  private void forward(int m, Work work) {
    float[] x = work.z;
    for (int l = 0; l < layers.length - 1; l++) {
      float[] h = work.h[l];
      System.arraycopy(biases[m][l], 0, h, 0, h.length);
      add(weights[m][l], x, h);
      if (l < layers.length - 2) activate(h);
      else if (skip != null) add(skip[m], work.z, h);
      x = h;
    }
    link(x);
  }

  /** Adds x W to h, a row of W at a time: with the same index on both sides, the JVM emits vector instructions. */
  private static void add(float[][] W, float[] x, float[] h) {
    for (int i = 0; i < x.length; i++) {
      float value = x[i];
      float[] row = W[i];
      for (int j = 0; j < h.length; j++) h[j] += value * row[j];
    }
  }

  private void activate(float[] h) {
    if (activation.equals("relu")) for (int j = 0; j < h.length; j++) h[j] = Math.max(h[j], 0f);
    else if (activation.equals("tanh")) for (int j = 0; j < h.length; j++) h[j] = (float) Math.tanh(h[j]);
    else for (int j = 0; j < h.length; j++) h[j] = sigmoid(h[j]);
  }

  private static float sigmoid(float z) {
    return (float) (1 / (1 + Math.exp(-z)));
  }

  private void link(float[] z) {
    if (loss.equals("softmax")) softmax(z);
    else if (loss.equals("logistic")) z[0] = sigmoid(z[0]);
  }

  private static float clipped(float value, float bound) {
    return Math.max(-bound, Math.min(bound, value));
  }

  private static void softmax(float[] z) {
    float most = Float.NEGATIVE_INFINITY;
    for (int j = 0; j < z.length; j++) most = Math.max(most, z[j]);
    float total = 0f;
    for (int j = 0; j < z.length; j++) {
      z[j] = (float) Math.exp(z[j] - most);
      total += z[j];
    }
    for (int j = 0; j < z.length; j++) z[j] /= total;
  }

  private static boolean finite(float[] values) {
    float sum = 0f;
    for (int j = 0; j < values.length; j++) sum += values[j] - values[j];  // NaN for what is not finite
    return sum == 0f;
  }
}
