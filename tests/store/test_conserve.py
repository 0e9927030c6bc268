"""What does not add up is named, each kind of it (promise P3)."""

from __future__ import annotations

from random import Random

import pytest
from msgspec import structs
from sqlalchemy import Engine

from store import agenda, conserve, contents, log, pages, summed
from store.codec import CLASSES
from store.conserve import Count
from store.database import reading, writing
from store.decisive import PRESENT, SILENT, read
from store.errors import UnknownEvent
from store.events import ContentsPurged, Kept
from store.life import fold
from store.log import Append
from store.mailbox_events import MAILBOX_PREFIX
from tests.store.build import (
    NOW,
    append,
    attempted,
    deferred,
    delivered,
    failed,
    generated,
    opening,
    relayed,
    then,
    unguarded,
)
from tests.store.history import History, write

REBUILD = "run: mailgate db rebuild"


def problems(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(conserve.check(connection, Count(), NOW))


@pytest.fixture
def lives(store: Engine) -> Engine:
    """m1 is delivered, m2 is deferred, m3 has just come in, m4 is a notice."""
    one, two = opening("m1"), opening("m2", recipients=("a@example.com", "b@example.com"))
    append(store, one, two, opening("m3"))
    append(store, then(one, attempted(), delivered()), then(two, attempted(0, 1), deferred(0, 1)))
    append(store, Append("m4", None, (generated(),), NOW, b"Subject: Notice\r\n\r\n"))
    return store


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_engine_writes_adds_up(seed: int, store: Engine) -> None:
    history = History(Random(seed))
    write(store, history, 200)
    count = Count()
    with reading(store) as connection:
        assert list(conserve.check(connection, count, NOW)) == []
    everything = [r for message in history.alive.values() for r in message.recipients]
    assert count == Count(
        messages=len(history.alive),
        recipients=len(everything),
        open=sum(message.open for message in history.alive.values()),
        unknown_attempts=sum(r.unknown_attempts for r in everything),
        problems=0,
    )
    assert min(count.messages, count.recipients, count.open, count.unknown_attempts) > 0


def test_an_empty_store_adds_up(store: Engine) -> None:
    assert problems(store) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM events WHERE stream = 'm1' AND revision = 1", ["m1: its revisions have a hole"]),
        ("DELETE FROM events WHERE stream = 'm1' AND revision = 0", ["m1: its revisions have a hole"]),
        ("DELETE FROM messages WHERE id = 'm1'", [f"m1: it is not in the read tables; {REBUILD}"]),
        (
            "UPDATE messages SET state = 'received' WHERE id = 'm1'",
            [f"m1: the read tables say received, the log says delivered; {REBUILD}"],
        ),
        ("DELETE FROM contents WHERE position = 2", ["m2: it is open and its octets are gone"]),
        ("DELETE FROM contents WHERE position = 1", ["m1: nothing says why its octets are gone"]),
        ("DELETE FROM agenda WHERE stream = 'm2'", [f"m2: it is open and nobody will look at it; {REBUILD}"]),
        (
            "INSERT INTO agenda (stream, lane, wake_at, fence) VALUES ('m1', '', 0, 0)",
            [f"m1: it is settled and still in the agenda; {REBUILD}"],
        ),
        (
            "UPDATE recipients SET state = 'delivered' WHERE message = 2 AND number = 1",
            [
                f"m2: its recipients are deferred, delivered in the read tables, deferred, deferred in the log; {REBUILD}"
            ],
        ),
        (
            "DELETE FROM recipients WHERE message = 1",
            [f"m1: its recipients are nobody in the read tables, delivered in the log; {REBUILD}"],
        ),
        (
            "DELETE FROM events WHERE stream = 'm1'",
            [f"m1: it is in the read tables and not in the log; {REBUILD}"],
        ),
        (
            "UPDATE messages SET id = 'm5' WHERE id = 'm1'",
            [
                f"m1: it is not in the read tables; {REBUILD}",
                f"m5: it is in the read tables and not in the log; {REBUILD}",
            ],
        ),
        (
            "UPDATE messages SET id = 'a' WHERE id = 'm1'",
            [
                f"m1: it is not in the read tables; {REBUILD}",
                f"a: it is in the read tables and not in the log; {REBUILD}",
            ],
        ),
        (
            "INSERT INTO agenda (stream, lane, wake_at, fence) VALUES ('m9', '', 0, 0)",
            [f"m9: it is in the read tables and not in the log; {REBUILD}"],
        ),
        (
            "UPDATE agenda SET wake_at = 64060588800000000 WHERE stream = 'm2'",
            [
                "m2: it is due at 2026-05-04 03:07:01 UTC, and nobody will look at it before"
                f" 4000-01-01 00:00:00 UTC; {REBUILD}"
            ],
        ),
        (
            "UPDATE agenda SET lane = 'nowhere' WHERE stream = 'm2'",
            [
                "m2: it is open and in lane 'nowhere' of the agenda, where nobody will look for it:"
                f" its own is 'home'; {REBUILD}"
            ],
        ),
        (
            "UPDATE agenda SET holder = 'ghost', lease_until = 64060588800000000 WHERE stream = 'm3'",
            [f"m3: it is held until 4000-01-01 00:00:00 UTC, longer than any lease lasts; {REBUILD}"],
        ),
        (
            "UPDATE messages SET closed_at = NULL WHERE id = 'm1'",
            [f"m1: it is not closed in the read tables, and is in the log; {REBUILD}"],
        ),
        (
            "UPDATE messages SET closed_at = 0 WHERE id = 'm2'",
            [f"m2: it is closed in the read tables, and is not in the log; {REBUILD}"],
        ),
        (
            "INSERT INTO exempt VALUES (1)",
            [f"m1: it is exempt from retention in the read tables, and is not in the log; {REBUILD}"],
        ),
        (
            "INSERT INTO exempt VALUES (99)",
            [f"position 99: it is exempt from retention in the read tables, and no message; {REBUILD}"],
        ),
        (
            "UPDATE events SET name = 'relayed' WHERE stream = 'm3'",
            ["m3: event 'relayed' version 1 can't be read: Object missing required field `numbers`"],
        ),
        (
            "UPDATE events SET revision = revision + 5 WHERE stream = 'm3'",
            ["m3: its revisions have a hole"],
        ),
    ],
)
def test_each_kind_of_damage_is_named(damage: str, found: list[str], lives: Engine) -> None:
    assert problems(lives) == []
    unguarded(lives, damage)
    assert problems(lives) == found


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (delivered(), relayed(), ["m1: recipient 0 was delivered and became relayed"]),
        (delivered(), failed(), ["m1: recipient 0 was delivered and became failed"]),
        (failed(), delivered(), []),
        (delivered(), delivered(), []),
        (relayed(), failed(), ["m1: recipient 0 was relayed and became failed"]),
        (relayed(), delivered(), ["m1: recipient 0 was relayed and became delivered"]),
        (relayed(), failed(reason="bounced-later", report="m2"), []),
        (relayed(), delivered(report="m2"), []),
    ],
)
def test_a_fate_is_had_once(first: object, second: object, found: list[str], store: Engine) -> None:
    one = opening()
    two = then(one, attempted(), first)  # type: ignore[arg-type]
    append(store, one, two, then(two, second))  # type: ignore[arg-type]
    assert problems(store) == found


