"""mailgate beside Postfix: mail taken by SMTP, kept durably, and relayed to a sink, each as it runs in earnest, in turn.

    python -m tests.bench.listening                     4 KiB and 50 KiB over 10 connections
    python -m tests.bench.listening --messages 2000 --connections 50 --sizes 4096 --rounds 5

"accepted" ends with the last 250 to the sender, "end to end" with the last message in the sink. CPU is that of all
processes of the server, for a message. Each round begins with an empty store or queue below /var/tmp, which must be on a disk:
both sync. Sender is Postfix's smtp-source where it is installed, one session for each connection; else one of our own. Without
Postfix on the machine, or without root, only mailgate is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from tests.bench.servers import Servers
from tests.real.postfix import Postfix
from tests.real.process import Missing, accepts_connections, free_ports

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
SENDER, RECIPIENT = "desk@home.example", "person@customer.example"
WARM_UP = 100
CONFIGURATION = """
[gateway]
hostname = "gate.example.com"
postmaster = "postmaster@home.example"
domains = ["home.example"]
[store]
url = "sqlite:///mailgate.db"
[listen]
address = "127.0.0.1:{port}"
[next_hop.sink]
host = "127.0.0.1"
port = {sink}
tls = "none"
connections = 10
[[route]]
recipients = ["*"]
next_hop = "sink"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent."""

    messages: int
    connections: int
    size_octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a server came to; rates are messages a second."""

    accepted: float
    end_to_end: float
    cpu_ms: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: its first process, and where it listens."""

    pid: int
    port: int


Server = Callable[[int], AbstractContextManager[Running]]


@contextmanager
def mailgate(sink: int) -> Iterator[Running]:
    """The gateway on a new store."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        config = Path(folder) / "mailgate.toml"
        config.write_text(CONFIGURATION.format(port=port, sink=sink))
        command = [sys.executable, "-m", "cli.main", "--config", str(config), "run"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        try:
            while not accepts_connections(port):
                sleep(0.05)
            yield Running(process.pid, port)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def postfix(sink: int) -> Iterator[Running]:
    """Postfix with an empty queue."""
    with Postfix(relay_port=sink) as server:
        yield Running(server.process.pid, server.port)


def send(port: int, load: Load) -> None:
    """Send all of it, and wait for the last answer."""
    source = shutil.which("smtp-source")
    if source is None:
        sender = get_context("spawn").Process(target=_send, args=(port, load))
        sender.start()
        sender.join()
        return
    command = [
        source,
        "-d",
        "-s",
        str(load.connections),
        "-m",
        str(load.messages),
        "-l",
        str(load.size_octets),
    ]
    subprocess.run([*command, "-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{port}"], check=True)


def _send(port: int, load: Load) -> None:
    asyncio.run(_send_all(port, load))


async def _send_all(port: int, load: Load) -> None:
    body = b"X" * 78 + b"\r\n"
    content = b"Subject: measured\r\n\r\n" + body * (load.size_octets // len(body)) + b".\r\n"
    numbers = iter(range(load.messages))

    async def session() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        say = [b"HELO client.example\r\n"]
        for _ in numbers:
            say += [b"MAIL FROM:<%s>\r\n" % SENDER.encode(), b"RCPT TO:<%s>\r\n" % RECIPIENT.encode()]
            for octets in (*say, b"DATA\r\n", content):
                writer.write(octets)
                assert (await reader.readline())[:1] in b"23"
            say = []
        writer.close()

    await asyncio.gather(*(session() for _ in range(load.connections)))


def measure(server: Server, servers: Servers, load: Load) -> Run:
    """Run a server once."""
    with server(servers.smtp_port) as running:
        servers.fill({})
        send(running.port, Load(messages=WARM_UP, connections=load.connections, size_octets=load.size_octets))
        servers.wait_for(WARM_UP)
        servers.fill({})
        used, begin = cpu_seconds(running.pid), perf_counter()
        send(running.port, load)
        accepted = perf_counter() - begin
        servers.wait_for(load.messages)
        arrived = perf_counter() - begin
        return Run(
            accepted=load.messages / accepted,
            end_to_end=load.messages / arrived,
            cpu_ms=(cpu_seconds(running.pid) - used) * 1_000 / load.messages,
            peak_mib=peak_kib(running.pid) / 1_024,
        )


def cpu_seconds(pid: int) -> float:
    """What a process has used, with all it started, those that are gone included."""
    used = 0.0
    for one in family(pid):
        with suppress(OSError):
            after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, after_name[11:15])) / TICKS
    return used


def peak_kib(pid: int) -> int:
    """The peaks of a process and of all it started that are still there."""
    peak = 0
    for one in family(pid):
        with suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{one}/status").read_text(), re.MULTILINE)
            peak += int(found[1]) if found else 0
    return peak


def family(pid: int) -> Iterator[int]:
    """A process and all it started."""
    yield pid
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def compare(servers: Servers, kinds: dict[str, Server], load: Load, rounds: int) -> None:
    """Run the servers in turn, and print medians."""
    runs: dict[str, list[Run]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, server in kinds.items():
            runs[name].append(measure(server, servers, load))
    print(
        f"\n{load.messages} messages of {load.size_octets} octets, {load.connections} connections, median of {rounds}"
    )
    print(f"{'':<10}{'accepted/s':>12}{'end to end/s':>14}{'CPU ms each':>13}{'peak MiB':>10}")
    for name, those in runs.items():
        fields = ("accepted", "end_to_end", "cpu_ms", "peak_mib")
        accepted, arrived, cpu, peak = (median(getattr(run, one) for run in those) for one in fields)
        print(f"{name:<10}{accepted:>12.0f}{arrived:>14.0f}{cpu:>13.2f}{peak:>10.0f}")
    if len(runs) == 2:
        for what in ("accepted", "end_to_end"):
            ratios = [getattr(a, what) / getattr(b, what) for a, b in zip(*runs.values(), strict=True)]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(
                f"{what.replace('_', ' ')}, {' / '.join(runs)}: {median(ratios):.2f} (each round: {each})",
                flush=True,
            )


def main() -> None:
    """Compare for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=3_000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4_096, 51_200])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without Postfix")
    given = parser.parse_args()
    kinds: dict[str, Server] = {"mailgate": mailgate}
    if not given.alone:
        try:
            Postfix()
            kinds["postfix"] = postfix
        except Missing as missing:
            print(f"{missing}: mailgate alone")
    servers = Servers()
    try:
        for size in given.sizes:
            load = Load(messages=given.messages, connections=given.connections, size_octets=size)
            compare(servers, kinds, load, given.rounds)
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
