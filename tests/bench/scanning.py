"""What scanning costs: the rate from end to end with and without scanners that answer at once, in turn.

    python -m tests.bench.scanning
    python -m tests.bench.scanning --messages 1000 --rounds 5

`fetched`: messages of 4 KiB from one POP3 mailbox to an SMTP server. `submitted`: the same handed in by SMTP over ten
connections. The scanners are a clamd and a spamd in a process of their own that find nothing and cost as little as Python
lets them. Both are run by turns as processes on a new SQLite store below /var/tmp; what counts is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

from tests.bench.fetching import ROOT, Mailboxes, mailgate, measure, message, small
from tests.bench.servers import Servers

CONNECTIONS = 10
PATIENCE_SECONDS = 300.0  # only a hang takes so long
ENDS = b"\0\0\0\0"
LENGTH = re.compile(rb"Content-length: (\d+)")


class Scanners:
    """A clamd and a spamd in processes of their own; `tables` is how to configure them: as Debian has them by default."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(dir="/var/tmp")
        clamd = socket.socket(socket.AF_UNIX)
        clamd.bind(f"{self._folder.name}/clamd.ctl")
        spamd = socket.socket()
        spamd.bind(("127.0.0.1", 0))
        self.tables = "".join(
            f'[[scanner]]\nkind = "{kind}"\naddress = "{address}"\non_found = "quarantine"\n'
            for kind, address in (
                ("clamd", f"unix:{self._folder.name}/clamd.ctl"),
                ("spamd", f"127.0.0.1:{spamd.getsockname()[1]}"),
            )
        )
        start = get_context("fork").Process
        self._processes = [
            start(target=_serve, args=(listener, answer), daemon=True)
            for listener, answer in ((clamd, _clamd), (spamd, _spamd))
        ]
        for process in self._processes:
            process.start()

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join()
        self._folder.cleanup()


def _serve(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """One question after the other: each is there at once and is answered at once."""
    listener.listen(512)
    while True:
        client, _ = listener.accept()
        with client:
            had = b""
            while not (said := answer(had)):
                had += client.recv(1 << 16)
            client.sendall(said)


def _clamd(had: bytes) -> bytes:
    if had.startswith(b"zVERSION"):
        return b"ClamAV 1.4.6/27500/Mon Jan  5 09:00:00 2026\0"
    return b"stream: OK\0" if had.endswith(ENDS) else b""


def _spamd(had: bytes) -> bytes:
    head, _, content = had.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    if length is None or len(content) < int(length[1]):
        return b""
    return b"SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\nSpam: False ; 0.0 / 5.0\r\n\r\n\r\n"


def scanned(tables: str, folder: Path, servers: Servers, mailboxes: Mailboxes) -> list[str]:
    """The gateway of `fetching`, with these scanners."""
    command = mailgate(folder, servers, mailboxes)
    with (folder / "mailgate.toml").open("a") as config:
        config.write(tables)
    return command


@dataclass(frozen=True, slots=True)
class Cost:
    """Messages a second, and milliseconds of the gateway's CPU for each, its start included."""

    rate: float
    cpu_ms: float


def fetched(servers: Servers, tables: str, count: int) -> Cost:
    """From a mailbox to the home server."""
    run = measure(partial(scanned, tables), servers, small(count))
    assert run.all
    return Cost(run.rate, run.cpu_ms)


def submitted(servers: Servers, tables: str, count: int) -> Cost:
    """From ten clients to the home server."""
    servers.fill({})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryDirectory(dir="/var/tmp") as folder:
        listens = (
            f'[[route]]\nrecipients = ["*"]\nnext_hop = "home"\n[listen]\naddress = "127.0.0.1:{port}"\n'
        )
        command = scanned(listens + tables, Path(folder), servers, {})[:-1]  # not only once
        log = (Path(folder) / "log").open("wb")
        gateway = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            rate = _submitted(port, servers, count)
        finally:
            gateway.send_signal(signal.SIGTERM)
            _, _, usage = os.wait4(gateway.pid, 0)
            log.close()
    return Cost(rate, (usage.ru_utime + usage.ru_stime) * 1_000 / count)


def _submitted(port: int, servers: Servers, count: int) -> float:
    _until(lambda: _answers(port))
    client = [sys.executable, "-m", "tests.bench.scanning", "--submit", str(port), "--messages", str(count)]
    began = perf_counter()
    subprocess.run(client, check=True, cwd=ROOT)
    _until(lambda: servers.result()[0].total() >= count)
    return count / (perf_counter() - began)


def _until(true: Any) -> None:
    end = perf_counter() + PATIENCE_SECONDS
    while not true():
        assert perf_counter() < end
        sleep(0.02)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


async def submit(port: int, count: int) -> None:
    """Hand in so many messages, over ten connections."""
    left = iter(range(count))
    await asyncio.gather(*(_client(port, left) for _ in range(CONNECTIONS)))


async def _client(port: int, left: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readuntil(b"\r\n")
    writer.write(b"EHLO client.example\r\n")
    while (await reader.readuntil(b"\r\n"))[3:4] == b"-":
        pass
    for number in left:
        writer.write(b"MAIL FROM:<anna@example.com>\r\nRCPT TO:<bob@customer.example>\r\nDATA\r\n")
        for _ in range(3):
            await reader.readuntil(b"\r\n")
        writer.write(message(number, 4_096).replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"250 ")
    writer.write(b"QUIT\r\n")
    writer.close()


def compare(name: str, way: Any, servers: Servers, scanners: Scanners, count: int, rounds: int) -> None:
    """Run without and with scanners in turn, and print the rates and their ratio."""
    pairs = [(way(servers, "", count), way(servers, scanners.tables, count)) for _ in range(rounds)]
    for what in ("rate", "cpu_ms"):
        values = [(getattr(plain, what), getattr(scanning, what)) for plain, scanning in pairs]
        without, beside = (median(column) for column in zip(*values, strict=True))
        ratios = [scanning / plain for plain, scanning in values]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{name:<10}{what:<7}{without:>8.2f} without, {beside:>8.2f} with scanners;"
            f" ratio {median(ratios):.2f} (each round: {shown})",
            flush=True,
        )


def main() -> None:
    """Compare both ways in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--submit", type=int, help=argparse.SUPPRESS)  # a client, in its own process
    given = parser.parse_args()
    if given.submit is not None:
        asyncio.run(submit(given.submit, given.messages))
        return
    servers, scanners = Servers(), Scanners()
    try:
        compare("fetched", fetched, servers, scanners, given.messages, given.rounds)
        compare("submitted", submitted, servers, scanners, given.messages, given.rounds)
    finally:
        scanners.stop()
        servers.stop()


if __name__ == "__main__":
    main()