def test_a_mark_that_was_taken_from_a_message_that_is_kept_is_named(store: Engine) -> None:
    one = opening()
    append(store, one, then(one, Kept(operator="anna", reason="case 7", policy="p")))
    assert problems(store) == []
    unguarded(store, "DELETE FROM exempt")
    assert problems(store) == [
        f"m1: it is not exempt from retention in the read tables, and is in the log; {REBUILD}"
    ]


def test_a_message_that_is_put_off_and_one_that_is_held_will_be_looked_at(lives: Engine) -> None:
    with writing(lives) as connection:
        (lease,) = agenda.claim(connection, "", agenda.Claim("one", NOW + agenda.LEASE_TERM), NOW, 1)
        agenda.give_back(connection, lease, NOW + agenda.PUT_OFF)
        (held,) = agenda.claim(connection, "", agenda.Claim("two", NOW + agenda.LEASE_TERM), NOW, 1)
    assert held.stream != lease.stream
    assert problems(lives) == []


def test_problems_are_counted(lives: Engine) -> None:
    unguarded(lives, "DELETE FROM messages WHERE id <> 'm4'")
    count = Count()
    with reading(lives) as connection:
        assert len(list(conserve.check(connection, count, NOW))) == 3
    assert (count.problems, count.messages) == (3, 4)


