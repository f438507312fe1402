package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What a value is as a number, as records/values.py has it. */
final class Values {
  private static final String NOT_A_NUMBER = "not a number";
  private static final String NOT_FINITE = "not finite";
  private static final String IS_A_DATE = "date, not in records.datetimes";
  private static final Pattern WORD = Pattern.compile("[+-]?(nan|inf|infinity)", Pattern.CASE_INSENSITIVE);
  private static final Pattern BOOLEAN = Pattern.compile("true|True|TRUE|false|False|FALSE");
  private static final Pattern DATE = Pattern.compile("\\d{4}-\\d\\d-\\d\\d([T ]\\d\\d:\\d\\d.*)?", Pattern.UNIX_LINES);
  private static final Pattern WORTH = Pattern.compile("(.+)=(\\d+(?:\\.\\d*)?(?:[eE][+-]?\\d+)?)", Pattern.DOTALL);
  private static final Pattern EXTENDED = Pattern.compile("\\$number(Int|Long|Double|Decimal)");  // MongoDB's

  final boolean missing;
  private final boolean strings;  // "1.5" is a number
  private final HashSet gaps;  // words for a gap
  private final double[] gapNumbers;  // those of them that are numbers
  private final String decimal;
  private final String thousands;
  private final String[] units;  // what may be before or after a number, the longest first
  private final double[] worths;  // what a number is multiplied by for each
  private final Pattern number;
  private final Values extended;  // of a number in MongoDB's extended JSON

  /** Takes the rules of a schema, but for gaps. */
  Values(JsonNode schema, boolean missing) {
    this.missing = missing;
    this.strings = Version.at(schema, "numbers_as_strings").asBoolean()
        || Version.at(schema, "format").asText().equals("csv");
    this.decimal = Version.at(schema, "decimal").asText();
    this.thousands = Version.at(schema, "thousands").asText();
    this.units = longestFirst(Version.at(schema, "units"));
    this.worths = new double[units.length];
    for (int i = 0; i < units.length; i++) {
      Matcher stated = WORTH.matcher(units[i]);
      worths[i] = stated.matches() ? Double.parseDouble(stated.group(2)) : 1.0;
      if (stated.matches()) units[i] = stated.group(1);
    }
    this.number = pattern(decimal, thousands);
    this.gaps = new HashSet();
    JsonNode words = Version.at(schema, "na_values");
    double[] numbers = new double[words.size()];
    int count = 0;
    for (int i = 0; i < words.size(); i++) {
      String word = Version.at(words, i).asText();
      gaps.add(word);
      double found = parsed(strip(word));
      if (found == found) numbers[count++] = found;
    }
    this.gapNumbers = Arrays.copyOf(numbers, count);
    this.extended = new Values(missing, gaps, gapNumbers);
  }

  /** Makes those of a number in MongoDB's extended JSON. */
  private Values(boolean missing, HashSet gaps, double[] gapNumbers) {
    this.missing = missing;
    this.strings = true;
    this.gaps = gaps;
    this.gapNumbers = gapNumbers;
    this.decimal = ".";
    this.thousands = "";
    this.units = new String[0];
    this.worths = new double[0];
    this.number = pattern(decimal, thousands);
    this.extended = this;
  }

  private static String[] longestFirst(JsonNode names) {
    String[] sorted = new String[names.size()];  // 0 of a version that has none
    for (int i = 0; i < sorted.length; i++) {
      String unit = Version.at(names, i).asText();
      int at = i;
      for (; at > 0 && size(sorted[at - 1]) < size(unit); at--) sorted[at] = sorted[at - 1];
      sorted[at] = unit;
    }
    return sorted;
  }

  private static int size(String text) {
    Matcher stated = WORTH.matcher(text);
    String name = stated.matches() ? stated.group(1) : text;
    return name.codePointCount(0, name.length());
  }

  private static Pattern pattern(String decimal, String thousands) {
    String d = Pattern.quote(decimal);
    String whole = thousands.isEmpty() ? "\\d+" : "[1-9]\\d{0,2}(?:" + Pattern.quote(thousands) + "\\d{3})+|\\d+";
    return Pattern.compile("[+-]?(?:(?:" + whole + ")(?:" + d + "\\d*)?|" + d + "\\d+)(?:[eE][+-]?\\d+)?");
  }

  /** Writes a value as a number, NaN for a gap; returns the reason if it is none. */
  String number(Object value, double[] x, int at) {
    if (value instanceof Double ? isGapNumber((Double) value) : isGap(value)) {  // a NaN is left to `check`
      x[at] = Double.NaN;
      return missing ? null : NOT_A_NUMBER;
    }
    if (value instanceof Number) {
      x[at] = ((Number) value).doubleValue();
      return Double.isInfinite(x[at]) && !(value instanceof Double) ? NOT_FINITE : null;
    }
    if (value instanceof Boolean) {
      x[at] = ((Boolean) value).booleanValue() ? 1 : 0;
      return null;
    }
    if (value instanceof String) {
      String text = strip((String) value);
      if (strings && string(text, x, at)) return null;
      return DATE.matcher(text).matches() ? IS_A_DATE : NOT_A_NUMBER;
    }
    String kind = onlyKey(value);
    if (EXTENDED.matcher(kind).matches()) return extended.number(((Map) value).get(kind), x, at);
    return kind.equals("$date") ? IS_A_DATE : NOT_A_NUMBER;
  }

