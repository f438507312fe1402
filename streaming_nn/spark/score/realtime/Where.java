package streaming_nn;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A filter on the fields of a record, as records/where.py, which has checked its grammar. */
final class Where {
  private static final Pattern TOKEN = Pattern.compile("(?<string>'(?:[^']|'')*')"
      + "|(?<number>[+-]?(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][+-]?\\d+)?)(?![^\\s'=<>!(),])"
      + "|(?<sign><=|>=|!=|[=<>(),])|(?<word>(?:\"[^\"]*\"|[^\\s'\"=<>!(),])+)");
  private static final Pattern BLANKS =  // as Python's \s of str
      Pattern.compile("[\\s\\x1c-\\x1f\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]*");
  private static final String FILTERED = "filtered";
  private static final String KEYWORDS = " and or not in is null true false ";

  private final String text;
  private final Test test;
  private int at;  // where the token ends
  private String token = "";  // "": the end
  private String keyword = "";  // the token, if it is not a string, a number or a field; "": it is

  Where(String text) {
    this.text = text;
    next();
    this.test = disjunction();
  }

  /** Returns null, or FILTERED if the filter is not true of a record. */
  String check(Object record) {
    return test.of(record) == 1 ? null : FILTERED;
  }

  /** Returns whether a record has this reason because of a filter: it is not bad, and has no prediction. */
  static boolean isFiltered(String reason) {
    return FILTERED.equals(reason);
  }

  private void next() {
    Matcher blanks = BLANKS.matcher(text).region(at, text.length());
    if (blanks.lookingAt()) at = blanks.end();
    Matcher found = TOKEN.matcher(text).region(at, text.length());
    token = found.lookingAt() ? found.group() : "";
    at += token.length();
    boolean isWord = !token.isEmpty() && found.group("word") != null;
    String lower = token.toLowerCase(Locale.ROOT);
    boolean isKeyword = isWord && KEYWORDS.contains(" " + lower + " ");
    keyword = isKeyword ? lower : !token.isEmpty() && found.group("sign") != null ? token : "";
  }

  private boolean take(String expected) {
    if (!keyword.equals(expected)) return false;
    next();
    return true;
  }

  private Test disjunction() {
    ArrayList tests = new ArrayList();
    do tests.add(conjunction()); while (take("or"));
    return tests.size() == 1 ? (Test) tests.get(0) : new Any(tests);
  }

  /** A conjunction is what its negated parts, joined by `or`, are not. */
  private Test conjunction() {
    ArrayList negations = new ArrayList();
    do negations.add(new Not(condition())); while (take("and"));
    return new Not(new Any(negations));
  }

  private Test condition() {
    if (take("not")) return new Not(condition());
    if (!take("(")) return predicate();
    Test test = disjunction();
    take(")");
    return test;
  }

  private Test predicate() {
    String[] path = Features.path(token);
    next();
    if (take("is")) {
      boolean negated = take("not");
      take("null");
      Test isNull = new IsNull(path);
      return negated ? new Not(isNull) : isNull;
    }
    if (take("not")) return new Not(predicateOf(path));
    return predicateOf(path);
  }

  /** Reads a comparison, or `in` and its values. */
  private Test predicateOf(String[] path) {
    String sign = keyword;
    next();
    ArrayList values = new ArrayList();
    if (!sign.equals("in")) {
      values.add(value());
    } else {
      next();
      do values.add(value()); while (take(","));
      take(")");
      sign = "=";
    }
    return new Comparison(path, sign, values);
  }

  private Object value() {
    String text = token;
    boolean isBoolean = keyword.equals("true") || keyword.equals("false");
    Object value;
    if (isBoolean) value = Boolean.valueOf(keyword);
    else if (text.charAt(0) == '\'') value = text.substring(1, text.length() - 1).replace("''", "'");
    else if (text.matches(".*[.eE].*")) value = Double.valueOf(text);
    else value = new BigInteger(text);
    next();
    return value;
  }

  /** A part of a filter. */
  private abstract static class Test {
    /** Returns 1 if it is true of a record, 0 if it is false, -1 if that is unknown: a field is null or absent. */
    abstract int of(Object record);

    static Object at(Object record, String[] path) {
      Object value = Json.at(record, path);
      return value == Json.ABSENT ? null : value;
    }
  }

  private static final class Any extends Test {
    private final List tests;

    Any(List tests) {
      this.tests = tests;
    }

    int of(Object record) {
      int found = 0;
      for (int i = 0; i < tests.size(); i++) {
        int truth = ((Test) tests.get(i)).of(record);
        if (truth == 1) return 1;
        if (truth < 0) found = truth;
      }
      return found;
    }
  }

  private static final class Not extends Test {
    private final Test test;

    Not(Test test) {
      this.test = test;
    }

    int of(Object record) {
      int truth = test.of(record);
      return truth < 0 ? truth : 1 - truth;
    }
  }

  private static final class IsNull extends Test {
    private final String[] path;

    IsNull(String[] path) {
      this.path = path;
    }

    int of(Object record) {
      return at(record, path) == null ? 1 : 0;
    }
  }

  /** A comparison with one of several values. */
  private static final class Comparison extends Test {
    private final String[] path;
    private final String sign;
    private final List values;

    Comparison(String[] path, String sign, List values) {
      this.path = path;
      this.sign = sign;
      this.values = values;
    }

    int of(Object record) {
      Object value = at(record, path);
      if (value == null) return -1;
      for (int i = 0; i < values.size(); i++) if (compare(value, values.get(i))) return 1;
      return 0;
    }

    private boolean compare(Object a, Object b) {
      if (!(a instanceof Number && b instanceof Number) && a.getClass() != b.getClass()) return sign.equals("!=");
      if (a.equals(Double.valueOf(Double.NaN))) return sign.equals("!=");
      int order = order(a, b);
      if (sign.equals("=")) return order == 0;
      if (sign.equals("!=")) return order != 0;
      return sign.charAt(0) == '<' ? order < 0 || (order == 0 && sign.length() == 2)
          : order > 0 || (order == 0 && sign.length() == 2);
    }

    /** Compares two values of one type exactly: strings by code points, and integers with fractions. */
    private static int order(Object a, Object b) {
      if (a instanceof String) return Arrays.compareUnsigned(utf8(a), utf8(b));
      if (a instanceof Boolean) return ((Boolean) a).compareTo((Boolean) b);
      double x = ((Number) a).doubleValue();
      double y = ((Number) b).doubleValue();
      if (x != y) return x < y ? -1 : 1;
      boolean isDouble = a instanceof Double;
      if (!Double.isInfinite(x)) return decimal(a).compareTo(decimal(b));
      if (isDouble == b instanceof Double) return isDouble ? 0 : decimal(a).compareTo(decimal(b));
      return isDouble == x > 0 ? 1 : -1;  // infinity is beyond every integer
    }

    private static byte[] utf8(Object text) {
      return ((String) text).getBytes(StandardCharsets.UTF_8);
    }

    private static BigDecimal decimal(Object number) {
      if (number instanceof Double) return new BigDecimal(((Double) number).doubleValue());
      return new BigDecimal(number.toString());
    }
  }
}
