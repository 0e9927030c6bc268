"""Who is told of the log: from which position, by whom, and how it goes."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

import migrations
from engine import presence
from store import backup, followers, rebuild
from store.agenda import Claim
from store.database import open_store, reading, writing
from store.followers import Failure, Follower
from tests.store.build import NOW, after, append, attempted, delivered, opening

ME, YOU = Claim("me", after(minutes=1)), Claim("you", after(minutes=1))
DOWN = Failure(said="answered 500", failures=1, since=NOW, retry_at=after(seconds=2))


def begin(engine: Engine, *names: str) -> None:
    with writing(engine) as connection:
        followers.begin(connection, names)


def claim(engine: Engine, name: str = "crm", by: Claim = ME, now: datetime = NOW) -> int | None:
    with writing(engine) as connection:
        held = followers.claim(connection, name, by, now)
    return None if held is None else held.position


def fail(engine: Engine, position: int, why: Failure = DOWN) -> bool:
    assert claim(engine, now=after(days=1)) is not None
    with writing(engine) as connection:
        return followers.fail(connection, "crm", "me", position, why)


def move(engine: Engine, position: int, holder: str = "me") -> bool:
    with writing(engine) as connection:
        return followers.move(connection, "crm", holder, position, after(minutes=1))


def finish(engine: Engine, position: int, holder: str = "me") -> bool:
    with writing(engine) as connection:
        return followers.finish(connection, "crm", holder, position)


def one(engine: Engine, name: str = "crm") -> Follower:
    with reading(engine) as connection:
        found = followers.one(connection, name)
    assert found is not None
    return found


def test_a_new_one_begins_at_the_end_and_a_known_one_goes_on(store: Engine) -> None:
    append(store, opening("m1"))
    begin(store, "crm")
    assert (one(store).position, one(store).lag) == (1, 0)
    append(store, opening("m2"))
    begin(store, "crm", "erp")
    assert (one(store).position, one(store).lag) == (1, 1)
    assert (one(store, "erp").position, one(store, "erp").lag) == (2, 0)


def test_one_at_a_time_tells_it_until_the_lease_ends(store: Engine) -> None:
    begin(store, "crm", "erp")
    assert claim(store) == 0
    assert claim(store) == 0  # its own
    assert claim(store, by=YOU) is None
    assert claim(store, "erp", by=YOU) == 0
    assert move(store, 7)
    assert not move(store, 8, "you")
    assert claim(store, by=YOU, now=after(minutes=1)) == 7
    assert not move(store, 9)
    assert not finish(store, 9)
    assert finish(store, 10, "you")
    assert claim(store) == 10


def test_a_failure_is_kept_with_its_beginning_until_it_is_over(store: Engine) -> None:
    begin(store, "crm", "erp")
    assert fail(store, 3)
    later = Failure(said="answered 503", failures=2, since=NOW, retry_at=after(hours=2))
    assert claim(store, now=after(seconds=1)) is None  # not before its time, whoever asks
    assert claim(store, by=YOU, now=after(seconds=1)) is None
    assert fail(store, 4, later)
    found = one(store)
    assert (found.position, found.failures, found.since) == (4, 2, NOW)
    assert (found.said, found.retry_at) == ("answered 503", after(hours=2))
    assert one(store, "erp").failures == 0
    begin(store, "crm")  # a gateway that starts does not wait
    assert one(store).failures == 2
    assert claim(store) == 4
    assert move(store, 5)
    assert (one(store).failures, one(store).since, one(store).said, one(store).retry_at) == (
        0,
        None,
        None,
        None,
    )


def test_how_it_went_stays_open_where_it_is_only_given_back(store: Engine) -> None:
    begin(store, "crm")
    fail(store, 3)
    assert claim(store, now=after(seconds=2)) == 3
    with writing(store) as connection:
        assert followers.give_back(connection, "crm", "me", 3)
    assert one(store).failures == 1
    assert claim(store, by=YOU, now=after(seconds=2)) == 3


def test_pages_hold_what_is_wanted_and_say_how_far_they_go(store: Engine) -> None:
    for number in range(4):
        append(store, opening(f"m{number}", attempted(), delivered()))
    with reading(store) as connection:
        whole = followers.page(connection, 2, (), 100)
        assert [row.position for row in whole.rows] == list(range(3, 13))
        assert (whole.reached, whole.last, whole.whole) == (12, 12, True)
        some = followers.page(connection, 0, ("delivered", "failed"), 3)
        assert [(row.position, row.name) for row in some.rows] == [(n, "delivered") for n in (3, 6, 9)]
        assert (some.reached, some.whole) == (9, False)
        rest = followers.page(connection, 9, ("delivered", "failed"), 3)
        assert ([row.position for row in rest.rows], rest.whole) == ([12], True)
        assert followers.page(connection, 12, (), 3).rows == []


def test_pages_are_bounded_where_little_is_wanted(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "SPAN", 4)
    for number in range(6):
        append(store, opening(f"m{number}"))
    append(store, opening("m9", attempted()))
    with reading(store) as connection:
        empty = followers.page(connection, 0, ("attempted",), 9)
        assert (list(empty.rows), empty.reached, empty.whole) == ([], 4, False)
        found = followers.page(connection, empty.reached, ("attempted",), 9)
        assert ([row.position for row in found.rows], found.reached, found.whole) == ([8], 8, True)


def test_a_rebuild_leaves_them_alone(store: Engine) -> None:
    append(store, opening("m1"))
    begin(store, "crm")
    fail(store, 1)
    before = one(store)
    with writing(store) as connection:
        rebuild.rebuild(connection)
    assert one(store) == before


def test_a_backup_takes_them_along_and_nobody_holds_them_there(store: Engine, tmp_path: Path) -> None:
    append(store, opening("m1"))
    begin(store, "crm")
    append(store, opening("m2"))
    claim(store)
    backup.backup(store, tmp_path / "copy.db", migrations.upgrade)
    again = open_store(f"sqlite:///{tmp_path / 'again.db'}")
    try:
        migrations.upgrade(again)
        begin(again, "crm", "other")  # a gateway ran on the empty store before
        backup.restore(tmp_path / "copy.db", again)
        assert (one(again).position, one(again).lag) == (1, 1)
        assert claim(again, by=YOU) == 1
        with reading(again) as connection:
            assert followers.one(connection, "other") is None
    finally:
        again.dispose()


def test_what_the_dead_held_is_free_at_once(store: Engine) -> None:
    begin(store, "crm")
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    dead = f"{socket.gethostname()}:{child.pid}:dead"
    assert claim(store, by=Claim(dead, after(days=1))) == 0
    present = presence.arrive(store)
    try:
        assert present.take_over() == 0  # messages
        assert claim(store) == 0
    finally:
        present.leave()
