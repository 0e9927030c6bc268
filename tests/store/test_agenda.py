"""Who looks at what, and when: leases are exclusive, fences only go up, and every due message is there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text

from store import agenda
from store.agenda import FRESH, POLL, Claim, Lease
from store.database import open_store, reading, writing
from store.events import Held
from store.schema import agenda as table
from store.schema import microseconds
from tests.store.build import NOW, POLICY, after, append, attempted, deferred, delivered, opening, rows, then
from tests.store.history import History, write

ME, YOU = Claim("me", after(minutes=1)), Claim("you", after(minutes=2))
WAIT_SECONDS = 60


def put(engine: Engine, *streams: tuple[str, str, datetime]) -> None:
    with writing(engine) as connection:
        for stream, lane, wake_at in streams:
            agenda.put(connection, stream, lane, wake_at)


def claim(
    engine: Engine, lane: str = "home", by: Claim = ME, now: datetime = NOW, limit: int = 9
) -> list[Lease]:
    with writing(engine) as connection:
        return agenda.claim(connection, lane, by, now, limit)


def row(engine: Engine, stream: str = "m1") -> dict[str, Any]:
    (found,) = [row for row in rows(engine, table) if row["stream"] == stream]
    return found


def leases(engine: Engine) -> list[Lease]:
    """All there are, whoever holds them."""
    return [Lease(one["stream"], one["fence"]) for one in rows(engine, table)]


def names(leases: list[Lease]) -> list[str]:
    return [lease.stream for lease in leases]


def test_those_due_longest_are_claimed_first(store: Engine) -> None:
    due = [("z", after(seconds=-9)), ("b", after(seconds=-8)), ("y", after(seconds=-7)), ("a", NOW)]
    put(store, *((stream, "home", at) for stream, at in due), ("later", "home", after(microseconds=1)))
    put(store, ("elsewhere", "branch", after(seconds=-99)))
    assert names(claim(store, limit=2)) == ["z", "b"]
    assert names(claim(store, by=YOU)) == ["y", "a"]
    assert claim(store) == []
    assert names(claim(store, now=after(microseconds=1))) == ["later"]


def test_what_is_due_is_told_without_being_claimed(store: Engine) -> None:
    put(store, ("b", "home", after(seconds=-1)), ("a", "home", NOW), ("later", "home", after(seconds=1)))
    with reading(store) as connection:
        assert agenda.due(connection, "home", NOW) == ["b", "a"]
        assert agenda.due(connection, "home", NOW, 1) == ["b"]
        assert agenda.any_due(connection, "home", NOW)
        assert not agenda.any_due(connection, "home", after(seconds=-2))
        assert not agenda.any_due(connection, "branch", NOW)
    claim(store)
    with reading(store) as connection:
        assert not agenda.any_due(connection, "home", NOW)
        assert agenda.due(connection, "home", after(minutes=1, seconds=1)) == ["b", "a", "later"]


def test_each_claim_raises_the_fence_and_only_a_lease_that_ran_out_is_claimed_again(store: Engine) -> None:
    put(store, ("m1", "home", NOW))
    (mine,) = claim(store)
    assert claim(store, by=YOU, now=after(seconds=59)) == []
    (yours,) = claim(store, by=YOU, now=ME.until)
    assert yours == Lease("m1", mine.fence + 1)
    assert (row(store)["holder"], row(store)["lease_until"]) == ("you", YOU.until)


def test_a_lease_is_extended_for_its_holder_only(store: Engine) -> None:
    put(store, ("m1", "home", NOW), ("m2", "branch", NOW), ("m3", "else", NOW))
    claim(store), claim(store, "branch"), claim(store, "else", YOU)
    with writing(store) as connection:
        agenda.renew(connection, Claim("me", after(hours=1)), leases(store))
    assert [one["lease_until"] for one in rows(store, table)] == [after(hours=1), after(hours=1), YOU.until]


def test_only_those_leases_are_extended_that_are_named(store: Engine) -> None:
    put(store, ("m1", "home", NOW), ("m2", "home", NOW))
    first, second = claim(store)
    with writing(store) as connection:
        agenda.renew(connection, Claim("me", after(hours=1)), [first, Lease("m2", second.fence - 1)])
        agenda.renew(connection, Claim("me", after(hours=2)), [])
    assert [one["lease_until"] for one in rows(store, table)] == [after(hours=1), ME.until]


def test_of_what_ran_out_is_kept_what_is_in_our_hands(store: Engine) -> None:
    put(store, ("m1", "home", NOW), ("m2", "home", NOW), ("m3", "home", NOW))
    first, second = claim(store, limit=2)
    (theirs,) = claim(store, by=Claim("you", ME.until))
    later = Claim("me", after(hours=1))
    with writing(store) as connection:
        agenda.keep(connection, later, after(seconds=59), {first, theirs}.__contains__)
        assert [one["lease_until"] for one in rows(store, table)] == [ME.until] * 3
    with writing(store) as connection:
        agenda.keep(connection, later, ME.until, {first, theirs}.__contains__)
        again = agenda.claim(connection, "home", later, ME.until, 9)
    assert again == [Lease("m2", second.fence + 1), Lease("m3", theirs.fence + 1)]


def test_a_lease_is_given_back_by_its_holder_only(store: Engine) -> None:
    put(store, ("m1", "home", NOW))
    (mine,) = claim(store)
    with writing(store) as connection:
        agenda.give_back(connection, Lease("m1", mine.fence - 1), after(hours=9))
        agenda.give_back(connection, Lease("nobody", mine.fence))
    assert (row(store)["holder"], row(store)["wake_at"]) == ("me", NOW)
    with writing(store) as connection:
        agenda.give_back(connection, mine)
    assert (row(store)["holder"], row(store)["lease_until"], row(store)["wake_at"]) == (None, None, NOW)
    (again,) = claim(store)
    assert again.fence == mine.fence + 1
    with writing(store) as connection:
        agenda.give_back(connection, again, after(hours=1))
    assert row(store)["wake_at"] == after(hours=1)


def test_the_leases_of_one_who_is_gone_are_taken_all_at_once(store: Engine) -> None:
    put(
        store,
        ("m1", "home", NOW),
        ("m2", "home", NOW),
        ("m3", "branch", NOW),
        ("m4", "branch", after(hours=1)),
    )
    claim(store), claim(store, "branch", YOU)
    with writing(store) as connection:
        assert sorted(agenda.holders(connection)) == ["me", "you"]
        assert agenda.take_from(connection, "me") == 2
        assert agenda.take_from(connection, "nobody") == 0
        assert agenda.holders(connection) == ["you"]
    assert sorted(names(claim(store, by=YOU))) == ["m1", "m2"]


def test_lanes_are_told_once_each(store: Engine) -> None:
    put(
        store, ("a", "home", NOW), ("b", "home", NOW), ("c", FRESH, NOW), ("d", POLL, NOW), ("e", "büro", NOW)
    )
    with reading(store) as connection:
        found = agenda.lanes(connection)
    assert sorted(found) == sorted({"home", FRESH, POLL, "büro"})
    assert len(found) == 4


def test_lanes_with_something_due_and_free_are_told(store: Engine) -> None:
    put(store, ("a", "mx:a.example", NOW), ("b", "mx:b.example", after(minutes=1)), ("c", "home", NOW))
    put(store, ("d", "mx:a.example", after(minutes=5)), ("e", FRESH, after(minutes=2)))

    def due(now: datetime) -> set[str]:
        with reading(store) as connection:
            found = agenda.due_lanes(connection, now)
        assert len(found) == len(set(found))
        return set(found)

    assert due(NOW) == {"mx:a.example", "home"}
    claim(store, "mx:a.example")
    assert due(NOW) == {"home"}
    assert due(after(minutes=1)) == {"mx:a.example", "mx:b.example", "home"}  # the lease has run out


def test_an_empty_agenda_has_no_lanes(store: Engine) -> None:
    with reading(store) as connection:
        assert (agenda.lanes(connection), agenda.due_lanes(connection, NOW)) == ([], [])


def test_one_stream_is_claimed_whether_due_or_not_and_by_one_only(store: Engine) -> None:
    with writing(store) as connection:
        mine = agenda.claim_stream(connection, "mailbox-info", POLL, ME, NOW)
        assert mine == Lease("mailbox-info", 1)
        assert agenda.claim_stream(connection, "mailbox-info", POLL, YOU, NOW) is None
        agenda.give_back(connection, mine, after(hours=1))
        assert agenda.claim_stream(connection, "mailbox-info", POLL, YOU, NOW) == Lease("mailbox-info", 2)
    assert row(store, "mailbox-info")["wake_at"] == after(hours=1)


def test_putting_moves_the_time_and_leaves_the_lease(store: Engine) -> None:
    put(store, ("m1", "home", NOW))
    (mine,) = claim(store)
    put(store, ("m1", "branch", after(hours=1)))
    with writing(store) as connection:
        agenda.put(connection, "m1", "else", NOW, keep_earlier=True)
    found = row(store)
    assert (found["lane"], found["wake_at"], found["holder"], found["fence"]) == (
        "branch",
        after(hours=1),
        "me",
        mine.fence,
    )


def test_a_message_is_in_the_agenda_exactly_while_it_is_due(store: Engine) -> None:
    history = History(Random(31))
    for _ in range(8):
        write(store, history, 25)
        wanted = {
            message.id: (message.lane, message.due_at)
            for message in history.alive.values()
            if message.due_at is not None
        }
        assert {one["stream"]: (one["lane"], one["wake_at"]) for one in rows(store, table)} == wanted
    assert 0 < len(wanted) < len(history.alive)


def test_what_was_settled_and_is_due_again_in_one_batch_is_in_the_agenda_once(store: Engine) -> None:
    first = opening()
    append(store, first)
    held = then(first, Held(why="operator", rule="anna", policy=POLICY))
    append(store, held, then(held, deferred(), at=after(seconds=1)))
    (found,) = rows(store, table)
    assert (found["wake_at"], found["lane"]) == (after(minutes=5), "home")
    again = then(then(held, deferred(), at=after(seconds=1)), delivered(), at=after(seconds=2))
    append(store, again)
    assert rows(store, table) == []


def test_a_fence_is_never_used_twice_even_if_the_message_left_the_agenda(store: Engine) -> None:
    first = opening()
    append(store, first)
    (before,) = claim(store, FRESH)
    held = then(first, Held(why="operator", rule="anna", policy=POLICY), at=after(seconds=1))
    append(store, held, then(held, deferred(), at=after(seconds=2)))
    (now,) = claim(store, now=after(minutes=9))
    assert now.fence > before.fence
    assert before.fence == microseconds(NOW) + 1


@pytest.mark.parametrize("lane", [FRESH, "home"])
def test_the_lane_is_the_next_hop_it_was_last_tried_at(lane: str, store: Engine) -> None:
    first = opening()
    append(store, first)
    if lane:
        append(store, then(first, attempted()))
    assert row(store)["lane"] == lane


def test_many_who_claim_at_once_never_get_the_same(store: Engine) -> None:
    """Even without the append lock: rows that are being claimed are passed over."""
    count, workers = 200, 8 if store.dialect.name == "postgresql" else 3
    put(store, *((f"m{number:04}", "home", NOW) for number in range(count)))
    ready = threading.Barrier(workers)

    def work(number: int) -> list[Lease]:
        own = open_store(store.url.render_as_string(hide_password=False))
        got: list[Lease] = []
        try:
            ready.wait(WAIT_SECONDS)
            while True:
                with own.begin() as connection:
                    some = agenda.claim(connection, "home", Claim(f"w{number}", ME.until), NOW, 7)
                assert len(some) <= 7
                got += some
                if not some:
                    return got
        finally:
            own.dispose()

    with ThreadPoolExecutor(workers) as pool:
        found = [pool.submit(work, number) for number in range(workers)]
        leases = [lease for one in found for lease in one.result(WAIT_SECONDS)]
    assert len(leases) == len(set(names(leases)))
    if store.dialect.name == "sqlite":
        assert len(leases) == count
    left = claim(store, by=YOU, limit=count)
    assert sorted(names(leases + left)) == [f"m{number:04}" for number in range(count)]


@pytest.mark.parametrize("analysed", [False, True])
def test_a_claim_walks_the_index_however_long_the_agenda_is(analysed: bool, store: Engine) -> None:
    with writing(store) as connection:
        lanes = ("home", "branch", FRESH, POLL)
        connection.execute(
            insert(table),
            [
                {
                    "stream": f"m{n:06}",
                    "lane": lanes[n % 4 % 3],
                    "wake_at": after(seconds=n % 977),
                    "fence": 1,
                }
                for n in range(100_000 if analysed else 10)
            ],
        )
    if analysed:
        with store.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    elif store.dialect.name == "postgresql":
        with writing(store) as connection:
            connection.execute(text(f"ALTER DATABASE {store.url.database} SET enable_seqscan = off"))
        store.dispose()
    plan = explained(store)
    assert "agenda_due" in plan
    assert "SCAN agenda" not in plan
    assert "Seq Scan" not in plan
    assert "TEMP B-TREE FOR ORDER" not in plan


def explained(engine: Engine) -> str:
    """How the database would look for what is due."""
    how = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    values = {"the_lane": "home", "now": NOW, "size": 200, "by": "me", "until": ME.until}
    with engine.begin() as connection:
        compiled = agenda._CLAIM.compile(dialect=engine.dialect)
        given = compiled.construct_params(values)
        bound = {
            k: compiled._bind_processors[k](v) if k in compiled._bind_processors else v
            for k, v in given.items()
        }
        if engine.dialect.name == "sqlite":
            order = compiled.positiontup or []
            found = connection.exec_driver_sql(how + str(compiled), tuple(bound[name] for name in order))
        else:
            found = connection.exec_driver_sql(how + str(compiled), bound)
        return "\n".join(str(row[-1]) for row in found)
