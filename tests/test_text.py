"""Text and tables of other programs: characters, separators, quotes, decimal commas."""

import csv
import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.text import decode_text, is_number, parse_numbers, parse_table, read_table, read_text

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_and_end_of_line(encoding, end):
    text = "Größe;Fläche V1;ñandú\n1,5;2;3\n"
    assert decode_text(text.replace("\n", end).encode(encoding)) == text


def test_byte_order_marks_without_their_encoding_name():
    for name, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\x00\x00\xfe\xff")):
        assert decode_text(mark + "V1,é\n".encode(name)) == "V1,é\n"


def test_windows_and_old_mac_characters():
    assert decode_text("area “V1” … 5 €\n".encode("cp1252")) == "area “V1” … 5 €\n"
    assert decode_text("Größe\rFläche\r".encode("mac_roman")) == "Größe\nFläche\n"


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\x00\x00\x01")
    (tmp_path / "cut.csv").write_bytes(b"\xff\xfea\x00b")
    for name, message in (("a.csv", "binary"), ("cut.csv", "utf-16"), ("gone.csv", "no file")):
        with pytest.raises(ValueError, match=message) as caught:
            read_text(tmp_path / name)
        assert name in str(caught.value)


TABLES = {
    "a,b\n1,2\n": (",", [["a", "b"], ["1", "2"]]),
    ";a;b\na;0;1,5\nb;2,5;0\n": (";", [["", "a", "b"], ["a", "0", "1,5"], ["b", "2,5", "0"]]),
    "1,5;2,5\n0,5;1,5\n": (";", [["1,5", "2,5"], ["0,5", "1,5"]]),
    "a\tb, c\n1\t2\n": ("\t", [["a", "b, c"], ["1", "2"]]),
    '"V1, left";"x;y"\n1;2\n': (";", [["V1, left", "x;y"], ["1", "2"]]),
    '"V1; left",b\n1,2\n': (",", [["V1; left", "b"], ["1", "2"]]),
    '"say ""V1""",b\n1,2\n': (",", [['say "V1"', "b"], ["1", "2"]]),
    "a|b\n1|2\n": ("|", [["a", "b"], ["1", "2"]]),
    "   1.0e+00   2.0e+00\n   3.0e+00 \t 4.0e+00  \n": (" ", [["1.0e+00", "2.0e+00"], ["3.0e+00", "4.0e+00"]]),
    '"V1" "V2"\n"1" 0 4\n"2" 4 0\n': (" ", [["V1", "V2"], ["1", "0", "4"], ["2", "4", "0"]]),
    "sep=;\na;b\n1;2\n": (";", [["a", "b"], ["1", "2"]]),
    "a;b\n1;2;\n3;4;\n": (";", [["a", "b"], ["1", "2"], ["3", "4"]]),
    "medial wall\nV1\nV1\n": (",", [["medial wall"], ["V1"], ["V1"]]),
    ",,\n1,,\n": (",", [["", "", ""], ["1", "", ""]]),
}


@pytest.mark.parametrize("text", TABLES)
def test_separators(text):
    table = parse_table(text)
    assert (table.separator, table.rows) == TABLES[text]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0,0 1,5\n2,5 0,0\n", [["0,0", "1,5"], ["2,5", "0,0"]]),
        ("0 1,5  -2,5e1\n1,5 0 3\n", [["0", "1,5", "-2,5e1"], ["1,5", "0", "3"]]),
        ("0 1 1,5\n1 2 2,5\n", [["0", "1", "1,5"], ["1", "2", "2,5"]]),
        ("area 1,5,3\narea 2,7,2\n", [["area 1", "5", "3"], ["area 2", "7", "2"]]),
        ("area 1,5\narea 2,7\n", [["area 1", "5"], ["area 2", "7"]]),
        ("1,2, 3\n4,5, 6\n", [["1", "2", "3"], ["4", "5", "6"]]),
    ],
)
def test_decimal_commas_between_blanks(text, rows):
    assert parse_table(text).rows == rows


def test_comments_and_tables_of_one_file(tmp_path):
    (tmp_path / "a.csv").write_text("# made by hand\n\na,b\n1,2\n")
    table = read_table(tmp_path / "a.csv")
    assert table.rows == [["a", "b"], ["1", "2"]]
    assert table.comments == ("made by hand",)
    assert parse_table("left wall\nright wall\n", separators=",;\t").rows == [["left wall"], ["right wall"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "row 2 has 1 cells, row 1 has 2"),
        ("a,b,c\n1,2,3\n1,2,3,4\n", "row 3 has 4 cells, row 1 has 3"),
        ('a,b\n"1,2\n3,4\n', "quotes are broken"),
        ("# only this\n", "no rows"),
        ("a b 1,5\nb c 2,5\n", "'b c 2,5' may have a decimal comma, or two cells with a comma between them"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(tmp_path / "a.csv")
    assert "a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


NUMBERS = [
    (["1.5", "2", "-3e2", ".5", "5.", "+1", "1D+02"], ",", [1.5, 2, -300, 0.5, 5, 1, 100]),
    (["1,5", "2", "-3e2", ",5", "5,"], ";", [1.5, 2, -300, 0.5, 5]),
    (["1.234,5", "1.234", "7"], ";", [1234.5, 1234, 7]),
    (["1,234.5", "1,234", "7"], ",", [1234.5, 1234, 7]),
    (["1,234,567", "1,234"], ",", [1234567, 1234]),
    (["1,234", "0,5"], "\t", [1.234, 0.5]),
    (["1,234", "5"], ";", [1.234, 5]),
    (["1.234"], ";", [1.234]),
    (["0,123"], "\t", [0.123]),
    (["\N{MINUS SIGN}2"], ",", [-2]),
    (["", "V1", "1_000", "1.2.3", "1-2", "0x10"], ",", [None] * 6),
    (["inf", "-Inf"], ",", [math.inf, -math.inf]),
]


@pytest.mark.parametrize(("cells", "separator", "expected"), NUMBERS)
def test_numbers(cells, separator, expected):
    assert parse_numbers(cells, separator) == expected
    assert [is_number(cell) for cell in cells] == [number is not None for number in expected]


def test_numbers_that_are_missing():
    assert all(math.isnan(number) for number in parse_numbers(["NaN", "NA", "n/a", "NULL"]))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,5", "1.5"], "'1,5' has a decimal comma and '1.5' a decimal point"),
        (["1,234", "5"], "'1,234' may be a decimal comma or thousands"),
    ],
)
def test_numbers_that_contradict_each_other(cells, message):
    with pytest.raises(ValueError, match=message):
        parse_numbers(cells, "\t")


CELL = st.text("abcÄé ,;|#\"'1.-", min_size=1, max_size=6).map(str.strip).filter(lambda cell: cell and cell[0] != "#")


@settings(max_examples=60)
@given(
    rows=st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=2, max_size=4)),
    separator=st.sampled_from("\t;,|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_any_table_of_any_program_comes_back(rows, separator, end, encoding):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    table = parse_table(decode_text(text.getvalue().encode(encoding)))
    assert (table.rows, table.separator) == (rows, separator)