def test_an_event_that_cannot_be_read_is_named_and_hides_no_other(lives: Engine) -> None:
    unguarded(
        lives, "UPDATE events SET data = hash WHERE position = 1", "DELETE FROM messages WHERE id = 'm3'"
    )
    one, other = problems(lives)
    assert one.startswith("m1: event 'downloaded' version 1 can't be read")
    assert other == f"m3: it is not in the read tables; {REBUILD}"


def test_an_event_newer_than_this_program_ends_it(lives: Engine) -> None:
    unguarded(lives, "UPDATE events SET version = 99 WHERE position = 1")
    with pytest.raises(UnknownEvent, match="version 99"):
        problems(lives)


def test_octets_are_gone_where_the_log_says_so_and_nowhere_else(store: Engine) -> None:
    one = opening()
    two = then(one, attempted(), delivered())
    append(store, one, two, then(two, ContentsPurged(reason="retention.contents: 30d", policy="p")))
    assert problems(store) == ["m1: its octets were dropped, as the log says, and are there"]
    with writing(store) as connection:
        contents.drop(connection, ["m1"])
    assert problems(store) == []


def test_lives_are_added_up_anew_where_too_many_are_known(
    lives: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summed, "LIVES_KEPT", 1)
    monkeypatch.setattr(summed, "TOGETHER", 1)
    monkeypatch.setattr(pages, "PAGE_ROWS", 2)
    assert problems(lives) == []
    unguarded(lives, "UPDATE messages SET state = 'held' WHERE id <> 'm2'")
    assert [line.partition(":")[0] for line in problems(lives)] == ["m1", "m3", "m4"]


# The decisive facts are told apart from the silent ones by name: this is what holds that list to the truth.
@pytest.mark.parametrize("seed", range(20, 26))
def test_events_with_the_same_decisive_facts_do_the_same_to_a_message(
    seed: int, sqlite_store: Engine
) -> None:
    write(sqlite_store, History(Random(seed)), 150)
    ends: dict[tuple[object, ...], set[object]] = {}
    with reading(sqlite_store) as connection:
        for stream, recorded in log.streams(connection):
            if not stream.startswith(MAILBOX_PREFIX):
                life = tuple(read(r.event.NAME, r.event.VERSION, r.data) for r in recorded)
                for length in range(1, len(life) + 1):
                    message = fold(stream, ((r.event, r.at) for r in recorded[:length]))
                    assert message is not None
                    states = tuple(one.state for one in message.recipients)
                    unknown = sum(one.unknown_attempts for one in message.recipients)
                    due = message.due_at is not None
                    marks = (message.closed_at is None, message.exempt_since is None)
                    end = (
                        message.state,
                        states,
                        due,
                        message.kept,
                        message.purged_at is None,
                        marks,
                        unknown,
                    )
                    ends.setdefault(life[:length], set()).add(end)
    assert len(ends) > 50
    assert [life for life, found in ends.items() if len(found) > 1] == []


def test_no_silent_fact_is_one_that_only_its_presence_counts_of() -> None:
    known = {f.name for kind in CLASSES.values() for f in structs.fields(kind)}
    assert known >= SILENT
    assert known >= PRESENT
    assert not SILENT & PRESENT
    # Whether there are octets at all counts, and follows from the name of the event as long as none may leave it out.
    contents = [f for kind in CLASSES.values() for f in structs.fields(kind) if f.name == "content"]
    assert contents
    assert all(f.required and f.type is str for f in contents)
