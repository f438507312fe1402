package streaming_nn;

/**
 * Elementary functions of float64, by + - * / and the bits of a number alone, activations, and what makes predictions
 * of the last sums: the bits are those of core/functions.h and core/losses.c. See docs/arithmetic.md, "Functions".
 */
final class Functions {
  private static final double LOG2E = 0x1.71547652b82fep0;
  private static final double LN2_HIGH = 0x1.62e42feep-1;  // 33 bits: times an exponent it is exact
  private static final double LN2_LOW = 0x1.a39ef35793c76p-33;
  private static final double SHIFT = 0x1.8p52;  // added and taken off, it rounds to the nearest integer
  private static final double TWO_BY_ROOT_PI = 0x1.20dd750429b6dp0;  // 2 / sqrt(pi)
  private static final double STEEP = 30.0;  // Poisson: bound of the sum whose exponential is the mean
  private static final double ROOT_HALF = 0x1.6a09e667f3bcdp-1;  // sqrt(1 / 2)
  private static final long SQRT_HALF = 0x3fe6a09e00000000L;  // bits of about sqrt(1/2)
  private static final long MANTISSA = 0x000fffffffffffffL;

  private Functions() {}

  /** (exp(r) - 1 - r) / r^2, for |r| at most 0.35. */
  private static double expSeries(double r) {
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    return p * r + 0.5;
  }

  static double exp(double x) {
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    double shifted = x * LOG2E + SHIFT;
    double k = shifted - SHIFT;
    double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    double p = 1.0 + (r + r * r * expSeries(r));
    return p * Double.longBitsToDouble((Double.doubleToRawLongBits(shifted) + 1023L) << 52);
  }

  static double expm1(double x) {
    return Math.abs(x) < 0.35 ? x + x * x * expSeries(x) : exp(x) - 1.0;
  }

  /** log((1 + f) / (1 - f)) / f, for |f| at most 0.1716. */
  private static double logSeries(double f) {
    double s = f * f;
    double p = 2.0 / 23.0;
    p = p * s + 2.0 / 21.0;
    p = p * s + 2.0 / 19.0;
    p = p * s + 2.0 / 17.0;
    p = p * s + 2.0 / 15.0;
    p = p * s + 2.0 / 13.0;
    p = p * s + 2.0 / 11.0;
    p = p * s + 2.0 / 9.0;
    p = p * s + 2.0 / 7.0;
    p = p * s + 2.0 / 5.0;
    p = p * s + 2.0 / 3.0;
    return p * s + 2.0;
  }

  /** log(x) of a normal, positive x. */
  static double log(double x) {
    if (x != x) return x;
    long bits = Double.doubleToRawLongBits(x) - SQRT_HALF;
    double k = (double) (bits >> 52);
    double m = Double.longBitsToDouble((bits & MANTISSA) + SQRT_HALF);
    double f = (m - 1.0) / (m + 1.0);
    return k * LN2_HIGH + (f * logSeries(f) + k * LN2_LOW);
  }

  /** log(1 + x), for x above -1. */
  static double log1p(double x) {
    double f = x / (2.0 + x);
    return Math.abs(f) < 0.17 ? f * logSeries(f) : log(1.0 + x);
  }

  static double tanh(double x) {
    double size = Math.abs(x);
    double e = expm1(2.0 * (size > 20.0 ? 20.0 : size));
    double t = e / (e + 2.0);
    return x < 0.0 ? -t : t;
  }

  static double sigmoid(double x) {
    double e = exp(-Math.abs(x));
    return x < 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
  }

  /** log(1 + exp(x)). */
  static double softplus(double x) {
    double y = log1p(exp(-Math.abs(x)));
    return x > 0.0 ? x + y : y;
  }

  /** erf(x) * sqrt(pi) / (2 x), for |x| at most 1, of s = x^2. */
  private static double erfSeries(double s) {
    double p = -1.0 / 12449059983360000.0;
    p = p * s + 1.0 / 690452066304000.0;
    p = p * s - 1.0 / 40537905408000.0;
    p = p * s + 1.0 / 2528170444800.0;
    p = p * s - 1.0 / 168129561600.0;
    p = p * s + 1.0 / 11975040000.0;
    p = p * s - 1.0 / 918086400.0;
    p = p * s + 1.0 / 76204800.0;
    p = p * s - 1.0 / 6894720.0;
    p = p * s + 1.0 / 685440.0;
    p = p * s - 1.0 / 75600.0;
    p = p * s + 1.0 / 9360.0;
    p = p * s - 1.0 / 1320.0;
    p = p * s + 1.0 / 216.0;
    p = p * s - 1.0 / 42.0;
    p = p * s + 1.0 / 10.0;
    p = p * s - 1.0 / 3.0;
    p = p * s + 1.0;
    return p;
  }

