"""The dialect of a CSV file is detected by its beginning, or an error names the option to set."""

import csv
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.records.dialect import (
    BOOLEAN,
    DATE,
    EMPTY,
    NUMBER,
    STRING,
    Dialect,
    RowError,
    detect,
    fit,
    read_rows,
)
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.units import parse_units
from streaming_nn.records.values import Rules, number_pattern, to_number

pytestmark = pytest.mark.commit


def kinds(sample):
    return [sample.dialect.kind(sample.column(i)) for i in range(len(sample.names))]


def changes(dialect):
    """Return what differs from the usual dialect."""
    usual = Dialect()
    return {name: value for name, value in vars(dialect).items() if value != getattr(usual, name, value)}


@pytest.mark.parametrize(
    ("text", "found", "names", "of"),
    [
        # the UCI's wine, power, AirQuality and adult; Kaggle's Titanic
        ('"fixed acidity";"quality"\n7.4;5\n7.8;6\n', {"delimiter": ";"}, ["fixed acidity", "quality"], "nn"),
        (
            "Date;Time;P;S3\n16/12/2006;17:24:00;4.216;17.000\n28/4/2007;00:21:00;?;\n",
            {"delimiter": ";", "na_values": ("?",)},
            ["Date", "Time", "P", "S3"],
            "ddnn",
        ),
        (
            "Date;Time;CO(GT);T;;\n10/03/2004;18.00.00;2,6;-200;;\n10/03/2004;19.00.00;0,5;13,6;;\n;;;;;\n",
            {"delimiter": ";", "decimal": ","},
            ["Date", "Time", "CO(GT)", "T"],
            "ddnn",
        ),
        (
            "39, State-gov, 77516, <=50K\n50, ?, 83311, >50K\n",
            {"header": False, "na_values": ("?",)},
            ["_c0", "_c1", "_c2", "_c3"],
            "nsns",
        ),
        (
            'Id,Name,Age\n1,"Braund, Mr. ""O"" Harris",22\n2,"C, M",\n',
            {},
            ["Id", "Name", "Age"],
            "nsn",
        ),
        # delimiters
        ("a\tb\n1\tx\n2\ty\n", {"delimiter": "\t"}, ["a", "b"], "ns"),
        ("a|b\n1|x\n2|y\n", {"delimiter": "|"}, ["a", "b"], "ns"),
        ("A11 6 A34 1\nA12 48 A32 2\n", {"delimiter": " ", "header": False}, None, "snsn"),  # UCI german
        (
            '18.0   8   307.0\t"chevrolet malibu"\n15.0   8   350.0\t"buick sky"\n',  # UCI auto-mpg
            {"delimiter": " ", "header": False},
            None,
            "nnns",
        ),
        ("sep=;\r\na;b\r\n1;2\r\n", {"delimiter": ";"}, ["a", "b"], "nn"),  # Excel's first line
        ("a;b\n1,5;2,5\n3,5;4,5\n", {"delimiter": ";", "decimal": ","}, ["a", "b"], "nn"),
        ("when,x\n2006-12-16 17:24:00,5.1\n2006-12-16 17:25:00,5\n", {}, ["when", "x"], "dn"),
        ("a;b\n1;2;\n3;4;\n", {"delimiter": ";"}, ["a", "b"], "nn"),  # trailing, but not in the header
        # lines
        ("a,b\r1,2\r3,4\r", {}, ["a", "b"], "nn"),
        ("\n\na,b\n\n1,2\n\n", {}, ["a", "b"], "nn"),
        ('a,b\n1,"x\ny"\n2,z\n', {}, ["a", "b"], "ns"),
        ("# made by hand\na,b\n1,2\n# and more\n3,4\n", {"comment": "#"}, ["a", "b"], "nn"),
        ("% matlab\n1,2\n3,4\n", {"comment": "%", "header": False}, None, "nn"),
        ("# a,b\n1,2\n3,4\n", {}, ["a", "b"], "nn"),  # numpy.savetxt(header=…)
        # quotes
        ("a,b\n'x, y',1\n'z',2\n", {"quote": "'"}, ["a", "b"], "sn"),
        ("a,b\n'x',1\n'z',2\n", {"quote": "'"}, ["a", "b"], "sn"),
        ('"a","b"\n"x \\"q\\" y","1"\n"z","2"\n', {"escape": "\\"}, ["a", "b"], "sn"),  # Spark's writer
        ('ham\tGo until\nspam\t"free" entry\nham\tyes\n', {"delimiter": "\t", "quote": "", "header": False},
         None, "ss"),  # UCI's SMS spam
        # headers
        ("1.5,2\n3,4\n", {"header": False}, None, "nn"),
        ("0,1,2\n1.5,2,0\n3,4,1\n", {}, ["0", "1", "2"], "nnn"),  # numbered columns
        ("1,red\n2,blue\n1,red\n", {"header": False}, None, "ns"),  # a row that occurs twice
        ("t,n\n2024-05-01 12:00:00 UTC,1\n2024-05-02 12:00:00.5 UTC,2\n", {}, ["t", "n"], "dn"),  # BigQuery
        ("p,x,s\ne,x,s\np,y,y\n", {"header": False}, None, "sss"),  # UCI's mushrooms: letters occur again
        ("text,label\nhi there,ham\nyo,spam\n", {}, ["text", "label"], "ss"),
        (",a,b\n0,5.1,x\n1,4,y\n", {}, ["_c0", "a", "b"], "nns"),  # pandas' index
        ('"a","b"\n"1",5.1,"x"\n"2",4,"y"\n', {}, ["_c0", "a", "b"], "nns"),  # R's names of rows
        ("x,ok\n1,true\n2,False\n", {}, ["x", "ok"], "nb"),
        # marks
        ("a;b\n1.234,5;x\n3.500;y\n", {"delimiter": ";", "decimal": ",", "thousands": "."}, None, "ns"),
        ('a,b\n"1,234.56",x\n"3,500",y\n', {"thousands": ","}, ["a", "b"], "ns"),
        ('a,b\n"1,234",x\n"3,500",y\n', {"thousands": ","}, ["a", "b"], "ns"),
        ('a,b\n"1,5",x\n"3,25",y\n', {"decimal": ","}, ["a", "b"], "ns"),
        ("a;b\n1 234,5;x\n12,5;y\n", {"delimiter": ";", "decimal": ",", "thousands": " "}, None, "ns"),
        ("a;b\n1'234.5;x\n12.5;y\n", {"delimiter": ";", "thousands": "'"}, None, "ns"),
        ("a,b\n5%,x\n12.5 %,y\n", {"units": ("%",)}, ["a", "b"], "ns"),
        (
            "a;b\n5%;€ 1.234,50\n;€ 2,50\n",
            {"delimiter": ";", "decimal": ",", "thousands": ".", "units": ("%", "€")},
            ["a", "b"],
            "nn",
        ),
        ('a,b\n"$1,234.50",x\n"-$2,000.00",y\n', {"thousands": ",", "units": ("$",)}, ["a", "b"], "ns"),
        ("5%,1\n6%,2\n", {"header": False, "units": ("%",)}, None, "nn"),
        ("a,b\n5%,1\n0.05,2\n", {}, ["a", "b"], "sn"),  # of the same share?
        ("a,b\n5%,1\n0,2\n", {"units": ("%",)}, ["a", "b"], "nn"),
        ("a,b\n5%,$1\n7%,€2\n", {"units": ("%",)}, ["a", "b"], "ns"),
        ("a,b\n19M,x\n201k,y\n500,z\n", {"units": ("k=1000", "M=1000000")}, ["a", "b"], "ns"),  # Google Play
        (
            'a,b\n€110.5M,"10,000+"\n€565K,"5,000+"\n€0,0\n',
            {"thousands": ",", "units": ("€", "+", "K=1000", "M=1000000")},
            ["a", "b"],
            "nn",
        ),
        ("a,b\n2+,x\n3,y\n2-,z\n", {}, ["a", "b"], "ss"),  # marks
        ("a,b\n18-24,1\n50+,2\n", {}, ["a", "b"], "sn"),
        ("a,b\n5kg,1\n700g,2\n", {}, ["a", "b"], "sn"),
        ('a,b\n"(1,234.50)",x\n"2,000.00",y\n"($5.00)",z\n', {"thousands": ","}, ["a", "b"], "ss"),
        ('a,b\n"$(1,234.50)",x\n"$2,000.00",y\n', {"thousands": ",", "units": ("$",)}, ["a", "b"], "ns"),
        ("a;b\n1,234;1.5\n2,500;2.5\n", {"delimiter": ";", "thousands": ","}, None, "nn"),
        ("a;b\n0,234;x\n2,500;y\n", {"delimiter": ";", "decimal": ","}, None, "ns"),  # no group
        ("a;b\n18.00.00;1.5\n19.00.00;2.5\n", {"delimiter": ";"}, None, "dn"),
        # gaps
        ("a,b\n1,NA\n2,5\nNaN,7\n", {"na_values": ("NA", "NaN")}, ["a", "b"], "nn"),
        ("a,land\n1,NA\n2,DE\n", {}, ["a", "land"], "ns"),  # Namibia, not a missing value
        ("a,b\n1,\n2,\n", {}, ["a", "b"], "ne"),
    ],
)  # fmt: skip
def test_what_is_detected(text, found, names, of):
    sample = detect(text.encode())
    assert changes(sample.dialect) == found
    plain = "ab"[: len(of)] if found.get("header", True) else [f"_c{i}" for i in range(len(of))]
    assert sample.names == (names or list(plain))
    assert kinds(sample) == [{"n": NUMBER, "s": STRING, "d": DATE, "b": BOOLEAN, "e": EMPTY}[c] for c in of]


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("latin-1", "latin-1"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
def test_encodings(encoding, found):
    sample = detect("größe;né\n1,5;oui\n2,5;non\n".encode(encoding))
    assert (sample.dialect.encoding, sample.names) == (found, ["größe", "né"])


def test_windows_characters_are_not_latin_1():
    sample = detect("price,unit\n1,€\n2,“x”\n".encode("cp1252"))
    assert (sample.dialect.encoding, sample.rows[0]) == ("cp1252", ["1", "€"])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "it has no lines"),
        (b"\n\n", "it has no lines"),
        (b"a,label\n1,0\n2\n", "at best, most rows have 2 fields and row 3 has 1; set delimiter and quote"),
        (b"City, ST;txt\nNew York, NY;hi\nA, B;yo\n", "',' and ';' fit alike; set delimiter"),
        (b"Report\na,b\n1,2\n3,4\n", "the columns' names seem to be in row 2; remove what is above"),
        (  # World Bank
            b'"Source","WDI",\n\n"Updated","2024",\n\n"Country","1960","1961",\n"A","1","2",\n"B","3","4",\n',
            "the columns' names seem to be in row 3; remove what is above",
        ),
        (b"a;b\n1,500;x\n3,500;y\n", "whether 1,234 has a decimal comma: set decimal=',' or thousands=','"),
        (b"a,b\n1,2\n3,4\na,b\n5,6\n", "row 4 has the columns' names again, as files that were joined do"),
        (b"\xef\xbb\xbfa,b\n1,x\n\xef\xbb\xbfa,b\n5,y\n", "row 3 has the columns' names again"),
        (b"PAR1", "it is not CSV but Parquet"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet: unpack it, or save it as CSV"),
        (b'{"a":1,"b":2}\n', "it is not CSV but JSON lines"),
        (
            b"1 3:0.5 7:1.2\r\n0 1:3\n",
            "it is not CSV but LIBSVM's format, which --source libsvm",
        ),
        (b"\x00\x01nonsense", "it is binary: it has zero bytes"),
    ],
)
def test_what_cannot_be_detected_names_the_option(data, error):
    with pytest.raises(ValueError) as raised:
        detect(data)
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("City, ST;txt\nNew York, NY;hi\n", {"delimiter": ";"}, {"delimiter": ";"}),
        ("a;b\n1,500;x\n3,500;y\n", {"decimal": ","}, {"delimiter": ";", "decimal": ","}),
        ("a,b\n5 kg,x\n7 kg,y\n", {"units": ("g", "kg=1000")}, {"units": ("g", "kg=1000")}),
        ("a;b\n1,500;x\n3,500;y\n", {"thousands": ","}, {"delimiter": ";", "thousands": ","}),
        ("a,b\nc,d\n", {"header": False}, {"header": False}),
        ("a,b\n-200,x\n-200.0,y\n5,z\n", {"na_values": ("-200",)}, {"na_values": ("-200",)}),
    ],
)
def test_what_is_given_is_not_detected(text, options, found):
    assert changes(detect(text.encode(), given=options).dialect) == found


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character; got ';;'"),
        ({"decimal": ""}, "decimal must be one character; got ''"),
        ({"quote": "''"}, "quote must be one character, or empty for none; got \"''\""),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands must differ; got ',' for both"),
        ({"encoding": "klingon"}, "encoding must be one that Python knows; got 'klingon'"),
        ({"encoding": "ascii"}, "encoding must be the file's; got 'ascii': ordinal not in range(128)"),
    ],
)
def test_an_invalid_option_raises_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        detect("a,é\n1,2\n".encode(), given=options)
    assert str(raised.value) == error


