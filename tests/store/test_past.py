"""A store as of a time is what a snapshot taken then showed; what changed between two is what two snapshots differ in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine

from store import between, log, past, queries
from store.database import reading, writing
from store.events import RedeliveryRequested
from store.queries import Filter
from store.recipient import ATTENTION
from store.waiting import Waiting, waiting
from tests.store.build import POLICY, after, append, attempted, delivered, failed, opening, then
from tests.store.conftest import KINDS, Fresh
from tests.store.history import History

Json = dict[str, Any]

# Each with what may change in a message's life, and with what can't.
ASKED = [
    Filter(),
    *(Filter(state=state) for state in ("received", "deferred", "held", "outcome-unknown", "delivered", "failed")),
    Filter(state="rejected-oversize"),
    Filter(next_hop="home"),
    Filter(next_hop="mx"),
    Filter(event="deferred"),
    Filter(event="attempted"),
    Filter(event="removed-from-source"),
    Filter(mailbox="info"),
    Filter(recipient="info@example.com"),
    Filter(recipient="*fo@*"),
    Filter(sender="*@customer.example", state="deferred"),
    Filter(text="invoice"),
    Filter(subject="voice 47"),
    Filter(since=after(minutes=200), state="delivered"),
    Filter(until=after(minutes=200)),
    Filter(direction="internal"),
    Filter(reply="*ok*"),
    Filter(reply="", state="received"),
    Filter(reply="no \N{REPLACEMENT CHARACTER} route"),
    Filter(slower=timedelta(minutes=5)),
    Filter(faster=timedelta(minutes=30), mailbox="info"),
    Filter(kept=True),
    Filter(kept=True, state="deferred"),
]  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What was found at a time, asked then."""

    at: datetime
    listed: list[list[Json]]  # by what was asked
    queue: list[Waiting]


