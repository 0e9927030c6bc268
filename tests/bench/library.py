"""Appending and reading back beside the `eventsourcing` package, in the same run and on the same disk.

    pip install eventsourcing==9.5.6                     of nothing else here is it a dependency
    python -m tests.bench.library

The same events on both sides: what happens to messages, with all its facts. The package keeps them in its SQLite recorder,
through its mapper, written by orjson; it keeps no hash chain and nothing else, and waits for the disk as we do. Of ours there
are two rows. "the log" is what both do: events encoded, chained and inserted. "all of it" is what an append is here: the read
tables, the words, the counts, the agenda and the octets in the same transaction, revisions checked. One by one and in batches
of 100, medians of rounds taken in turn; then everything is read back as events.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson
from msgspec import structs

import migrations
from store import log
from store.chain import GENESIS
from store.database import open_store, reading, write_transaction
from store.events import Event
from store.log import Append, Unit
from store.recorded import event_row
from tests.bench import lives
from tests.bench.appending import steps

ROUNDS = 5
ALONE, TOGETHER = 1, 100
SINGLES, BATCHES = 400, 100  # appends of each size in a round
PAGE = 1_000


class Side(Protocol):
    """One way of keeping events."""

    def prepare(self, batch: Sequence[Append]) -> Any:
        """Return what is to be appended, as this side wants it."""

    def append(self, prepared: Any) -> None:
        """Append it in one transaction; returns when it is durable."""

    def read(self) -> int:
        """Read all events, each as an object; returns how many."""

    def close(self) -> None:
        """Let go of the database."""


class Ours:
    """All that an append is here."""

    def __init__(self, file: Path) -> None:
        self.engine = open_store(f"sqlite:///{file}", checkpoints=True)
        migrations.upgrade(self.engine)
        self.connection = self.engine.connect()

    def prepare(self, batch: Sequence[Append]) -> Any:
        """Return a unit for each, as a gateway submits them."""
        return [Unit((one,)) for one in batch]

    def append(self, prepared: Any) -> None:
        """Append it in one transaction."""
        with write_transaction(self.connection):
            refused = log.append(self.connection, prepared)
        assert not any(refused)

    def read(self) -> int:
        """Read the log in order."""
        with reading(self.engine) as connection:
            return sum(1 for _ in log.walk(connection))

    def close(self) -> None:
        """Let go of the database."""
        self.connection.close()
        self.engine.dispose()


class LogAlone(Ours):
    """The log without what is derived from it."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.position = 0
        self.heads: dict[str, bytes] = {}

    def prepare(self, batch: Sequence[Append]) -> Any:
        """Return them as they are."""
        return batch

    def append(self, prepared: Any) -> None:
        """Append it in one transaction."""
        with write_transaction(self.connection):
            log._EVENT.many(self.connection, [row for one in prepared for row in self._rows(one)])

    def _rows(self, one: Append) -> Iterator[dict[str, Any]]:
        for revision, event in enumerate(one.events, start=one.expected + 1):
            self.position += 1
            mark = self.heads.get(one.stream, GENESIS)
            row = event_row(one.stream, one.at, event, self.position, revision, mark)
            self.heads[one.stream] = row["hash"]
            yield row


@dataclass(frozen=True)
class Happened:
    """An event as the package wants it."""

    originator_id: UUID
    originator_version: int
    timestamp: datetime
    facts: dict[str, Any]


class Package:
    """The package's recorder and mapper."""

    def __init__(self, file: Path) -> None:
        from eventsourcing.persistence import Mapper, Transcoder
        from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

        class Orjson(Transcoder):
            """JSON as fast as ours: its own is in Python."""

            def encode(self, obj: Any) -> bytes:
                return orjson.dumps(obj)

            def decode(self, data: bytes) -> Any:
                return orjson.loads(data)

        self.datastore = SQLiteDatastore(str(file))
        self.recorder = SQLiteApplicationRecorder(self.datastore)
        self.recorder.create_table()
        self.mapper = Mapper[UUID](Orjson())

    def prepare(self, batch: Sequence[Append]) -> Any:
        """Return events of the package's kind."""
        return list(map_all(batch))

    def append(self, prepared: Any) -> None:
        """Append it in one transaction."""
        self.recorder.insert_events([self.mapper.to_stored_event(one) for one in prepared])

    def read(self) -> int:
        """Read all notifications, as its applications do."""
        count, start = 0, 1
        while found := self.recorder.select_notifications(start=start, limit=PAGE):
            count += len([self.mapper.to_domain_event(one) for one in found])
            start = found[-1].id + 1
        return count

    def close(self) -> None:
        """Let go of the database."""
        self.datastore.close()


def map_all(batch: Sequence[Append]) -> Iterator[Happened]:
    """Yield the package's events of ours."""
    for one in batch:
        for revision, event in enumerate(one.events, start=one.expected + 1):
            yield Happened(uuid5(NAMESPACE_OID, one.stream), revision + 1, one.at, facts(event))


def facts(event: Event) -> dict[str, Any]:
    """Return what an event says."""
    return {"name": event.NAME, **structs.asdict(event)}


SIDES: dict[str, Callable[[Path], Side]] = {
    "eventsourcing": Package,
    "mailgate, the log": LogAlone,
    "mailgate, all of it": Ours,
}


def rate(side: Side, appends: Iterator[Append], size: int, times: int) -> float:
    """Return events a second of so many appends of so many."""
    batches = [list(islice(appends, size)) for _ in range(times)]
    prepared = [side.prepare(batch) for batch in batches]
    begin = perf_counter()
    for one in prepared:
        side.append(one)
    taken = perf_counter() - begin
    return sum(len(one.events) for batch in batches for one in batch) / taken


def measure(folder: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return for each side: events a second one by one, in batches, read back."""
    sides = {name: make(folder / f"{n}.db") for n, (name, make) in enumerate(SIDES.items())}
    feeds = {name: _appends(rounds) for name in SIDES}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, side in sides.items():
            alone = rate(side, feeds[name], ALONE, SINGLES)
            found[name].append((alone, rate(side, feeds[name], TOGETHER, BATCHES)))
    back: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, side in sides.items():
            begin = perf_counter()
            back[name].append(side.read() / (perf_counter() - begin))
    for side in sides.values():
        side.close()
    return {
        name: (median(a for a, _ in pairs), median(b for _, b in pairs), median(back[name]))
        for name, pairs in found.items()
    }


def _appends(rounds: int) -> Iterator[Append]:
    """The same for each side; octets only count with all of it, for the package has no place for them."""
    for batch in lives.batches(rounds * (SINGLES + BATCHES * TOGETHER)):
        yield from steps(batch)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    try:
        import eventsourcing  # noqa: F401
    except ImportError:
        print(
            "the package to compare with is not installed: pip install eventsourcing==9.5.6", file=sys.stderr
        )
        return 1
    with TemporaryDirectory(dir="/var/tmp") as folder:
        found = measure(Path(folder), given.rounds)
    print(f"{'events a second':<22}{'one by one':>12}{'by 100':>10}{'read':>10}")
    for name, (alone, together, back) in found.items():
        print(f"{name:<22}{alone:>12,.0f}{together:>10,.0f}{back:>10,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
