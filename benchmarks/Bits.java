package streaming_nn;

import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Calls Functions and Network with many numbers at once. */
public final class Bits {
  /** Returns a function of float64 values. */
  public byte[] apply(String name, byte[] values) {
    ByteBuffer x = buffer(values);
    ByteBuffer y = buffer(new byte[values.length]);
    while (x.hasRemaining()) y.putDouble(apply(name, x.getDouble()));
    return y.array();
  }

  private static double apply(String name, double x) {
    if (name.equals("exp")) return Functions.exp(x);
    if (name.equals("expm1")) return Functions.expm1(x);
    if (name.equals("log")) return Functions.log(x);
    if (name.equals("log1p")) return Functions.log1p(x);
    if (name.equals("tanh")) return Functions.tanh(x);
    if (name.equals("sigmoid")) return Functions.sigmoid(x);
    if (name.equals("erf")) return Functions.erf(x);
    return Functions.softplus(x);
  }

  /** Returns the predictions (rows, outputs) of rows (rows, columns), both in float64, by a version's file. */
  public byte[] predict(String file, byte[] rows) throws Exception {
    Network network = new Network(new Version(new File(file)));
    Network.Work work = network.work();
    ByteBuffer x = buffer(rows);
    ByteBuffer p = buffer(new byte[rows.length / network.inputs * network.outputs]);
    while (x.hasRemaining()) {
      for (int i = 0; i < network.inputs; i++) work.x[i] = x.getDouble();
      network.predict(work);
      for (int j = 0; j < network.outputs; j++) p.putDouble(work.output[j]);
    }
    return p.array();
  }

  /** Returns the output that is the prediction of a target. */
  public int point(String file) throws Exception {
    return new Network(new Version(new File(file))).point;
  }

  private static ByteBuffer buffer(byte[] bytes) {
    return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }
}
