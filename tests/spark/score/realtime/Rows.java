package streaming_nn;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** Reads many records at once, for tests. */
public final class Rows {
  /** Reads records, each after its length; returns for each one -1 and its row, or the reason after its length. */
  public byte[] read(String schema, int columns, byte[] records) throws Exception {
    Records of = new Records(new ObjectMapper().readTree(schema));
    ByteBuffer in = ByteBuffer.wrap(records);
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    DataOutputStream data = new DataOutputStream(out);
    double[] x = new double[columns];  // not cleared, as in Predictor
    while (in.hasRemaining()) {
      byte[] record = new byte[in.getInt()];
      in.get(record);
      String reason = of.read(of.content(record), record.length, x);
      byte[] text = reason == null ? new byte[0] : reason.getBytes(StandardCharsets.UTF_8);
      data.writeInt(reason == null ? -1 : text.length);
      data.write(text);
      for (int i = 0; i < columns && reason == null; i++) data.writeDouble(x[i]);
    }
    return out.toByteArray();
  }
}
