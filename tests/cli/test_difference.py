"""`diff` says what changed between two times: counts first, then the messages."""

import csv
from io import StringIO

import pytest

from tests.cli.stock import Stock
from tests.cli.test_message import FIELDS

NOON, TWO, END = "2026-03-01T12:30:00Z", "2026-03-01T14:30:00Z", "2026-03-02T00:00:00Z"


def test_messages_that_came_in_and_those_that_changed_are_told_apart(stock: Stock) -> None:
    rows = {row["id"]: row for row in stock.mailgate("diff", "2026-03-01T12:00:00.1Z", END, "--json").json}
    assert {row["change"] for row in rows.values()} == {"came-in", "changed"}
    assert [list(row) for row in rows.values()] == [[*FIELDS, "change", "was", "closed"]] * len(rows)
    delivered = rows[stock.ids["delivered"]]
    assert (delivered["was"], delivered["state"], delivered["closed"]) == (
        "outcome-unknown",
        "delivered",
        True,
    )
    received = rows[stock.ids["received"]]
    assert (received["change"], received["was"], received["closed"]) == ("came-in", None, False)


def test_counts_come_first_then_the_messages(stock: Stock) -> None:
    answer = stock.mailgate("diff", NOON, "2026-03-01T13:30:00Z")
    assert answer.lines == [
        "From 2026-03-01 12:30:00 to 2026-03-01 13:30:00: 2 came in, 0 others changed; 1 was closed.",
        "",
        "FROM       TO         MESSAGES",
        "(came in)  delivered         1",
        "(came in)  deferred          1",
        "",
        *stock.mailgate("diff", NOON, "2026-03-01T13:30:00Z", "--limit", "0").lines[6:],
    ]
    assert [line.split()[0] for line in answer.lines[7:]] == [stock.ids["notice"], stock.ids["mixed"]]


def test_filters_mean_the_messages_as_they_stood_then(stock: Stock) -> None:
    def found(*arguments: str) -> list[str]:
        return [row["id"] for row in stock.mailgate("diff", NOON, TWO, "--json", *arguments).json]

    assert found("--state", "held") == [stock.ids["held"]]
    assert found("--text", "carol") == [stock.ids["unknown"]]
    assert found("--until", "2026-03-01T13:30:00Z") == [stock.ids["notice"], stock.ids["mixed"]]


def test_csv_has_a_line_for_each(stock: Stock) -> None:
    lines = list(csv.reader(StringIO(stock.mailgate("diff", NOON, TWO, "--csv").out)))
    assert lines[0] == ["was", *FIELDS]
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("2026-01-01", "2026-01-02"), 1, "nothing changed"),
        ((TWO, NOON), 2, "T1 must be before T2: 2026-03-01 14:30:00 is not before 2026-03-01 12:30:00"),
        ((NOON, TWO, "--json", "--csv"), 2, "--json and --csv don't go together"),
    ],
)
def test_what_means_nothing_or_finds_nothing(
    arguments: tuple[str, ...], code: int, complaint: str, stock: Stock
) -> None:
    answer = stock.mailgate("diff", *arguments)
    assert (answer.code, answer.complaint) == (code, complaint)


def test_a_time_that_is_none_is_named_by_its_place(stock: Stock) -> None:
    assert stock.mailgate("diff", "yesterday").complaint.startswith("T1: 'yesterday' is not a time")
    assert stock.mailgate("diff", "2h", "later").complaint.startswith("T2: 'later' is not a time")
