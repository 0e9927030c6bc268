"""A whole house on loopback: a provider's mailbox, a home server, a store, and the real command line as a process."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import clock
from store import conserve, log
from store.database import open_store, reading
from store.life import Message
from tests import schema
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer
from tests.peers.thread import PeerThread

RECIPIENT = "info@example.com"
PASSWORD = "open sesame"
ROOT = Path(__file__).parents[2]
RUN_SECONDS = 120  # only a hang takes so long
TRACE = re.compile(rb"Received: \(mailbox .*?;\s+\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n", re.DOTALL)
FIRST_LINE = b"X-Mailgate-First-Line:"
NOTICE = b"Auto-Submitted: auto-replied"


def mail(number: int, size_octets: int = 300) -> bytes:
    """One small message; each has another content."""
    head = (
        f"Return-Path: <sender{number}@elsewhere.example>\r\n"
        f"From: Sender {number} <sender{number}@elsewhere.example>\r\nTo: {RECIPIENT}\r\n"
        f"Subject: number {number}\r\nMessage-ID: <{number}@elsewhere.example>\r\n\r\n.leading dot {number}\r\n"
    )
    return (head + "x" * max(0, size_octets - len(head) - 2) + "\r\n").encode()


@dataclass
class House:
    """What a test looks at and acts on."""

    folder: Path
    store_url: str
    provider: Pop3Peer
    home: HomePeer
    provider_port: int
    home_port: int
    mailbox: dict[str, Any] = field(default_factory=dict)  # keys to add to the [[mailbox]] table
    next_hop: dict[str, Any] = field(default_factory=dict)
    retry: dict[str, Any] = field(default_factory=lambda: {"first": "1s"})
    gateway: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    neighbours: dict[str, int] = field(
        default_factory=dict
    )  # further mailboxes, and the port of their provider
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)  # to add to the table of one mailbox
    environment: dict[str, str] = field(default_factory=dict)  # of the commands
    more: str = ""

    @property
    def config(self) -> Path:
        """The configuration file; written anew at each run."""
        return self.folder / "mailgate.toml"

    def write(self) -> None:
        """Write the configuration."""
        text = f"""
[gateway]
hostname = "gate.example.com"
postmaster = "postmaster@example.com"
domains = ["example.com"]
{_keys(self.gateway)}
[store]
url = "{self.store_url}"
{_keys(self.store)}
[next_hop.home]
host = "127.0.0.1"
port = {self.home_port}
tls = "none"
{_keys(self.next_hop)}
[retry]
{_keys(self.retry)}
"""
        boxes = {"info": self.provider_port, **self.neighbours}
        text += "".join(self._table(name, port) for name, port in boxes.items())
        self.config.write_text(text + self.more)

    def _table(self, name: str, port: int) -> str:
        keys = {
            "recipients": [f"{name}@example.com"],
            "poll_every": "10s",
            **self.mailbox,
            **self.keys.get(name, {}),
        }
        return f"""
[[mailbox]]
name = "{name}"
host = "127.0.0.1"
port = {port}
tls = "none"
username = "{name}"
password = "{PASSWORD}"
{_keys(keys)}
"""

    def make_store(self) -> None:
        """Make the store, as `mailgate db upgrade` does."""
        self.write()
        schema.make(self.store_url)

    def start(self, *arguments: str, seam: str = "-", count: int = 1) -> subprocess.Popen[str]:
        """Start the command line as a process of its own."""
        self.write()
        program = ["cli.main"] if seam == "-" else ["tests.life.killed", seam, str(count)]
        command = [sys.executable, "-m", *program, "--config", str(self.config)]
        # However wide the terminal is that the tests run on, lines are as long as they are.
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        environment |= {"PYTHONPATH": str(ROOT), **self.environment}
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=-1,
            stderr=-1,
            start_new_session=True,  # as under a service manager: without the terminal that the tests run on
        )

    def run(self, *arguments: str, seam: str = "-", count: int = 1) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        process = self.start(*arguments, seam=seam, count=count)
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with --json and return its objects."""
        done = self.run(*arguments, "--json")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def arrived(self) -> Counter[bytes]:
        """What the home server took, behind the header lines put in front; how often each. Notices aside."""
        return Counter(original(taken.octets) for taken in self.home.ledger if not _is_notice(taken.octets))

    def notices(self) -> list[bytes]:
        """What the gateway itself wrote to somebody."""
        return [taken.octets for taken in self.home.ledger if _is_notice(taken.octets)]

    def problems(self) -> list[str]:
        """What does not add up in the store."""
        engine = open_store(self.store_url)
        try:
            with reading(engine) as connection:
                return list(conserve.check(connection, conserve.Count(), clock.now()))
        finally:
            engine.dispose()

    def unknown(self) -> set[bytes]:
        """The UIDLs of messages that the log names as possible duplicates."""
        return {(message.uidl or "").encode() for message in self._unknown()}

    def unknown_ids(self) -> set[str]:
        """The ids of messages that the log names as possible duplicates."""
        return {message.id for message in self._unknown()}

    def _unknown(self) -> list[Message]:
        engine = open_store(self.store_url)
        try:
            with reading(engine) as connection:
                streams = [
                    stream for stream, _ in log.streams(connection) if not stream.startswith("mailbox-")
                ]
                found = (log.message(connection, stream) for stream in streams)
                return [m for m in found if m and any(r.unknown_attempts for r in m.recipients)]
        finally:
            engine.dispose()

    def durable(self) -> set[str]:
        """The UIDLs of messages in the store."""
        engine = open_store(self.store_url)
        try:
            with reading(engine) as connection:
                found = [recorded[0].event for _, recorded in log.streams(connection)]
                return {event.uidl for event in found if hasattr(event, "uidl") and event.uidl is not None}
        finally:
            engine.dispose()


@contextmanager
def house(
    folder: Path, store_url: str, provider: Pop3Peer | None = None, home: HomePeer | None = None
) -> Iterator[House]:
    """Open a house with an empty mailbox."""
    provider, home = provider or Pop3Peer(), home or HomePeer()
    provider.add_user("info", PASSWORD)
    with PeerThread(provider) as provider_port, PeerThread(home) as home_port:
        yield House(folder, store_url, provider, home, provider_port, home_port)


def add_mailbox(stack: ExitStack, opened: House, name: str, messages: int = 0) -> Pop3Peer:
    """Open a further mailbox, on a server of its own, with so many of its letters."""
    peer = Pop3Peer()
    peer.add_user(name, PASSWORD)
    for number in range(messages):
        peer.put(name, letter(name, number))
    opened.neighbours[name] = stack.enter_context(PeerThread(peer))
    return peer


def letter(name: str, number: int) -> bytes:
    """One small message of a mailbox; no two mailboxes have the same."""
    return mail(number).replace(b"number", name.encode())


def original(taken: bytes) -> bytes:
    """Strip what the gateway put in front: a header field that ends with its date, and the name of another where
    the first line is the value of that.
    """
    trace = TRACE.match(taken)
    assert trace is not None, taken[:80]
    rest = taken[trace.end() :].removeprefix(FIRST_LINE)
    separator = len(rest) < len(taken) - trace.end() and re.match(rb" >*From ", rest)
    return rest[1:] if separator else rest


def _is_notice(taken: bytes) -> bool:
    return not taken.startswith(b"Received:") and NOTICE in taken.partition(b"\r\n\r\n")[0]


def _keys(table: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
