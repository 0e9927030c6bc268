"""Appending: all of a unit or nothing, in order, on what the stream really is."""

from __future__ import annotations

from datetime import timedelta, timezone
from random import Random

import pytest
from sqlalchemy import Engine, func, select

from store import agenda, log
from store.agenda import Claim, Lease
from store.database import reading, writing
from store.errors import Conflict, LeaseLost, StoreError
from store.events import Reported
from store.log import Append, Unit
from store.mailbox_events import PollRecovered, mailbox_stream
from store.mailbox_life import Mailbox
from store.read_tables import READ_TABLES, messages
from store.schema import agenda as agenda_table
from store.schema import contents, events
from tests.store.build import (
    NOW,
    after,
    append,
    attempted,
    deferred,
    delivered,
    generated,
    mailbox,
    message,
    opening,
    oversize,
    rows,
    then,
)
from tests.store.history import History, write

EVERYTHING = (events, contents, agenda_table, *READ_TABLES)


def everything(engine: Engine) -> dict[str, list[object]]:
    return {table.name: list(rows(engine, table)) for table in EVERYTHING}


def answers(engine: Engine, *units: Unit) -> list[object]:
    with writing(engine) as connection:
        return list(log.append(connection, units))


def recovered(before: Mailbox | None, name: str = "info") -> Append:
    return Append(mailbox_stream(name), before, (PollRecovered(mailbox=name),), NOW)


def leased(engine: Engine, holder: str = "me") -> Lease:
    """Lease the one due message."""
    with writing(engine) as connection:
        claim = Claim(holder, after(minutes=1))
        (lease,) = [
            x for lane in agenda.lanes(connection) for x in agenda.claim(connection, lane, claim, NOW, 9)
        ]
    return lease


def test_what_is_appended_is_read_back_in_order(store: Engine) -> None:
    first = opening(recipients=("jürgen@straße.example",), subject="nul \0 \U0001f4e8")
    second = then(first, attempted(), at=after(microseconds=1))
    append(store, first, second)
    with reading(store) as connection:
        recorded = log.read(connection, "m1")
        assert message(connection) == second.after
        assert log.messages(connection, ["m1", "m2"]) == {"m1": second.after}
        assert log.message(connection, "m2") is None
        assert log.read(connection, "m2") == []
    assert [one.event for one in recorded] == [*first.events, *second.events]
    assert [(one.position, one.stream, one.revision) for one in recorded] == [(1, "m1", 0), (2, "m1", 1)]
    assert [one.at for one in recorded] == [NOW, after(microseconds=1)]


def test_a_unit_that_believes_too_little_or_too_much_is_a_conflict(store: Engine) -> None:
    first = opening()
    second = then(first, attempted())
    third = then(second, delivered())
    append(store, first, second)
    before = everything(store)
    refused = answers(
        store, Unit((then(first, attempted()),)), Unit((then(third, Reported(kind="delay", report="x")),))
    )
    assert [(type(one), one.stream, one.expected) for one in refused if isinstance(one, Conflict)] == [
        (Conflict, "m1", 0),
        (Conflict, "m1", 2),
    ]
    assert everything(store) == before


def test_opening_a_stream_that_is_there_is_a_conflict(store: Engine) -> None:
    append(store, opening(), recovered(None))
    before = everything(store)
    refused = answers(
        store, Unit((opening(),)), Unit((recovered(None),)), Unit((recovered(Mailbox(name="info")),))
    )
    assert [type(one) for one in refused] == [Conflict] * 3
    assert everything(store) == before


def test_of_two_that_open_one_stream_in_a_batch_the_first_wins(store: Engine) -> None:
    kept, late = opening(subject="first"), opening(subject="second")
    assert [type(one) for one in answers(store, Unit((kept,)), Unit((late,)))] == [type(None), Conflict]
    refused = answers(store, Unit((recovered(None),)), Unit((recovered(None),)))
    assert [type(one) for one in refused] == [type(None), Conflict]
    with reading(store) as connection:
        assert message(connection).subject == "first"
    assert mailbox(store).revision == 0


