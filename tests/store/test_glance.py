"""What is asked every second tells what the whole questions tell, and costs the same whatever the store holds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import event

from store import agenda, glance, log, mailbox_queries, queries
from store.agenda import Claim
from store.database import open_store, reading, writing
from store.events import RedeliveryRequested
from store.mailbox_events import PollFailed
from store.schema import EPOCH
from store.waiting import waiting
from tests.build import Builder, varied


@pytest.fixture
def builder(database_url: str) -> Iterator[Builder]:
    made = Builder(database_url)
    yield made
    made.close()


def deferred(builder: Builder, hop: str = "home") -> str:
    stream = builder.downloaded()
    builder.attempted(stream, hop=hop)
    builder.deferred(stream, builder.at + timedelta(minutes=5), hop=hop)
    return stream


def places(builder: Builder) -> dict[str, glance.Waits]:
    with reading(builder.engine) as connection:
        return {one.name: one for one in glance.waiting(connection)}


def test_what_waits_for_each_next_hop_is_what_the_queue_tells(builder: Builder) -> None:
    varied(builder)
    builder.later(minutes=1)
    deferred(builder, "provider")
    builder.later(minutes=1)
    deferred(builder, "provider")
    until = builder.downloaded()
    builder.held(until, why="operator", until=builder.at + timedelta(hours=1), numbers=(0,))
    with reading(builder.engine) as connection:
        counts, oldest, due = Counter[str](), {}, {}
        for one in waiting(connection):
            for hop, at in one.due.items():
                counts[hop] += 1
                oldest.setdefault(hop, one.row["opened_at"])
                due[hop] = min(due.get(hop, at), at)
    found = places(builder)
    assert {name: one.count for name, one in found.items()} == counts == {"home": 2, "provider": 2, "": 1}
    assert {name: one.oldest_at for name, one in found.items()} == oldest
    assert {name: one.due_at for name, one in found.items()} == due
    assert not any(one.more for one in found.values())


def test_domains_of_direct_delivery_are_one_place(builder: Builder) -> None:
    streams = [deferred(builder, f"mx:d{number}.example") for number in range(3)]
    assert {name: one.count for name, one in places(builder).items()} == {"mx": 3}
    with reading(builder.engine) as connection:
        assert [row["id"] for row in glance.of_place(connection, "mx", 10)] == streams


def test_what_a_person_wants_tried_now_is_told_with_what_waits_there(builder: Builder) -> None:
    streams = [deferred(builder, hop) for hop in ("home", "home", "mx:d.example")]
    for stream, hop in ((streams[1], "home"), (streams[2], "mx:d.example")):
        again = RedeliveryRequested(numbers=(0,), bound_for=hop, operator="anna", policy="p")
        builder.append(stream, again)
    assert {name: one.count for name, one in places(builder).items()} == {"home": 2, "mx": 1}
    with reading(builder.engine) as connection:
        assert {row["id"] for row in glance.of_place(connection, "home", 10)} == set(streams[:2])
        assert agenda.waiting(connection, "home") == 2


def test_what_waits_for_a_person_is_told_by_state(builder: Builder) -> None:
    made = varied(builder)
    builder.scanned(made["received"], "infected")
    builder.quarantined(made["received"])
    retried = builder.downloaded()
    builder.attempted(retried)  # its outcome is unknown, and it is in the agenda
    with reading(builder.engine) as connection:
        found = {one.name: one for one in glance.kept(connection)}
        opened = {row["id"]: row["opened_at"] for row in queries.queue(connection)}
    assert {name: (one.first, one.count) for name, one in found.items()} == {
        "outcome-unknown": (made["unknown"], 1),
        "held": (made["held"], 1),
        "quarantined": (made["received"], 1),
    }
    assert all(one.oldest_at == opened[one.first] and one.due_at is None for one in found.values())


def test_counting_ends_and_says_so(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        deferred(builder)
        builder.held(builder.downloaded(recipients=()))
    monkeypatch.setattr(glance, "COUNTED", 2)
    monkeypatch.setattr(glance, "PRESENT", 4)
    builder.mailbox_event("info", PollFailed(mailbox="info", kind="auth", permanent=True, text="no"))
    assert (places(builder)["home"].count, places(builder)["home"].more) == (2, True)
    with reading(builder.engine) as connection:
        assert [(one.count, one.more) for one in glance.kept(connection)] == [(2, True)]
        assert [row["present"] for row in glance.mailbox_rows(connection)] == [4]
        assert [row["present"] for row in mailbox_queries.mailbox_rows(connection)] == [6]


def test_what_came_by_is_counted_by_name_and_second(builder: Builder) -> None:
    first = deferred(builder)
    builder.later(seconds=2)
    second = builder.downloaded()
    with reading(builder.engine) as connection:
        last = log.last_position(connection)
        at = int(builder.at.timestamp())
        assert sorted(glance.passed(connection, 0, last, EPOCH)) == [
            ("attempted", at - 2, 1),
            ("deferred", at - 2, 1),
            ("downloaded", at - 2, 1),
            ("downloaded", at, 1),
        ]
        assert glance.passed(connection, 3, last, EPOCH) == [("downloaded", at, 1)]
        assert glance.passed(connection, 0, last, builder.at) == [("downloaded", at, 1)]
        assert [row.stream for row in glance.newest(connection, 0, 2)] == [second, first]
        assert [row.stream for row in glance.newest(connection, 3, 9)] == [second]
        assert glance.newest(connection, last, 9) == []


def test_what_is_worked_on_is_counted_with_its_octets(builder: Builder) -> None:
    streams = [builder.downloaded(octets=b"x" * 1000) for _ in range(3)]
    by = Claim("somebody", builder.at + timedelta(minutes=1))
    with writing(builder.engine) as connection:
        agenda.put(connection, "mailbox-info", agenda.POLL, builder.at)
        agenda.claim(connection, agenda.POLL, by, builder.at, 1)
        assert len(agenda.claim(connection, "", by, builder.at, 2)) == len(streams) - 1
    with reading(builder.engine) as connection:
        assert glance.in_flight(connection, builder.at) == (2, 2000)
        assert glance.in_flight(connection, builder.at + timedelta(minutes=2)) == (0, 0)
        assert glance.polls(connection)["info"]["holder"] == "somebody"


def test_mailboxes_and_next_hops_stand_as_the_whole_questions_tell(builder: Builder) -> None:
    varied(builder)
    deferred(builder, "provider")
    with reading(builder.engine) as connection:
        assert glance.mailbox_rows(connection) == mailbox_queries.mailbox_rows(connection) != []
        assert queries.hops(connection, 1) == queries.hops(connection)[:1] != []


def test_it_costs_the_same_whatever_the_store_holds(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "COUNTED", 5)
    monkeypatch.setattr(glance, "PRESENT", 5)
    builder = Builder(sqlite_url)
    varied(builder)

    def live(count: int) -> None:
        for _ in range(count):
            done = builder.downloaded()
            builder.attempted(done)
            builder.delivered(done)
            deferred(builder)
            builder.held(builder.downloaded(recipients=()))

    live(10)
    few = _steps(sqlite_url)
    live(60)
    assert _steps(sqlite_url) < few * 1.1
    builder.close()


def _steps(url: str) -> int:
    """How many steps SQLite takes to answer everything once."""
    engine, steps = open_store(url), Counter[str]()

    def step() -> int:
        steps["all"] += 1
        return 0

    @event.listens_for(engine, "connect")
    def count(connection: sqlite3.Connection, _: object) -> None:
        connection.set_progress_handler(step, 1)

    with reading(engine) as connection:
        last = log.last_position(connection)
        glance.passed(connection, last - 10, last, EPOCH)
        glance.newest(connection, last - 10, 5)
        glance.in_flight(connection, EPOCH)
        assert list(glance.waiting(connection))
        assert list(glance.kept(connection))
        queries.hops(connection, 5)
        glance.mailbox_rows(connection)
        glance.polls(connection)
    engine.dispose()
    return steps["all"]
