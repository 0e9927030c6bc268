"""Looking again and again: what has passed is counted once, without going through more of the log than a bounded part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli import snapshot, times
from cli.context import StoreFailure
from cli.flow import SPAN
from cli.snapshot import Snapshot, Watch
from engine.settings import load
from store.database import open_store
from tests.build import Builder
from tests.cli.command import configure


@pytest.fixture
def builder(database_url: str) -> Iterator[Builder]:
    made = Builder(database_url, times.now() - timedelta(seconds=30))
    yield made
    made.close()


@pytest.fixture
def watch(builder: Builder, database_url: str, tmp_path: Path) -> Iterator[Watch]:
    engine = open_store(database_url)
    yield Watch(engine, load(configure(tmp_path, database_url)))
    engine.dispose()


def received(watch: Watch, seen: Snapshot, span: int = SPAN) -> float:
    return watch.flow.total("received", span, seen.second)


def test_what_was_there_counts_by_its_time_and_what_comes_when_it_is_seen(
    watch: Watch, builder: Builder
) -> None:
    builder.downloaded()
    first = watch.look()
    assert (received(watch, first), received(watch, first, 10)) == (1, 0)
    builder.downloaded()  # by its own time it is as old; another machine's clock may be behind
    seen = watch.look()
    assert (received(watch, seen), received(watch, seen, 10)) == (2, 1)
    again = watch.look()
    assert received(watch, again) == 2
    assert [one.position for one in again.events] == [2, 1]


def test_of_very_much_that_has_passed_a_part_is_counted(
    watch: Watch, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PASSED", 2)
    builder.submitted()
    watch.look()
    for _ in range(6):
        builder.submitted()
    assert received(watch, watch.look()) == 1 + 6


def test_how_far_it_was_looked_back_is_told(
    watch: Watch, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LOOK_BACK", 2)
    for _ in range(3):
        builder.downloaded()
        builder.later(seconds=5)
    seen = watch.look()
    assert received(watch, seen) == 2
    assert watch.flow.whole(10, seen.second)
    assert not watch.flow.whole(60, seen.second)


def test_after_a_while_without_looking_what_came_counts_by_its_time(
    watch: Watch, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.downloaded()
    begun = watch.look().at
    builder.later(seconds=60)
    builder.downloaded()
    monkeypatch.setattr(times, "now", lambda: begun + timedelta(seconds=100))
    seen = watch.look()
    assert received(watch, seen, 60) == 0
    assert received(watch, seen) == 2


def test_another_store_in_its_place_is_begun_anew(sqlite_url: str, tmp_path: Path) -> None:
    builder = Builder(sqlite_url)
    old = [builder.downloaded() for _ in range(3)]
    engine = open_store(sqlite_url)
    watch = Watch(engine, load(configure(tmp_path, sqlite_url)))
    assert [one.stream for one in watch.look().events] == old[::-1]
    builder.close()
    file, away, other = (tmp_path / name for name in ("mailgate.db", "away.db", "other.db"))
    file.rename(away)
    with pytest.raises(StoreFailure, match="there is no store"):
        watch.look()
    assert not file.exists()
    builder = Builder(f"sqlite:///{other}")
    new = builder.submitted()
    builder.close()
    away.write_bytes(other.read_bytes())  # as the file that it was: no other is looked into
    away.rename(file)
    assert [one.stream for one in watch.look().events] == [new]
    engine.dispose()