def test_a_number_among_the_gaps_means_all_its_forms():
    dialect = Dialect(decimal=",", na_values=("-200", "?"))
    missing = [dialect.is_missing(field) for field in ("-200", "-200,0", " -200 ", "?", "", " ", "200", "x")]
    assert missing == [True, True, True, True, True, True, False, False]


def test_values_by_the_kind_of_the_column():
    dialect = Dialect(decimal=",", thousands=".", na_values=("?",))
    of_number = {"12": 12, " 1.234,50 ": 1234.5, "?": None, "what": "what", "1e3": 1000.0, "1.234": 1234}
    assert {field: dialect.value(field, NUMBER) for field in of_number} == of_number
    assert dialect.value("-inf", NUMBER) == float("-inf")
    assert [dialect.value(field, BOOLEAN) for field in ("True", "false", "?", "x")] == [
        True,
        False,
        None,
        "x",
    ]
    assert [dialect.value(field, STRING) for field in ("12", "true", "")] == ["12", "true", None]


def test_a_bad_cell_in_a_hundred_does_not_make_strings_of_numbers():
    assert Dialect().kind(["1.5"] * 199 + ["what?"] * 2) == NUMBER
    assert Dialect().kind(["1.5"] * 19 + ["what?"]) == STRING


def test_a_cut_sample_ends_before_its_last_line():
    text = "a,b\n" + "".join(f'{i},"x\ny, {i}"\n' for i in range(300))
    for size in range(len(text) - 40, len(text), 3):
        sample = detect(text.encode()[:size], whole=False)
        assert changes(sample.dialect) == {}
        assert sample.rows[0] == ["0", "x\ny, 0"]