class Chronicle:
    """A store, and snapshots that were taken while its history was played."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.snapshots: list[Snapshot] = []
        before: datetime | None = None
        for number, unit in enumerate(History(Random(seed)).units(260)):
            now = unit.appends[0].at
            if before is not None and now > before and number % 20 > 17:
                self.snapshots.append(self._taken(before))
            with writing(engine) as connection:
                assert log.append(connection, [unit]) == [None]
            before = now

    def _taken(self, at: datetime) -> Snapshot:
        with reading(self.engine) as connection:
            listed = [list(queries.every(connection, wanted)) for wanted in ASKED]
            return Snapshot(at, listed, list(waiting(connection)))


@pytest.fixture(scope="module", params=KINDS)
def chronicle(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Chronicle]:
    with fresh(request.param) as engine:
        yield Chronicle(engine, 43)


def test_a_list_as_of_a_time_is_the_snapshot_taken_then(
    chronicle: Chronicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(chronicle.snapshots) > 8
    hits = 0
    with reading(chronicle.engine) as connection:
        for number, snapshot in enumerate(chronicle.snapshots):
            monkeypatch.setattr(past, "PAGE", 7 if number % 5 else 200)
            for wanted, listed in zip(ASKED, snapshot.listed, strict=True):
                assert list(past.every(connection, wanted, snapshot.at)) == listed, wanted
                hits += bool(listed)
    assert hits > 60


def test_a_queue_as_of_a_time_is_the_snapshot_taken_then(chronicle: Chronicle) -> None:
    with reading(chronicle.engine) as connection:
        for snapshot in chronicle.snapshots:
            assert list(waiting(connection, at=snapshot.at)) == snapshot.queue
    assert max(len(snapshot.queue) for snapshot in chronicle.snapshots) > 5


def test_a_queue_takes_filters(chronicle: Chronicle) -> None:
    with reading(chronicle.engine) as connection:
        for wanted in ASKED:
            expected = [row for row in queries.every(connection, wanted) if row["state"] in ATTENTION]
            assert [one.row for one in waiting(connection, wanted)] == expected[::-1]


def test_before_the_first_message_there_is_nothing(chronicle: Chronicle) -> None:
    with reading(chronicle.engine) as connection:
        assert list(past.every(connection, Filter(), after(days=-400))) == []
        assert list(waiting(connection, at=after(days=-400))) == []


def test_what_changed_is_what_two_snapshots_differ_in(chronicle: Chronicle) -> None:
    kinds: set[tuple[bool, bool]] = set()
    with reading(chronicle.engine) as connection:
        for number, later in enumerate(chronicle.snapshots):
            for earlier in chronicle.snapshots[max(0, number - 3) : number]:
                was = {row["id"]: standing(row) for row in earlier.listed[0]}
                found = list(between.changes(connection, Filter(), earlier.at, later.at))
                expected = [row for row in later.listed[0] if was.get(row["id"]) != standing(row)]
                assert [one.row for one in found] == expected
                for one in found:
                    before = was.get(one.row["id"])
                    assert one.before == (before[0] if before else None)
                    assert one.after == one.row["state"]
                    was_open = before is None or before[0] in ATTENTION
                    assert one.closed == (was_open and one.row["state"] not in ATTENTION)
                    kinds.add((one.before is None, one.closed))
    assert len(kinds) == 4


def test_what_changed_takes_filters_as_of_the_later_time(chronicle: Chronicle) -> None:
    hits = 0
    with reading(chronicle.engine) as connection:
        for earlier, later in pairwise(chronicle.snapshots):
            every = {
                one.row["id"]: one for one in between.changes(connection, Filter(), earlier.at, later.at)
            }
            for wanted, listed in zip(ASKED, later.listed, strict=True):
                expected = [every[row["id"]] for row in listed if row["id"] in every]
                assert list(between.changes(connection, wanted, earlier.at, later.at)) == expected, wanted
                hits += bool(expected)
    assert hits > 20


def standing(row: Json) -> tuple[str, ...]:
    return (row["state"], *(one["state"] for one in row["recipients"]))


def test_somebody_named_by_a_replay_was_not_there_before(store: Engine) -> None:
    first = opening(recipients=("info@example.com",))
    second = then(first, attempted(), failed(), at=after(minutes=1))
    again = RedeliveryRequested(
        numbers=(0,),
        added=1,
        operator="anna",
        reason="wrong address",
        replay="r1",
        policy=POLICY,
        recipients=("info@example.com", "sales@example.com"),
    )
    third = then(second, again, at=after(minutes=9))
    append(store, first)
    append(store, second)
    append(store, third)
    with reading(store) as connection:
        asked = ("recipient", "sales@example.com"), ("text", "sales"), ("recipient", "sal*"), ("replay", "r1")
        for name, value in asked:
            wanted = Filter(**{name: value})
            assert [row["id"] for row in queries.every(connection, wanted)] == ["m1"]
            assert list(past.every(connection, wanted, after(minutes=5))) == []
            assert [row["state"] for row in past.every(connection, wanted, after(minutes=9))] == ["deferred"]


def test_clocks_may_go_back(store: Engine) -> None:
    """What stands before an event of that time had happened by then, whatever its own clock said."""
    first = opening()
    second = then(first, attempted(), at=after(minutes=9))
    third = then(second, delivered(), at=after(minutes=3))
    append(store, first, second, third)
    with reading(store) as connection:
        states = [
            [row["state"] for row in past.every(connection, Filter(), after(minutes=minutes))]
            for minutes in (-1, 0, 2, 3, 9)
        ]
    assert states == [[], ["received"], ["received"], ["delivered"], ["delivered"]]


def test_what_came_in_before_the_clock_went_back_has_come_in(store: Engine) -> None:
    first = opening()
    append(store, first, then(first, attempted(), delivered(), at=after(hours=-1)))
    with reading(store) as connection:
        found = [
            [(one.before, one.after, one.closed) for one in between.changes(connection, Filter(), *span)]
            for span in ((after(minutes=-5), after(minutes=5)), (after(minutes=-5), after(minutes=-1)))
        ]
    assert found == [[(None, "delivered", True)], []]


def test_only_what_changed_since_is_read_from_the_log(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opening()
    other = opening("m2", uidl="u2")
    append(store, first, other)
    append(store, then(first, attempted(), delivered(), at=after(minutes=3)))
    asked: list[list[str]] = []
    read_many = log.read_many

    def counted(connection: Any, streams: Any) -> Any:
        asked.append(list(streams))
        return read_many(connection, streams)

    monkeypatch.setattr(log, "read_many", counted)
    with reading(store) as connection:
        assert len(list(past.every(connection, Filter(), after(minutes=1)))) == 2
        assert len(list(past.every(connection, Filter(), after(minutes=4)))) == 2
    assert asked == [["m1"]]
