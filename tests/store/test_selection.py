"""Who leads a search, and how a span of time becomes a span of positions."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import Engine

from store import queries, selection
from store.database import reading
from store.leads import Bounds, Span
from store.log import Append
from store.read_tables import happenings, hours
from store.selection import Filter
from tests.store.build import (
    after,
    append,
    attempted,
    deferred,
    delivered,
    downloaded,
    opening,
    removed,
    rows,
    then,
)


def at(stream: str, **span: float) -> Append:
    """A message that was taken in so long after NOW, or before."""
    return Append(stream, None, (downloaded(),), after(**span), b"Subject: x\r\n\r\n")


def leading(engine: Engine, wanted: Filter) -> str:
    """The column whose index leads."""
    with reading(engine) as connection:
        span = selection.between(connection, wanted.since, wanted.until)
        leads = selection.fewest_first(connection, list(selection.leads_of(wanted)), span)
    return str(leads[0].column.key)


def test_the_filter_that_fewest_fit_leads(store: Engine) -> None:
    for number in range(30):
        mailbox = "attic" if number == 7 else "info"
        sender = "hermit@hut.example" if number in (3, 9) else "anna@customer.example"
        append(store, opening(f"m{number}", mailbox=mailbox, reverse_path=sender, uidl=f"u{number}"))
    busy = {"recipient": "info@example.com", "sender": "anna@customer.example"}
    assert leading(store, Filter(mailbox="attic", **busy)) == "mailbox"
    assert (
        leading(store, Filter(recipient="info@example.com", sender="hermit@hut.example"))
        == "reverse_path_key"
    )
    assert leading(store, Filter(event="held", **busy)) == "name"
    assert leading(store, Filter(recipient="nobody@example.com", mailbox="attic")) == "address_key"
    assert (
        leading(store, Filter(recipient="nobody@example.com", mailbox="none", state="held")) == "address_key"
    )


def test_where_all_are_many_counting_ends(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "COUNTED", 2)
    for number in range(9):
        mailbox = "info" if number < 5 else "sales"
        append(store, opening(f"m{number}", mailbox=mailbox, uidl=f"u{number}"))
    assert leading(store, Filter(recipient="info@example.com", mailbox="info")) == "address_key"
    with reading(store) as connection:
        found = list(queries.every(connection, Filter(recipient="info@example.com", mailbox="info")))
    assert [one["id"] for one in found] == ["m4", "m3", "m2", "m1", "m0"]


def test_a_span_of_time_is_found_though_clocks_go_back(store: Engine) -> None:
    random = Random(5)
    spans = [random.choice((-400, -1, 0, 0.5, 1, 59, 60, 61, 90, 500)) for _ in range(40)]
    opened = [at(f"m{number}", minutes=span) for number, span in enumerate(spans)]
    append(store, *opened)
    for since in (*{one.at for one in opened}, after(days=-3)):
        for until in (since + timedelta(minutes=30), since + timedelta(minutes=61), since, None):
            with reading(store) as connection:
                found = {one["id"] for one in queries.every(connection, Filter(since=since, until=until))}
            expected = {one.stream for one in opened if since <= one.at and (until is None or one.at < until)}
            assert found == expected


def test_hours_span_the_positions_of_what_happened_in_them(store: Engine) -> None:
    append(store, at("m0"), at("m1", hours=1))
    append(store, at("m2"), at("m3", hours=-1))
    last = at("m4", hours=1)
    append(store, last, then(last, attempted(), at=after(hours=2)))
    found = {(row["first"], row["last"]) for row in rows(store, hours)}
    assert found == {(1, 3), (2, 5), (4, 4), (6, 6)}


def test_events_are_found_by_time_though_clocks_go_back(store: Engine) -> None:
    spans = (0, 5, -5, 90, 30, -90, 300, 61)
    append(store, *(at(f"m{number}", minutes=span) for number, span in enumerate(spans)))
    for since in (-200, -90, -5, 0, 31, 90, 299, 301, 2000):
        with reading(store) as connection:
            found = [row.stream for row in queries.log_rows(connection, since=after(minutes=since))]
        assert found == [f"m{number}" for number, span in enumerate(spans) if span >= since]


def test_each_kind_of_event_is_noted_once_of_a_message(store: Engine) -> None:
    first = opening()
    second = then(first, attempted(), deferred())
    third = then(second, attempted(attempt=2), deferred(attempt=2))
    append(store, first)
    append(store, second, third)
    append(store, then(third, attempted(attempt=3), delivered(attempt=3), removed()))
    noted = {(row["name"], row["message"]) for row in rows(store, happenings)}
    assert noted == {("deferred", 1), ("delivered", 1), ("removed-from-source", 1)}


def test_a_page_in_the_middle_of_a_span_has_one_bound_above() -> None:
    """SQLite begins at the first of two, and walks from there to the other."""
    for before, last in ((7, 6), (9, 8), (99, 8)):
        query = selection.chosen(Filter(), [], Bounds(Span(3, 8), before))
        asked = str(query.compile(compile_kwargs={"literal_binds": True}))
        assert asked.count("messages.position <") == 1
        assert f"messages.position <= {last}" in asked