  /** Returns why a number cannot be learned; null: it can, or is a gap. */
  String check(double number) {
    if (Math.abs(number) > Float.MAX_VALUE) return NOT_FINITE;
    return number != number && !missing ? NOT_A_NUMBER : null;
  }

  private boolean string(String text, double[] x, int at) {
    double found = parsed(text);
    if (found == found) {
      x[at] = found;
    } else if (WORD.matcher(text).matches()) {
      double size = text.toLowerCase(Locale.ROOT).endsWith("nan") ? Double.NaN : Double.POSITIVE_INFINITY;
      x[at] = text.charAt(0) == '-' ? -size : size;
    } else if (BOOLEAN.matcher(text).matches()) {
      x[at] = text.charAt(0) == 't' || text.charAt(0) == 'T' ? 1 : 0;
    } else {
      return false;
    }
    return true;
  }

  /** Returns the number that a string is, which may have units and be in brackets; NaN: it is none. */
  private double parsed(String text) {
    if (number.matcher(text).matches()) return plain(text);
    double[] worth = {1.0};
    String bare = withoutUnits(text, worth);
    if (bare.startsWith("(") && bare.endsWith(")") && bare.length() > 1) {
      String inner = withoutUnits(stripUnitBlanks(bare.substring(1, bare.length() - 1)), worth);
      bare = inner.startsWith("+") || inner.startsWith("-") ? "" : "-" + inner;
    }
    return number.matcher(bare).matches() ? plain(bare) * worth[0] : Double.NaN;
  }

  private double plain(String text) {
    return Double.parseDouble(text.replace(thousands, "").replace(decimal, "."));
  }

  /** Returns a string without a unit before it, which may be after its sign, and one after it; multiplies their worth. */
  private String withoutUnits(String text, double[] worth) {
    boolean signed = text.startsWith("+") || text.startsWith("-");
    String sign = signed ? text.substring(0, 1) : "";
    String bare = text.substring(sign.length());
    double before = 1.0;
    for (int i = 0; i < units.length; i++) {
      if (!bare.startsWith(units[i])) continue;
      int start = units[i].length();
      while (start < bare.length() && isUnitBlank(bare.charAt(start))) start++;
      bare = bare.substring(start);
      before = worths[i];
      break;
    }
    double after = 1.0;
    for (int i = 0; i < units.length; i++) {
      if (!bare.endsWith(units[i])) continue;
      int end = bare.length() - units[i].length();
      while (end > 0 && isUnitBlank(bare.charAt(end - 1))) end--;
      bare = bare.substring(0, end);
      after = worths[i];
      break;
    }
    worth[0] *= before * after;
    return sign + bare;
  }

  private static String stripUnitBlanks(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isUnitBlank(text.charAt(start))) start++;
    while (start < end && isUnitBlank(text.charAt(end - 1))) end--;
    return text.substring(start, end);
  }

  private static boolean isUnitBlank(char c) {
    return isBlank(c) || c == '\u00a0' || c == '\u202f';
  }

  boolean hasGaps() {
    return !gaps.isEmpty();
  }

  /** Returns whether there is no value: null, absent, NaN, a word for it, or the number that such a word is. */
  boolean isGap(Object value) {
    return isCategoryGap(value) || (strings && value instanceof String && strip((String) value).isEmpty());
  }

  /** Returns whether there is no category: an empty string is one. */
  boolean isCategoryGap(Object value) {
    if (value instanceof Number) return isGapNumber((Number) value) || Double.isNaN(((Number) value).doubleValue());
    if (!(value instanceof String)) return value == null || value == Json.ABSENT;
    String text = strip((String) value);
    if (gaps.contains(text)) return true;
    if (gapNumbers.length == 0) return false;
    return isGapNumber(Double.valueOf(parsed(text)));
  }

  /** Returns whether a number is a gap; an integer is compared exactly. */
  private boolean isGapNumber(Number value) {
    for (int i = 0; i < gapNumbers.length; i++) {
      double gap = gapNumbers[i];
      if (value.doubleValue() != gap) continue;
      if (value instanceof Double) return true;
      if (!Double.isInfinite(gap) && new BigDecimal(value.toString()).compareTo(new BigDecimal(gap)) == 0) return true;
    }
    return false;
  }

  /** Returns a category of MongoDB's extended JSON as it is in JSON; anything else as it is. */
  static Object fromExtended(Object value) {
    String kind = onlyKey(value);
    if (kind.isEmpty()) return value;
    Object content = ((Map) value).get(kind);
    if (kind.equals("$oid") && content instanceof String) return content;
    double[] found = new double[1];
    boolean isNumber = EXTENDED.matcher(kind).matches() && new Values(false, new HashSet(), new double[0]).number(content, found, 0) == null;
    return isNumber ? Double.valueOf(found[0]) : value;
  }

  /** Returns the name of an object's field, if it has one field; otherwise "". */
  private static String onlyKey(Object value) {
    if (!(value instanceof Map) || ((Map) value).size() != 1) return "";
    return (String) ((Map) value).keySet().iterator().next();
  }

  /** Removes blanks around a string; a regular expression would take the square of the blanks within it. */
  private static String strip(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isBlank(text.charAt(start))) start++;
    while (start < end && isBlank(text.charAt(end - 1))) end--;
    return text.substring(start, end);
  }

  private static boolean isBlank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
  }
}