def test_one_refused_unit_leaves_the_others_of_its_batch_alone(store: Engine) -> None:
    first = opening()
    append(store, first, then(first, attempted()))
    late = Unit((then(first, attempted()), opening("m3")))
    assert [type(one) for one in answers(store, Unit((opening("m2"),)), late, Unit((opening("m4"),)))] == [
        type(None),
        Conflict,
        type(None),
    ]
    found = rows(store, events, "position", "stream", "revision")
    assert [tuple(row.values()) for row in found] == [(1, "m1", 0), (2, "m1", 1), (3, "m2", 0), (4, "m4", 0)]
    assert [row["position"] for row in rows(store, contents)] == [1, 3, 4]


def test_units_of_one_stream_follow_each_other_within_a_batch(store: Engine) -> None:
    first = opening()
    second = then(first, attempted())
    third = then(second, deferred())
    stale = then(second, delivered())
    assert answers(store, Unit((first,)), Unit((second,)), Unit((third,)))[:3] == [None] * 3
    fourth = then(third, attempted(attempt=2))
    fifth = then(fourth, delivered(attempt=2))
    refused = answers(store, Unit((fourth,)), Unit((stale,)), Unit((fifth,)))
    assert [type(one) for one in refused] == [type(None), Conflict, type(None)]
    with reading(store) as connection:
        assert message(connection) == fifth.after
    (row,) = rows(store, READ_TABLES[1])
    assert (row["state"], row["attempts"]) == ("delivered", 2)


def test_a_unit_of_several_streams_is_all_or_nothing(store: Engine) -> None:
    first = opening()
    append(store, first)
    notice = Append("m2", None, (generated(),), NOW, b"Subject: Notice\r\n\r\n")
    told = then(first, Reported(kind="failure", report="m2"))
    before = everything(store)
    stale = then(then(first, attempted()), Reported(kind="failure", report="m2"))
    assert isinstance(answers(store, Unit((notice, stale)))[0], Conflict)
    assert isinstance(answers(store, Unit((stale, notice)))[0], Conflict)
    assert everything(store) == before
    assert answers(store, Unit((told, notice))) == [None]
    assert [row["stream"] for row in rows(store, events)] == ["m1", "m1", "m2"]


def test_a_rollback_burns_no_position(store: Engine) -> None:
    append(store, opening("m1"))

    def fail() -> None:
        with writing(store) as connection:
            log.append(connection, [Unit((opening("m2"),)), Unit((opening("m3"),))])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    append(store, opening("m4"))
    assert [row["position"] for row in rows(store, events)] == [1, 2]
    assert [row["stream"] for row in rows(store, events)] == ["m1", "m4"]
    with reading(store) as connection:
        assert log.last_position(connection) == 2


def test_a_unit_without_its_lease_changes_nothing(store: Engine) -> None:
    first = opening()
    append(store, first)
    mine = leased(store)
    before = everything(store)
    unit = Unit((then(first, attempted()), opening("m2")), lease=Lease("m1", mine.fence - 1))
    other = Unit((then(first, attempted()),), lease=Lease("gone", 1))
    lost = answers(store, unit, other)
    assert [(type(one), str(one)) for one in lost] == [
        (LeaseLost, f"stream m1: lease {mine.fence - 1} is no longer held"),
        (LeaseLost, "stream gone: lease 1 is no longer held"),
    ]
    assert everything(store) == before


def test_a_unit_gives_its_lease_back_unless_it_keeps_it(store: Engine) -> None:
    first = opening()
    append(store, first)
    mine = leased(store)
    second = then(first, attempted())
    assert answers(store, Unit((second,), lease=mine, keep=True)) == [None]
    (held,) = rows(store, agenda_table)
    assert (held["holder"], held["fence"], held["lease_until"]) == ("me", mine.fence, after(minutes=1))
    assert answers(store, Unit((then(second, deferred()),), lease=mine)) == [None]
    (free,) = rows(store, agenda_table)
    assert (free["holder"], free["lease_until"], free["wake_at"]) == (None, None, after(minutes=5))


