"""How fast a store with a million messages answers, and whether walking all of it takes memory.

    python -m tests.bench.million                        SQLite, below /var/tmp
    python -m tests.bench.million --url postgres         a PostgreSQL of its own, started for this
    python -m tests.bench.million --url URL --walks no   any store: filled if empty, used as it is if not

The first page (50 messages) of `list` by each filter, a page in the middle where there are enough, and some filters
together: median and 95th percentile of so many runs, each query prepared anew as a command would. Then everything is
walked: events a second, and how far the peak of this process' memory rose. The aim is 10 ms for each single filter,
whatever it finds, 20 ms for words, 100 ms for a fragment of a subject within thirty days, 50 ms for the statistics of a
day, and memory that does not depend on the size of the store. A store in a file is kept for the next run; remove it by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select

import migrations
from store import conserve, log, queries, selection, tallies, verified, verify
from store.database import open_store, reading, writing
from store.queries import Filter
from store.rebuild import rebuild
from store.schema import events
from tests.bench import lives, stock
from tests.bench.lives import BEGIN
from tests.bench.questions import DAY, filters, fragments, texts, together
from tests.real.postgres import Postgres

AIM_MS = 10.0
WORD_MS = 20.0
FRAGMENT_MS = 100.0
STATS_MS = 50.0
FILE = Path("/var/tmp/mailgate-bench/million.db")


def ask(
    connection: Connection, asked: Iterable[tuple[str, Filter]], runs: int, aim_ms: float = AIM_MS
) -> list[str]:
    """Time each filter; returns the names of those that took too long."""
    late = []
    print(f"{'first page of 50':<34}{'matches':>10}{'median ms':>11}{'95th ms':>9}{'middle ms':>11}")
    for name, wanted in asked:
        matches = connection.scalar(select(func.count()).select_from(everything(wanted).subquery())) or 0
        first = times(partial(queries.page, connection, wanted), runs)
        later = _middle(connection, wanted, matches, runs)
        mark = "" if max(first[0], later) < aim_ms else "  *"
        shown = f"{later:11.2f}" if later else f"{'-':>11}"
        print(f"{name:<34}{matches:>10}{first[0]:>11.2f}{first[1]:>9.2f}{shown}{mark}", flush=True)
        late += [name] if mark else []
    return late


def count(connection: Connection, runs: int) -> list[str]:
    """Time statistics; returns the names of those that took too long."""
    late = []
    print(f"{'statistics':<34}{'rows':>10}{'median ms':>11}{'95th ms':>9}")
    for name, days, aim_ms in (("a day in the middle", 1, STATS_MS), ("ninety days", 90, None)):
        since, until = (BEGIN + 45 * DAY, BEGIN + 46 * DAY) if days == 1 else (BEGIN, BEGIN + days * DAY)
        rows = len(list(tallies.between(connection, since, until)))
        taken = times(lambda: list(tallies.between(connection, since, until)), runs)  # noqa: B023 - called at once
        mark = "  *" if aim_ms is not None and taken[0] >= aim_ms else ""
        print(f"{name:<34}{rows:>10}{taken[0]:>11.2f}{taken[1]:>9.2f}{mark}", flush=True)
        late += [f"statistics, {name}"] if mark else []
    return late


def everything(wanted: Filter) -> Select[Any]:
    """Select all that fit, newest first."""
    return selection.chosen(wanted, list(selection.leads_of(wanted)))


def times(call: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Return the median and the 95th percentile of some runs, in ms; fewer runs where one takes a second."""
    taken: list[float] = []
    while len(taken) < runs and (sum(taken) < 2_000 or len(taken) < 3):
        begin = perf_counter()
        call()
        taken.append((perf_counter() - begin) * 1_000)
    return median(taken), quantiles(taken, n=20, method="inclusive")[-1]


def _middle(connection: Connection, wanted: Filter, matches: int, runs: int) -> float:
    if matches <= 2 * queries.PAGE:
        return 0.0
    found = connection.execute(everything(wanted).offset(matches // 2).limit(1)).one()
    return times(lambda: queries.page(connection, wanted, before=found.position), runs)[0]


def walk(engine: Engine) -> None:
    """Go through everything in each way there is."""
    print(f"\n{'walking everything':<34}{'events':>10}{'events/s':>11}{'memory':>12}")
    with reading(engine) as connection:
        total = connection.scalar(select(func.count()).select_from(events)) or 0
        weigh("list --limit 0", total, lambda: sum(1 for _ in queries.every(connection, Filter())))
        weigh("the log in order", total, lambda: sum(1 for _ in log.walk(connection)))
        weigh("the log by stream", total, lambda: sum(1 for _ in log.streams(connection)))
        weigh(
            "conserve",
            total,
            lambda: print(
                "".join(conserve.check(connection, conserve.Count(), datetime(2026, 6, 1, tzinfo=UTC))),
                end="",
            ),
        )
        weigh("verify", total, lambda: print(*verify.log(connection, total, verified.Count())))
    weigh("rebuild", total, lambda: _rebuild(engine))


def weigh(name: str, total: int, call: Callable[[], Any]) -> None:
    """Time a call, and print by how much memory rose at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = _memory("VmRSS"), perf_counter()
    call()
    seconds, rise = perf_counter() - begin, _memory("VmHWM") - before
    print(f"{name:<34}{total:>10}{total / seconds:>11,.0f}{rise / 1024:>8.1f} MiB", flush=True)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _rebuild(engine: Engine) -> None:
    with writing(engine) as connection:
        rebuild(connection)


def _say(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} events", end="", file=sys.stderr)


def build(url: str, count: int) -> None:
    """Fill a store that is empty."""
    engine = stock.open_for_filling(url)
    migrations.upgrade(engine)
    with reading(engine) as connection:
        there = log.last_position(connection)
    if there:
        print(f"{there} events are there already")
        engine.dispose()
        return
    begin = perf_counter()
    made = stock.fill(engine, lives.batches(count), _say)
    filled = perf_counter()
    print(
        f"\r{made} events written in {filled - begin:.0f} s ({made / (filled - begin):,.0f} a second)",
        flush=True,
    )
    _rebuild(engine)
    print(f"read tables made in {perf_counter() - filled:.0f} s", flush=True)
    stock.look_over(engine)
    engine.dispose()


def main() -> int:
    """Build, ask, walk."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=f"sqlite:///{FILE}", help="of the store, or: postgres")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--walks", choices=("yes", "no"), default="yes")
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url
        if url == "postgres":
            url = stack.enter_context(Postgres()).create_database()
        elif url.startswith("sqlite:"):
            FILE.parent.mkdir(exist_ok=True)
        build(url, given.messages)
        engine = open_store(url)
        stack.callback(engine.dispose)
        with reading(engine) as connection:
            known = queries.page(connection, Filter(event="delivered"))[7]
            late = ask(connection, filters(known), given.runs)
            print("\nwords of subject and addresses")
            late += ask(connection, texts(known), given.runs, WORD_MS)
            print("\nfragments of the subject")
            late += ask(connection, fragments(known), given.runs, FRAGMENT_MS)
            print()
            late += count(connection, given.runs)
            print()
            ask(connection, together(), given.runs)
        if given.walks == "yes":
            walk(engine)
    if late:
        print(f"\ntoo late: {', '.join(late)}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
