"""Fetching and delivering with a million messages in the store, beside an empty one.

    python -m tests.bench.million --walks no             makes the store, once
    python -m tests.bench.full

Messages of 4 KiB from one mailbox to an SMTP server, as `tests.bench.fetching` has them, into a copy of the large store and into
an empty one in turn. Before the first round what is due in the large store is delivered. The aim is nine tenths of the
rate; the processor's time a message tells more where others use the machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.bench import fetching
from tests.bench.fetching import ROOT, Client, Mailboxes, Run
from tests.bench.million import FILE
from tests.bench.servers import Servers

AIM = 0.9


def into(store: Path) -> Client:
    """Return the client that keeps its messages there."""

    def client(folder: Path, servers: Servers, mailboxes: Mailboxes) -> list[str]:
        command = fetching.mailgate(folder, servers, mailboxes)
        config = folder / "mailgate.toml"
        text = config.read_text().replace(f"{folder}/mailgate.db", str(store))
        # All of it is old: it would be purged meanwhile.
        config.write_text(f'{text}[retention]\ncontents = "3650d"\n')
        return command

    return client


def settle(store: Path, servers: Servers) -> None:
    """Deliver what is due there."""
    servers.fill({"box": []})
    with TemporaryDirectory(dir="/var/tmp") as folder:
        command = into(store)(Path(folder), servers, {"box": []})
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def compare(store: Path, messages: int, rounds: int) -> float:
    """Measure both in turn, print, and return the share of the rate that is left."""
    servers = Servers()
    empty: list[Run] = []
    full: list[Run] = []
    names = count()
    try:
        settle(store, servers)
        for _ in range(rounds):
            for client, runs in ((fetching.mailgate, empty), (into(store), full)):
                # A mailbox of its own: of one that it knows it would fetch nothing twice.
                box = {f"round{next(names)}": fetching.small(messages)["box0"]}
                runs.append(fetching.measure(client, servers, box))
    finally:
        servers.stop()
    print(f"{'':<12}{'messages/s':>12}{'CPU ms each':>13}{'all':>6}")
    for name, runs in (("empty", empty), ("full", full)):
        rate, cpu = median(run.rate for run in runs), median(run.cpu_ms for run in runs)
        print(f"{name:<12}{rate:>12.0f}{cpu:>13.2f}{'yes' if all(run.all for run in runs) else 'NO':>6}")
    ratios = [large.rate / small.rate for large, small in zip(full, empty, strict=True)]
    print(f"full / empty: {median(ratios):.2f} (each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return median(ratios)


def main() -> int:
    """Copy the large store and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, default=FILE, help="a SQLite store, which is copied")
    parser.add_argument("--messages", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if not given.store.exists():
        print(f"there is no {given.store}: python -m tests.bench.million --walks no", file=sys.stderr)
        return 1
    with TemporaryDirectory(dir=given.store.parent) as folder:
        copy = Path(shutil.copy(given.store, folder))
        return 0 if compare(copy, given.messages, given.rounds) >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
