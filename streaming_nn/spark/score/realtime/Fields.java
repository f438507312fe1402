package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.IOException;
import java.util.Iterator;
import java.util.regex.Pattern;

/** Reads the chosen fields of a JSON record, as records/chosen.py does. */
final class Fields {
  private static final Pattern INDEX = Pattern.compile("[0-9]{1,9}");  // of an array's element, as in records/paths.py

  private final JsonNode paths;  // a list of names for each field's name
  private final int longest;  // bytes of all fields of a prediction
  private final ObjectMapper mapper;

  Fields(String paths, int longest, JsonFactory json) throws IOException {
    this.paths = new ObjectMapper().readTree(paths);
    this.longest = longest;
    this.mapper = new ObjectMapper(json);
  }

  /** Appends a JSON object; a field that is absent is null, as are all those of a record that is not JSON, or null. */
  void append(byte[] value, StringBuilder text) throws IOException {
    JsonNode record = null;
    try {
      if (value != null) record = mapper.readTree(value);
    } catch (IOException notJson) {  // too large: nothing has looked at it before
      record = null;
    }
    int start = text.length();
    char before = '{';
    for (Iterator names = paths.fieldNames(); names.hasNext();) {
      String name = (String) names.next();
      text.append(before).append(TextNode.valueOf(name).toString()).append(':');
      append(at(record, (JsonNode) paths.path(name)), text);
      before = ',';
    }
    text.append('}');
    if (text.length() - start > longest) text.replace(start, text.length(), "null");
  }

  private static JsonNode at(JsonNode node, JsonNode path) {
    for (int i = 0; i < path.size() && node != null; i++) {
      String name = ((JsonNode) path.path(i)).asText();
      if (!node.isArray()) {
        node = node.get(name);
      } else {
        node = INDEX.matcher(name).matches() ? (JsonNode) node.get(Integer.parseInt(name)) : null;
      }
    }
    return node;
  }

  private static void append(JsonNode node, StringBuilder text) {
    if (node == null || (node.isDouble() && !Double.isFinite(node.asDouble()))) {
      text.append("null");
    } else if (node.isArray() || node.isObject()) {
      appendAll(node, text);
    } else {
      text.append(node.toString());
    }
  }

  private static void appendAll(JsonNode node, StringBuilder text) {
    Iterator names = node.fieldNames();
    text.append(node.isArray() ? '[' : '{');
    for (Iterator each = node.elements(); each.hasNext();) {
      if (node.isObject()) text.append(TextNode.valueOf((String) names.next()).toString()).append(':');
      append((JsonNode) each.next(), text);
      if (each.hasNext()) text.append(',');
    }
    text.append(node.isArray() ? ']' : '}');
  }
}