  /** (1 - erf(x)) * exp(x^2) / t, for x from 1 to 6, of t = 2 / (2 + x). */
  private static double erfcSeries(double t) {
    double p = -0x1.581a78efdeeb8p-4;
    p = p * t + 0x1.3f2a92f69c284p-1;
    p = p * t - 0x1.0b84905213d0dp1;
    p = p * t + 0x1.08c34c9d1f661p2;
    p = p * t - 0x1.53167eed5d5b3p2;
    p = p * t + 0x1.23977dd696befp2;
    p = p * t - 0x1.5e684413d4e9ep1;
    p = p * t + 0x1.4c61179308a7bp0;
    p = p * t - 0x1.0aa7ba1ea6e9fp-1;
    p = p * t + 0x1.2a252271220d9p-4;
    p = p * t - 0x1.05fffb54d696dp-5;
    p = p * t + 0x1.692fa8fb692bdp-4;
    p = p * t + 0x1.68036d63754c2p-3;
    p = p * t + 0x1.f999c3db69cd8p-3;
    p = p * t + 0x1.20dce6494ebf4p-2;
    p = p * t + 0x1.20dd785a1d659p-2;
    return p;
  }

  static double erf(double x) {
    double size = Math.abs(x);
    size = size > 6.0 ? 6.0 : size;
    double t = 2.0 / (2.0 + size);
    double y = size < 1.0 ? size * (TWO_BY_ROOT_PI * erfSeries(size * size))
        : 1.0 - exp(-(size * size)) * (t * erfcSeries(t));
    return x < 0.0 ? -y : y;
  }

  /** Overwrites sums with the units' values. */
  static void activate(String activation, float[] h) {
    if (activation.equals("relu")) relu(h);
    else if (activation.equals("leaky_relu")) leakyRelu(h);
    else if (!activation.equals("identity")) for (int j = 0; j < h.length; j++) h[j] = (float) value(activation, h[j]);
  }

  /** Where a sum is -0, this has +0, which no product's bits depend on. A branch would be mispredicted. */
  private static void relu(float[] h) {
    for (int j = 0; j < h.length; j++) h[j] = Math.max(h[j], 0f);
  }

  private static void leakyRelu(float[] h) {
    for (int j = 0; j < h.length; j++) h[j] = Math.max(h[j], 0.01f * h[j]);
  }

  private static double value(String activation, double z) {
    if (activation.equals("sigmoid")) return sigmoid(z);
    if (activation.equals("tanh")) return tanh(z);
    if (activation.equals("softplus")) return softplus(z);
    if (activation.equals("elu")) return z > 0.0 ? z : expm1(z);
    return (0.5 * z) * (1.0 + erf(ROOT_HALF * z));
  }

  /** Overwrites the last sums with predictions. */
  static void link(String loss, float[] z, double[] exponentials) {
    if (loss.equals("softmax")) softmax(z, exponentials);
    else if (loss.equals("logistic")) for (int j = 0; j < z.length; j++) z[j] = (float) sigmoid(z[j]);
    else if (loss.equals("poisson")) for (int j = 0; j < z.length; j++) z[j] = (float) exp(bounded(z[j]));
  }

  private static double bounded(double z) {
    return z < -STEEP ? -STEEP : z > STEEP ? STEEP : z;
  }

  private static void softmax(float[] z, double[] exponentials) {
    float top = z[0];
    for (int j = 1; j < z.length; j++) top = z[j] > top ? z[j] : top;
    for (int j = 0; j < z.length; j++) exponentials[j] = exp((double) z[j] - (double) top);
    double sum = 0.0;
    for (int j = 0; j < z.length; j++) sum += exponentials[j];
    for (int j = 0; j < z.length; j++) z[j] = (float) (exponentials[j] / sum);
  }
}
