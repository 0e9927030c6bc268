"""Times as people write them are understood or refused; times, spans and sizes are shown shortly."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import times
from cli.context import Misuse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", NOON - timedelta(hours=2)),
        ("90s", NOON - timedelta(seconds=90)),
        ("5m", NOON - timedelta(minutes=5)),
        ("3d", NOON - timedelta(days=3)),
        ("1w", NOON - timedelta(days=7)),
        ("2026-02-28T10:00:00Z", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        ("2026-02-28T10:00:00+02:00", datetime(2026, 2, 28, 8, tzinfo=UTC)),
        ("2026-02-28t10:00:00z", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 2, 1, tzinfo=UTC)),  # the ends of the calendar: ever, and never
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 1, tzinfo=UTC)),
        ("2026-02-28 10:00:00.5Z", datetime(2026, 2, 28, 10, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_time_is_rfc_3339_or_relative(text: str, meant: datetime) -> None:
    assert times.read(text, "--since", NOON) == meant


def test_a_time_without_a_zone_is_the_machines_own() -> None:
    assert times.read("2026-02-28", "--since", NOON) == datetime(2026, 2, 28).astimezone()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5x",
        "h",
        "2 h",
        "-2h",
        "yesterday",
        "99999999w",
        "2026-02-28T10:00:61Z",
        "10000-01-01",
    ],
)
def test_what_is_no_time_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(Misuse, match=r"^--since: .* is not a time: write it as 2h, 3d, ") as refused:
        times.read(text, "--since", NOON)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("10s", 10), ("5m", 300), ("90m", 5400), ("1h", 3600), ("2d", 172_800), ("1w", 604_800)],
)
def test_a_duration_is_a_number_and_a_unit_and_is_written_as_it_is_read(text: str, seconds: int) -> None:
    found = times.duration(text, "--slower")
    assert found == timedelta(seconds=seconds)
    assert times.duration(times.written(found), "--slower") == found


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "2026-03-01", "999999999d"])
def test_what_is_no_duration_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(Misuse, match=r"^--slower: .* is not a duration: write it as 10s, 5m, 1h or 2d$"):
        times.duration(text, "--slower")


def test_a_time_is_written_so_that_it_is_read_as_the_same_anywhere() -> None:
    for at in (NOON, NOON + timedelta(microseconds=7)):
        assert times.read(times.exact(at) or "", "--at", NOON) == at


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_misuse(text: str) -> None:
    try:
        found = times.read(text, "--since", NOON)
    except Misuse:
        return
    assert found.utcoffset() is not None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0ms"),
        (0.2124, "212ms"),
        (0.9999, "1.0s"),
        (3.21, "3.2s"),
        (9.97, "10s"),
        (59.7, "1m"),
        (303, "5m 3s"),
        (3600, "1h"),
        (7500, "2h 5m"),
        (273_600, "3d 4h"),
        (-300, "-5m"),
    ],
)
def test_a_span_has_its_one_or_two_largest_units(seconds: float, shown: str) -> None:
    assert times.span(timedelta(seconds=seconds)) == shown


def test_away_says_which_direction() -> None:
    assert times.away(NOON + timedelta(minutes=4), NOON) == "in 4m"
    assert times.away(NOON - timedelta(minutes=4), NOON) == "4m ago"
    assert times.away(NOON + timedelta(milliseconds=300), NOON) == "now"


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (35_000_000, "35.0 MB"), (2 * 10**9, "2.0 GB")],
)
def test_a_size_has_a_unit(octets: int, shown: str) -> None:
    assert times.size(octets) == shown


def test_a_brief_time_names_the_year_where_it_is_another() -> None:
    year_ago = NOON - timedelta(days=365)
    assert times.brief(year_ago, NOON) == times.day(year_ago)
    assert len(times.brief(NOON, NOON)) == len("03-01 12:00")
