"""How many events a second the log takes, durably, and gives back.

    python -m tests.bench.appending                      SQLite below /var/tmp, and a PostgreSQL of its own if installed
    python -m tests.bench.appending --url URL --size 100    an empty store of yours
    python -m tests.bench.appending --pages 4000         SQLite with another size of WAL at which it checkpoints

One unit is one step of a message's life: an event mostly, with the read tables and the agenda in the same transaction. So
many units share a transaction, as group commit has it: 1 is a quiet gateway, 256 a busy one. What the units say is made
beforehand. Each size begins with an empty store; median of some rounds. Then everything is read back: the log in order,
and message by message, each folded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from sqlalchemy import Engine

import migrations
from store import database, log
from store.database import open_store, reading, write_transaction
from store.log import Append, Unit
from tests.bench import lives
from tests.real.postgres import Postgres
from tests.real.process import Missing

SIZES = (1, 10, 100, 256)
ROUND_SECONDS = 2.0  # of appending, for each size
ROUNDS = 5
MOST_UNITS = 60_000
OCTETS = 4_096  # of each message

Fresh = Callable[[], str]


def measure(fresh: Fresh, octets: int, sizes: Sequence[int]) -> None:
    """Measure each size on an empty store, and print."""
    for size in sizes:
        engine = open_store(fresh(), checkpoints=True)
        migrations.upgrade(engine)
        units = (
            Unit((append,)) for batch in lives.batches(MOST_UNITS, octets=octets) for append in steps(batch)
        )
        rates, commits = append_all(engine, units, size)
        forward, folded = read_all(engine)
        engine.dispose()
        print(
            f"{size:>6}{median(rates):>12,.0f}{median(commits):>12.2f}{max(commits):>10.1f}{forward:>12,.0f}{folded:>13,.0f}",
            flush=True,
        )


def steps(batch: list[lives.Life]) -> Iterator[Append]:
    """Yield the steps of lives side by side, in the order of time."""
    while batch := [life for life in batch if life.steps]:
        for life in batch:
            yield life.next()


def append_all(engine: Engine, units: Iterator[Unit], size: int) -> tuple[list[float], list[float]]:
    """Append for some rounds; returns events a second of each round, and the ms of each commit."""
    rates, commits = [], []
    with engine.connect() as connection:
        for _ in range(ROUNDS):
            done, spent = 0, 0.0
            while spent < ROUND_SECONDS / ROUNDS and (batch := list(islice(units, size))):
                begin = perf_counter()
                with write_transaction(connection):
                    refused = log.append(connection, batch)
                taken = perf_counter() - begin
                assert not any(refused)
                spent += taken
                commits.append(taken * 1_000)
                done += sum(len(append.events) for unit in batch for append in unit.appends)
            if spent:
                rates.append(done / spent)
    return rates, commits


def read_all(engine: Engine) -> tuple[float, float]:
    """Return events a second of the walk through the log, and of messages read and folded one by one."""
    with reading(engine) as connection:
        begin = perf_counter()
        streams = [one.stream for one in log.walk(connection)]
        forward = len(streams) / (perf_counter() - begin)
        some = dict.fromkeys(streams[:8_000])
        begin = perf_counter()
        count = sum(message.revision + 1 for stream in some if (message := log.message(connection, stream)))
        return forward, count / (perf_counter() - begin)


@contextmanager
def stores(url: str | None) -> Iterator[dict[str, Fresh]]:
    """Yield what makes empty stores, by the name of the database."""
    if url is not None:
        yield {url: lambda: url}
        return
    with TemporaryDirectory(dir="/var/tmp") as folder:
        numbers = iter(range(1_000))
        found: dict[str, Fresh] = {"SQLite": lambda: f"sqlite:///{Path(folder) / str(next(numbers))}.db"}
        try:
            # With fsync: a store that forgets is no store.
            with Postgres(fsync=True) as server:
                yield found | {"PostgreSQL": server.create_database}
        except Missing as missing:
            print(missing)
            yield found


def main() -> None:
    """Measure each database there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of an empty store")
    parser.add_argument(
        "--size", type=int, default=100, help="units of a transaction, where a store is given"
    )
    parser.add_argument(
        "--pages", type=int, default=database.CHECKPOINT_PAGES, help="of WAL until a checkpoint"
    )
    parser.add_argument("--octets", type=int, default=OCTETS, help="of each message")
    given = parser.parse_args()
    database.CHECKPOINT_PAGES = given.pages
    with stores(given.url) as found:
        for name, fresh in found.items():
            print(f"{name}, messages of {given.octets} octets, events a second")
            print(
                f"{'units':>6}{'appended':>12}{'commit ms':>12}{'worst':>10}{'walked':>12}{'read, folded':>13}"
            )
            measure(fresh, given.octets, SIZES if given.url is None else (given.size,))


if __name__ == "__main__":
    main()
