"""Tables fit, are aligned, and carry no control characters; JSON and CSV are what programs expect."""

import csv
import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import render
from cli.render import Column

COLUMNS = (
    Column(title="ID"),
    Column(title="SIZE", right=True),
    Column(title="NOTE", least=4, from_width=60),
    Column(title="SUBJECT", least=6),
)
ROWS = [
    ("a1", "1 B", "n", "Invoice 4711 and everything that goes with it"),
    ("b2", "48.3 MB", "note", "会議の議事録を送ります"),
]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_every_column_aligned_and_uncut(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(COLUMNS, ROWS)
    assert printed(capsys) == [
        "ID     SIZE  NOTE  SUBJECT",
        "a1      1 B  n     Invoice 4711 and everything that goes with it",
        "b2  48.3 MB  note  会議の議事録を送ります",
    ]


def test_columns_limits_the_width_and_drops_what_there_is_no_room_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    render.table(COLUMNS, [*ROWS, ("c3", "2 B", "n", "会議の議事録を送りますのでご確認ください")])
    assert printed(capsys) == [
        "ID     SIZE  SUBJECT",
        "a1      1 B  Invoice 4711 and everythin…",
        "b2  48.3 MB  会議の議事録を送ります",
        "c3      2 B  会議の議事録を送りますので…",
    ]


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=20))
def test_no_line_is_wider_than_allowed_and_none_moves_the_cursor(rows: list[tuple[str, str]]) -> None:
    columns = (Column(title="ONE", least=4), Column(title="TWO", least=4))
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setenv("COLUMNS", "44")
        render.table(columns, rows)
    lines = out.getvalue().split("\n")[:-1]
    assert len(lines) == len(rows) + 1
    assert all(render.cells(line) <= 44 and line.isprintable() for line in lines)


def test_what_was_cut_is_told_below_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = (Column(title="WHO"), Column(title="NOTE", least=4), Column(title="WHY", least=8, in_full=": "))
    same = "the same long reason for several"
    rows = [("a", "x" * 40, same), ("b", "", "short"), ("c", "", same), ("d", "", "another reason, as long")]
    monkeypatch.setenv("COLUMNS", "40")
    render.table(columns, rows)
    assert printed(capsys)[5:] == [
        "  a and 1 more: the same long reason for",
        "  several",
        "  d: another reason, as long",
    ]
    monkeypatch.setenv("COLUMNS", "200")
    render.table(columns, rows)
    assert len(printed(capsys)) == 1 + len(rows)


def test_rows_are_taken_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes after the measured rows does not change the widths any more."""
    count = render.MEASURED_ROWS
    rows = ((str(number), "x") for number in range(count * 2 + 1))
    render.table((Column(title="N"), Column(title="X")), rows)
    lines = printed(capsys)
    assert len(lines) == count * 2 + 2
    assert lines[count] == f"{count - 1}  x"
    assert lines[-1] == f"{count * 2}  x"


def test_a_paragraph_is_wrapped_behind_its_label(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = " said 550 5.1.1 no such user here, and a-word-that-is-much-longer-than-any-line-would-ever-be"
    render.paragraph(("home", "bold"), text, first="  Why", indent=8)
    assert printed(capsys) == [
        "  Why   home said 550 5.1.1 no such user",
        "        here, and",
        "        a-word-that-is-much-longer-than-any-line-would-ever-be",
    ]


def test_what_strangers_wrote_loses_its_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    render.line("Subject: \x1b[31mred\x07\r\nnext\u202e")
    assert printed(capsys) == ["Subject:  [31mred   next"]


def test_json_times_are_utc_with_z(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    render.json_line({"at": datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC), "text": "Grüße\x1b"})
    render.json_line({"at": None})
    out = capfdbinary.readouterr().out
    assert out == b'{"at":"2026-03-01T12:00:00.000005Z","text":"Gr\xc3\xbc\xc3\x9fe\\u001b"}\n{"at":null}\n'
    assert [json.loads(line) for line in out.splitlines()][1] == {"at": None}


def test_json_has_no_control_characters_and_says_what_they_were(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    told = {"uidl": "".join(map(chr, range(0xFF)))}
    render.json_line(told)
    out = capfdbinary.readouterr().out
    assert json.loads(out) == told
    assert not [c for c in out.decode().rstrip("\n") if c < " " or "\x7f" <= c <= "\x9f"]
    assert b"\\u009b" in out
    assert b"\\u007f" in out


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a\x1b]0;b\x07\x9bc\r\nd", "a ]0;b  c  d"),
        ("\u200fa\u061cb\U000e0041c", " a b c"),
        ("=1+1", "'=1+1"),
        ("\t=1+1", "' =1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\uff20a", "'\uff20a"),
        ("x;=cmd|' /C calc'!A0", "x;'=cmd|' /C calc'!A0"),
        ('x;"=1+1;-2', "x;'\"=1+1;'-2"),
        ("a=b; c-d; 1+1", "a=b; c-d; 1+1"),
    ],
)
def test_csv_is_clean_and_no_formula(text: str, cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.comma_separated(None, [[text]])
    assert list(csv.reader(StringIO(capsys.readouterr().out))) == [[cell]]


@given(st.text())
def test_json_with_escapes_says_the_same(text: str) -> None:
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert json.loads(render.escaped(written)) == text
        assert render.escaped(written).isprintable()


def test_csv_comes_back_as_it_was_but_for_what_a_spreadsheet_would_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = (
        "a",
        None,
        7,
        'with "quotes", and\nlines',
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        "=HYPERLINK(1)",
        -3,
    )
    render.comma_separated(("id", "none", "n", "text", "at", "formula", "minus"), [row])
    read = list(csv.reader(StringIO(capsys.readouterr().out)))
    assert read == [
        ["id", "none", "n", "text", "at", "formula", "minus"],
        ["a", "", "7", 'with "quotes", and lines', "2026-03-01T12:00:00Z", "'=HYPERLINK(1)", "-3"],
    ]