def test_who_appends_without_a_lease_leaves_the_lease_of_another_alone(store: Engine) -> None:
    """A message that leaves its mailbox while it is being handed over is not handed over by another as well."""
    first = opening()
    append(store, first)
    mine = leased(store)
    second = then(first, attempted())
    assert answers(store, Unit((second,), lease=mine, keep=True)) == [None]
    append(store, then(second, Reported(kind="delay", report="m2")))
    (held,) = rows(store, agenda_table)
    assert (held["holder"], held["fence"]) == ("me", mine.fence)


def test_a_conflict_changes_nothing_not_even_the_lease(store: Engine) -> None:
    first = opening()
    append(store, first)
    mine = leased(store)
    append(store, then(first, Reported(kind="delay", report="m2")))
    before = everything(store)
    assert isinstance(answers(store, Unit((then(first, attempted()),), lease=mine, keep=True))[0], Conflict)
    assert everything(store) == before
    (held,) = rows(store, agenda_table)
    assert (held["holder"], held["fence"]) == ("me", mine.fence)


def test_a_message_may_be_held_from_the_moment_it_is_taken_in(store: Engine) -> None:
    first = opening()
    assert answers(store, Unit((first,), claim=Claim("me", after(minutes=1)))) == [None]
    lease = Lease("m1", agenda.first_fence(first.after))  # type: ignore[arg-type]
    with writing(store) as connection:
        assert agenda.claim(connection, agenda.FRESH, Claim("you", after(minutes=1)), NOW, 9) == []
    assert answers(store, Unit((then(first, attempted()),), lease=lease, keep=True)) == [None]


def test_the_log_is_walked_in_order_and_in_pieces(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "READ_BATCH", 7)
    write(store, History(Random(21)), 40)
    with reading(store) as connection:
        count = connection.scalar(select(func.count()).select_from(events)) or 0
        whole = list(log.walk(connection))
        assert [one.position for one in whole] == list(range(1, count + 1))
        assert count > 21
        for limit in (0, 1, 6, 7, 8, 14, count, count + 1):
            assert list(log.walk(connection, after=3, limit=limit)) == whole[3 : 3 + limit]
        assert list(log.walk(connection, after=count)) == []


def test_every_stream_comes_once_with_all_its_events(store: Engine) -> None:
    write(store, History(Random(22)), 60)
    with reading(store) as connection:
        found = list(log.streams(connection))
        names = [stream for stream, _ in found]
        assert len(names) == len(set(names)) > 10
        for stream, recorded in found:
            assert recorded == log.read(connection, stream)
        assert sum(len(recorded) for _, recorded in found) == log.last_position(connection)


def test_a_unit_knows_how_much_content_it_carries() -> None:
    octets = b"x" * 1000
    unit = Unit((opening("m1", octets=octets), opening("m2", octets=bytearray(octets)), opening("m3")))
    assert unit.octets == 2000 + len(b"Subject: x\r\n\r\n")


def test_no_message_is_put_on_record_without_its_octets_and_what_shares_its_batch_is_not_either(
    store: Engine,
) -> None:
    lost = opening("m1")
    lost.octets = None
    with pytest.raises(StoreError, match="stream m1: a message can't be put on record without its octets"):
        append(store, opening("m2"), lost)
    append(store, Append("m3", None, (oversize(),), NOW), opening("m4", octets=b""))
    assert [row["id"] for row in rows(store, messages, "id")] == ["m3", "m4"]


def test_nothing_can_be_appended_to_no_message() -> None:
    with pytest.raises(StoreError, match="stream m1: nothing to append"):
        Append("m1", None, (), NOW)


def test_a_time_in_another_zone_is_kept_as_the_same_moment(store: Engine) -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    append(store, Append("m1", None, opening().events, there, b"Subject: x\r\n\r\n"))
    with reading(store) as connection:
        (one,) = log.read(connection, "m1")
    assert one.at == NOW
    assert one.at.utcoffset() == timedelta(0)