def test_a_cut_character_is_not_another_encoding():
    text = ("a,b\n" + "1,é\n" * 100).encode()
    assert detect(text[:-2], whole=False).dialect.encoding == "utf-8"


def test_rows_of_another_width_and_quotes_that_do_not_fit():
    assert fit(["1", "2", "", ""], 2) == ["1", "2"]
    for row in (["1"], ["1", "2", "3"]):
        with pytest.raises(RowError, match=f"it has {len(row)} fields, and the file 2 columns"):
            fit(row, 2)
    with pytest.raises(RowError, match="a quote does not fit"):
        list(read_rows(['1,"a"b\n'], Dialect()))


words = st.text("abcxyz ,;\"'é\n0123456789.-", max_size=8).map(str.strip)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), words, st.integers(-99, 99)), min_size=12, max_size=20),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_that_python_writes_is_read_as_it_was(rows, delimiter, end, encoding):
    """Whatever is in a string: the numbers around it show the delimiter."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerows([["size", "a name", "count"], *([f"{x:.3f}", f"w{word}", n] for x, word, n in rows)])
    sample = detect(file.getvalue().encode(encoding))
    assert (sample.dialect.delimiter, sample.names) == (delimiter, ["size", "a name", "count"])
    assert sample.column(1) == [f"w{word}" for _, word, _ in rows]
    assert [sample.dialect.value(field, NUMBER) for field in sample.column(2)] == [n for _, _, n in rows]


@pytest.mark.parametrize(("decimal", "thousands"), [(".", ","), (",", "."), (",", " "), (".", "'")])
def test_numbers_with_marks(decimal, thousands):
    rng = random.Random(0)
    for _ in range(200):
        number = round(rng.uniform(-1e7, 1e7), rng.randrange(4))
        text = f"{number:,}".replace(",", "T").replace(".", decimal).replace("T", thousands)
        assert number_pattern(decimal, thousands).fullmatch(text)
        assert Dialect(decimal=decimal, thousands=thousands).parse_number(text) == number
    for text in ("1,2,3", "01,234", "1,23", "12,", ",123", "--1", "1,234,5"):
        assert number_pattern(".", ",").fullmatch(text) is None


def test_a_number_of_a_file_is_that_of_a_record():
    """A column that is sent as numbers, and the same fields as strings with the settings of the dialect."""
    units = ("%", "$", "US$", "k=1000", "M=1e6", "+")
    form, rules = (
        Dialect(thousands=",", units=units),
        Rules(True, True, thousands=",", units=parse_units(units)),
    )
    rng = random.Random(0)
    for _ in range(500):
        parts = ["", "", "-", "("], ["", "$", "US$", "x"], ["", " "], ["5", "1,234.5", "0", "1e3", "12,34"]
        before, sign, blank, number, after, end = (
            rng.choice(each) for each in (*parts, ["", "k", "M", "%", "+", "k%"], ["", ")"])
        )
        text = f"{before}{sign}{blank}{number}{blank}{after}{end}"
        try:
            expected = to_number(text, rules)
        except BadRecord:
            expected = None
        assert form.parse_number(text) == expected, text
