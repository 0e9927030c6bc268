"""How fast a large store is proven: its sum, its chains, its seals; and whether any of it takes memory.

    python -m tests.bench.proof                        SQLite, below /var/tmp, 200,000 messages
    python -m tests.bench.proof --messages 1000000     the size that the aims are meant for
    python -m tests.bench.proof --url postgres         a PostgreSQL of its own, started for this

Events a second, by the clock and by the processor's time (they differ where others use the machine), and how far the peak of
this process' memory rose. The aims, on SQLite: 150,000 events a second for
verifying, and conserve over a million messages (4.1 million events) within 30 s, which is 137,000 a second; sealing again in
seconds whatever the size. Prints what a million messages would take at that speed. A store in a file is kept for the next run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

from sqlalchemy import Connection, Engine

from store import bundle, conserve, log, seals, verify
from store.copying import quiet
from store.database import open_store, reading, writing
from store.verified import Count
from tests.bench.million import build, weigh
from tests.real.postgres import Postgres

FILE = Path("/var/tmp/mailgate-bench/proof.db")
MILLION = 1_000_000
AT = datetime(2026, 6, 1, tzinfo=UTC)


def seal(engine: Engine) -> None:
    """Seal the log as it is."""
    with reading(engine) as connection:
        made = seals.make(connection, AT, lambda seal: seal, quiet)
    assert made is not None
    with writing(engine) as connection:
        assert seals.put(connection, made)


def whole(findings: Any) -> None:
    """Nothing may be wrong."""
    found = list(findings)
    assert not found, found[:3]


def prove(engine: Engine, messages: int) -> None:
    """Go through everything in each way there is."""
    with reading(engine) as connection:
        total = log.last_position(connection)

    def timed(name: str, call: Callable[[Connection], None]) -> None:
        began = process_time()
        with reading(engine) as connection:
            weigh(name, total, lambda: call(connection))
        seconds = process_time() - began
        million = f"a million messages: {seconds * MILLION / messages:.0f} s"
        print(f"{'  of processor time':<44}{total / seconds:>11,.0f}   {million}", flush=True)

    print(f"\n{'proving everything':<34}{'events':>10}{'events/s':>11}{'memory':>12}")
    timed("conserve", lambda connection: whole(conserve.check(connection, conserve.Count(), AT)))
    timed("verify, no seal", lambda c: whole(verify.log(c, total, Count())))
    weigh("seal", total, lambda: seal(engine))
    weigh("seal again", total, lambda: seal(engine))
    timed("verify", lambda c: whole(verify.log(c, total, Count(), entries=seals.every(c))))
    timed("the octets", lambda c: whole(verify.contents(c, Count())))
    with reading(engine) as connection:
        stream = next(log.walk(connection, total // 2, 1)).stream
        weigh("one message's proof", total, lambda: _gather(connection, stream))


def _gather(connection: Connection, stream: str) -> None:
    made = bundle.gather(connection, stream, AT, "mailgate")
    assert len(made.inclusion) == len(made.facts)


def main() -> int:
    """Build, prove."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of the store, or: postgres")
    parser.add_argument("--messages", type=int, default=200_000)
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url or f"sqlite:///{FILE.with_stem(f'proof-{given.messages}')}"
        if url == "postgres":
            url = stack.enter_context(Postgres()).create_database()
        elif url.startswith("sqlite:"):
            FILE.parent.mkdir(exist_ok=True)
        build(url, given.messages)
        engine = open_store(url)
        stack.callback(engine.dispose)
        prove(engine, given.messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
