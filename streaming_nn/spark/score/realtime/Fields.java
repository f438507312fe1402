package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.IOException;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

/** Reads the chosen fields of a JSON record, as records/chosen.py does. */
final class Fields {
  private final String[] names;
  private final String[][] paths;
  private final int longest;  // bytes of all fields of a prediction
  private final JsonFactory json;

  /** Takes a list of names for each field's name, in JSON. */
  Fields(String chosen, int longest) throws IOException {
    JsonNode lists = new ObjectMapper().readTree(chosen);
    this.names = new String[lists.size()];
    this.paths = new String[lists.size()][];
    this.longest = longest;
    this.json = Json.factory();
    Iterator each = lists.fieldNames();
    for (int f = 0; f < names.length; f++) {
      names[f] = (String) each.next();
      JsonNode path = Version.at(lists, names[f]);
      paths[f] = new String[path.size()];
      for (int i = 0; i < paths[f].length; i++) paths[f][i] = Version.at(path, i).asText();
    }
  }

  /** Appends a JSON object; a field that is absent is null, as are all those of a record that is not JSON, or null. */
  void append(byte[] value, StringBuilder text) {
    Object record = Json.ABSENT;
    try {
      if (value != null) record = Json.read(json, value);
    } catch (IOException notJson) {
      record = Json.ABSENT;
    }
    int start = text.length();
    for (int f = 0; f < names.length; f++) {
      text.append(f == 0 ? '{' : ',').append(quoted(names[f])).append(':');
      append(Json.at(record, paths[f]), text);
    }
    text.append('}');
    if (text.length() - start > longest) text.replace(start, text.length(), "null");
  }

  private static String quoted(Object text) {
    return TextNode.valueOf((String) text).toString();
  }

  private static void append(Object value, StringBuilder text) {
    if (value instanceof Map) {
      char before = '{';
      for (Iterator each = ((Map) value).entrySet().iterator(); each.hasNext(); before = ',') {
        Map.Entry entry = (Map.Entry) each.next();
        text.append(before).append(quoted(entry.getKey())).append(':');
        append(entry.getValue(), text);
      }
      text.append(before == '{' ? "{}" : "}");
    } else if (value instanceof List) {
      text.append('[');
      for (Iterator each = ((List) value).iterator(); each.hasNext();) {
        append(each.next(), text);
        if (each.hasNext()) text.append(',');
      }
      text.append(']');
    } else if (value instanceof String) {
      text.append(quoted(value));
    } else {
      boolean isDouble = value instanceof Double;
      boolean isWritten = isDouble ? Double.isFinite(((Double) value).doubleValue()) : value != Json.ABSENT;
      text.append(isWritten ? String.valueOf(value) : "null");
    }
  }
}
