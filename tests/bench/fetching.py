"""mailgate beside fetchmail: mail from POP3 mailboxes to an SMTP server, each as a process, in turn.

    python -m tests.bench.fetching                 both sets
    python -m tests.bench.fetching --messages 500 --rounds 3

Set `4k`: so many messages of 4 KiB in one mailbox. Set `mixed`: a fifth as many, 200 KB on average as real mail is
spread (many small ones, some of some MB), over 20 mailboxes. Both clients fetch all, hand over all, and delete it from
the mailboxes; mailgate also keeps each message and its history durably, in a new SQLite store below /var/tmp. fetchmail
keeps nothing. For each round and client: messages a second, CPU of the client a message (its children too), and its peak
memory. "all" says whether each message arrived exactly once and the mailboxes are empty.
Without fetchmail on the machine only mailgate is measured.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from tests.bench.servers import MESSAGE_ID, Servers

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.02  # how often a client's memory is read
RUN_SECONDS = 600.0  # only a hang takes so long

Mailboxes = dict[str, list[bytes]]
Client = Callable[[Path, Servers, Mailboxes], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a client took."""

    rate: float  # messages a second
    cpu_ms: float  # a message
    peak_mib: float
    all: bool


def small(count: int) -> Mailboxes:
    """One mailbox with messages of 4 KiB."""
    return {"box0": [message(number, 4_096) for number in range(count)]}


def mixed(count: int) -> Mailboxes:
    """Twenty mailboxes: 70 % of 2-20 KiB, 25 % of 50-300 KiB, 5 % of 1-5 MiB."""
    chance = random.Random(1)
    found: Mailboxes = {f"box{number}": [] for number in range(20)}
    for number in range(count):
        low, high = chance.choices(((2, 20), (50, 300), (1_024, 5_120)), (70, 25, 5))[0]
        found[f"box{number % 20}"].append(message(number, chance.randrange(low * 1_024, high * 1_024)))
    return found


def message(number: int, size_octets: int) -> bytes:
    """Return a message of about that size, of lines as base64 has them."""
    head = (
        f"Return-Path: <person{number}@customer.example>\r\nFrom: Person <person{number}@customer.example>\r\n"
        f"To: info@example.com\r\nSubject: number {number}\r\nMessage-ID: <{number}@customer.example>\r\n"
        "Date: Thu, 01 Jan 2026 12:00:00 +0000\r\n\r\n"
    )
    line = b"QmFzZSA2NCBoYXMgbGluZXMgb2Ygc2V2ZW50eS1zaXggY2hhcmFjdGVycywgYW5kIHRoaXMgaXM=\r\n"
    return head.encode() + line * max(1, (size_octets - len(head)) // len(line))


def mailgate(folder: Path, servers: Servers, mailboxes: Mailboxes) -> list[str]:
    """Write the configuration and make the store; returns the command."""
    tables = [
        f'[gateway]\nhostname = "gate.example.com"\npostmaster = "postmaster@example.com"\ndomains = ["example.com"]\n'
        f'[store]\nurl = "sqlite:///{folder}/mailgate.db"\n'
        f'[next_hop.home]\nhost = "127.0.0.1"\nport = {servers.smtp_port}\ntls = "none"\n'
    ]
    tables += [
        f'[[mailbox]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {servers.pop3_port}\ntls = "none"\n'
        f'username = "{name}"\npassword = "secret"\nrecipients = ["{name}@example.com"]\n'
        for name in mailboxes
    ]
    config = folder / "mailgate.toml"
    config.write_text("".join(tables))
    config.chmod(0o600)
    command = [
        sys.executable,
        "-c",
        "import sys; from cli.main import main; sys.exit(main())",
        "--config",
        str(config),
    ]
    subprocess.run([*command, "db", "upgrade"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return [*command, "run", "--once"]


def fetchmail(folder: Path, servers: Servers, mailboxes: Mailboxes) -> list[str]:
    """Write the configuration; returns the command."""
    lines = [f"poll 127.0.0.1 service {servers.pop3_port} proto pop3 timeout 120 auth password\n"]
    lines += [
        f'  user "{name}" there with password "secret" is "{name}@example.com" here'
        f' smtphost "127.0.0.1/{servers.smtp_port}" smtpname "{name}@example.com" sslproto "" fetchall nokeep\n'
        for name in mailboxes
    ]
    config = folder / "fetchmailrc"
    config.write_text("".join(lines))
    config.chmod(0o600)
    return ["fetchmail", "-s", "--pidfile", f"{folder}/pid", "-f", str(config), "--nodetach", "--nosyslog"]


def measure(client: Client, servers: Servers, mailboxes: Mailboxes) -> Run:
    """Fill the mailboxes and run a client once."""
    servers.fill(mailboxes)
    expected = Counter(
        found[1] for box in mailboxes.values() for one in box if (found := MESSAGE_ID.search(one))
    )
    with TemporaryDirectory(dir="/var/tmp") as folder:
        command = client(Path(folder), servers, mailboxes)
        environment = os.environ | {"FETCHMAILHOME": folder}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            begin = perf_counter()
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
            seconds, usage, peak = _wait(process.pid, begin)
        said = log.read_text(errors="replace")
    arrived, left = servers.result()
    count = expected.total()
    if arrived != expected or left:
        print(
            f"{command[0]}: {arrived.total()} of {count} arrived, {left} left\n{said[-400:]}", file=sys.stderr
        )
    return Run(
        rate=count / seconds,
        cpu_ms=(usage.ru_utime + usage.ru_stime) * 1_000 / count,
        peak_mib=peak / 1_024,
        all=arrived == expected and left == 0,
    )


def _wait(pid: int, begin: float) -> tuple[float, resource.struct_rusage, int]:
    """Wait for a client; returns how long it took, what it used, and its peak memory in KiB.

    The kernel's own peak of a child begins with the size of this process, so the memory is read while it runs.
    """
    peak = 0
    while (ended := os.wait4(pid, os.WNOHANG))[0] == 0:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
        if perf_counter() - begin > RUN_SECONDS:
            os.kill(pid, signal.SIGKILL)
        sleep(LOOK_SECONDS)
    return perf_counter() - begin, ended[2], peak


def compare(
    name: str, clients: dict[str, Client], servers: Servers, mailboxes: Mailboxes, rounds: int
) -> None:
    """Run the clients in turn, and print medians."""
    runs: dict[str, list[Run]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client, start in clients.items():
            runs[client].append(measure(start, servers, mailboxes))
    count, size = (
        sum(map(len, mailboxes.values())),
        sum(len(one) for box in mailboxes.values() for one in box),
    )
    print(f"\n{name}: {count} messages, {size / 1e6:.0f} MB, {len(mailboxes)} mailboxes, median of {rounds}")
    print(f"{'':<12}{'messages/s':>12}{'MB/s':>8}{'CPU ms each':>13}{'peak MiB':>10}{'all':>6}")
    for client, those in runs.items():
        rate, complete = median(run.rate for run in those), all(run.all for run in those)
        cpu, peak = median(run.cpu_ms for run in those), median(run.peak_mib for run in those)
        speed = rate * size / count / 1e6
        print(
            f"{client:<12}{rate:>12.0f}{speed:>8.1f}{cpu:>13.2f}{peak:>10.0f}{'yes' if complete else 'NO':>6}"
        )
    if len(runs) == 2:
        pairs = list(zip(*runs.values(), strict=True))
        ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{' / '.join(runs)}: {median(ratios):.2f} (each round: {shown})", flush=True)


def main() -> None:
    """Compare on both sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    clients: dict[str, Client] = {"mailgate": mailgate}
    if shutil.which("fetchmail"):
        clients["fetchmail"] = fetchmail
    else:
        print("fetchmail is not installed (Debian: apt-get install fetchmail): mailgate alone")
    servers = Servers()
    try:
        compare("4k", clients, servers, small(given.messages), given.rounds)
        compare("mixed", clients, servers, mixed(max(20, given.messages // 5)), given.rounds)
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
