"""Hostile mailboxes and hostile home servers, all at once, around one honest pair: the honest are served, all is told.

Each far side misbehaves in a way of its own, on a server of its own; one gateway has to do with all of them. Then it is
looked at from the outside: what arrived, what its log, `list`, `mailbox list` and the store say.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.life.gateway import running
from tests.life.house import House, add_mailbox, house, letter, mail, original
from tests.peers.faults import Fault
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer
from tests.peers.thread import PeerThread

EACH = 3  # messages in every mailbox
PATIENCE_SECONDS = 10  # the server's silence is borne for two minutes
ROUNDS = 30  # of polls; three or four are enough
BEGUN_OCTETS = 8_000_000
MONSTROUS_OCTETS = 10**12


@dataclass(frozen=True)
class Villain:
    """A hostile mailbox. `arriving` are those of its messages that arrive for all that; `kind` is its trouble."""

    stage: str
    action: str
    arriving: tuple[int, ...] = ()
    kind: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.action}"


def villain(stage: str, action: str, arriving: str = "", kind: str | None = None, **options: Any) -> Villain:
    return Villain(stage, action, tuple(map(int, arriving)), kind, tuple({"times": None, **options}.items()))


SECOND = "uid-00002"
MAILBOXES = (
    villain("connect", "drop", kind="connect"),
    villain("greeting", "garbage", kind="protocol"),
    villain("greeting", "endless-line", kind="protocol"),
    villain("greeting", "err", kind="connect"),
    villain("capa", "flood", kind="protocol"),
    villain("pass", "drop", kind="connect"),
    villain("pass", "endless-line", kind="protocol"),
    villain("list", "err", kind="protocol", text="no list today"),
    villain("list", "garbage", kind="protocol"),
    villain("list", "no-final-dot", kind="connect"),
    villain("list", "flood", kind="connect", octets=2_000_000),
    villain("list", "repeat", "012"),
    villain("list", "omit", "012", number=2),
    villain("list", "lie-size", "012", octets=1),
    villain("uidl", "garbage", kind="protocol"),
    villain("uidl", "dup-uidl", "012"),
    # One message is bad: the others pass it by.
    villain("retr", "drop", "02", kind="connect", matching=SECOND),
    villain("retr", "drop-mid", "02", kind="connect", matching=SECOND),
    villain("retr", "garbage", "02", kind="protocol", matching=SECOND),
    villain("retr", "endless-line", "02", kind="protocol", matching=SECOND),
    villain("retr", "flood", "02", kind="protocol", matching=SECOND),
    villain("retr", "no-final-dot", "02", kind="connect", matching=SECOND),
    villain("retr", "err", "012", number=2, text="later", times=1),
    villain("retr", "drip", "012"),
    villain("quit", "drop-undone", "012", kind="connect"),
    villain("quit", "drop-committed", "012"),
)


@pytest.fixture
def opened(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        opened.gateway = {"connections_per_host": 100}
        yield opened


def test_hostile_mailboxes_hold_up_nobody_and_lose_nothing(opened: House) -> None:
    peers: dict[str, Pop3Peer] = {}
    with ExitStack() as stack:
        for bad in MAILBOXES:
            peers[bad.name] = add_mailbox(stack, opened, bad.name, EACH)
            peers[bad.name].fault(bad.stage, bad.action, **dict(bad.options))
        silent = add_mailbox(stack, opened, "silent", EACH)
        stall = silent.fault("retr", "stall", number=2)
        opened.provider.put("info", mail(0))
        expected = {mail(0)} | {letter(bad.name, n) for bad in MAILBOXES for n in bad.arriving}

        with running(opened) as gateway:
            # While one server says nothing at all, all others are done with.
            opened.home.wait_until(lambda: mail(0) in opened.arrived())
            poll_until_told(opened)
            opened.home.wait_until(lambda: expected <= set(opened.arrived()))
            opened.home.wait_until(lambda: letter("silent", 0) in opened.arrived())
            assert letter("silent", 1) not in opened.arrived()
            stall.release()
            opened.home.wait_until(lambda: letter("silent", 2) in opened.arrived())
            assert gateway.stop() == 0

        expected |= {letter("silent", number) for number in range(EACH)}
        assert opened.arrived() == Counter(expected)  # each once
        for bad in MAILBOXES:  # what did not arrive is still where it was
            there = peers[bad.name].uidls(bad.name)
            assert all(n in bad.arriving or f"uid-{n + 1:05}" in there for n in range(EACH)), bad.name
        assert opened.problems() == []


def poll_until_told(opened: House) -> None:
    """Poll until `mailbox list` says of each mailbox what is wrong with it: some fail only at a second look."""
    for _ in range(ROUNDS):
        assert opened.run("mailbox", "poll", "--all").returncode == 1
        told = {row["name"]: row for row in opened.json("mailbox", "list")}
        wrong = [told[bad.name] for bad in MAILBOXES if told[bad.name]["kind"] != bad.kind]
        if not wrong:
            break
    assert wrong == []
    for bad in MAILBOXES:
        row = told[bad.name]
        assert row["health"] == ("failing" if bad.kind else "ok")
        assert bool(row["text"]) == bool(bad.kind), row


def monstrous(
    stack: ExitStack, opened: House, name: str, action: str, **options: Any
) -> tuple[Pop3Peer, Fault]:
    """A mailbox with one message of some megabytes that is said to be monstrous."""
    peer = add_mailbox(stack, opened, name)
    peer.put(name, mail(1, BEGUN_OCTETS))
    peer.fault("list", "lie-size", octets=MONSTROUS_OCTETS)
    return peer, peer.fault("retr", action, **options)


def test_servers_that_claim_monstrous_messages_hold_up_nobody(opened: House) -> None:
    opened.home.size_octets = None  # nobody tells what is too large
    large = mail(2, BEGUN_OCTETS)
    with ExitStack() as stack:
        silent, stall = monstrous(stack, opened, "silent", "stall")
        begun, middle = monstrous(stack, opened, "begun", "stall-mid", octets=BEGUN_OCTETS // 2)
        dripping, drip = monstrous(stack, opened, "dripping", "drip", pause_seconds=0.01)
        with running(opened) as gateway:
            silent.wait_until(lambda: stall.fired)
            begun.wait_until(lambda: middle.stalled)
            dripping.wait_until(lambda: drip.fired)
            opened.provider.put("info", mail(0))
            opened.provider.put("info", large)
            assert opened.run("mailbox", "poll", "info").returncode == 0
            opened.home.wait_until(lambda: opened.arrived() == Counter([mail(0), large]), PATIENCE_SECONDS)
            assert gateway.stop() == 0


def test_a_server_that_fills_the_memory_and_goes_silent_holds_up_no_small_mail(opened: House) -> None:
    opened.home.size_octets = None
    opened.store = {"in_flight": "2MiB"}
    large = mail(2, BEGUN_OCTETS)
    with ExitStack() as stack:
        begun, middle = monstrous(stack, opened, "begun", "stall-mid", octets=BEGUN_OCTETS // 2)
        with running(opened) as gateway:
            begun.wait_until(lambda: middle.stalled)
            opened.provider.put("info", mail(0))
            opened.provider.put("info", large)
            assert opened.run("mailbox", "poll", "info").returncode == 0
            opened.home.wait_until(lambda: mail(0) in opened.arrived(), PATIENCE_SECONDS)
            assert large not in opened.arrived()
            middle.release()
            expected = Counter([mail(0), mail(1, BEGUN_OCTETS), large])
            opened.home.wait_until(lambda: opened.arrived() == expected)
            assert gateway.stop() == 0
    assert opened.problems() == []


# -- home servers


@dataclass(frozen=True)
class Refuser:
    """A hostile home server, and what becomes of the messages that go there, to the person of its name and to "other"."""

    name: str
    fault: tuple[str, str]
    state: str  # of the first recipient, as `list` tells
    other: str = ""  # of the second, where it is another
    copies: tuple[int, ...] = ()  # of each message that it took, the most first
    unknown: bool = False  # a possible duplicate is on record
    notices: int = 0  # to the postmaster
    options: tuple[tuple[str, Any], ...] = ()


def refuser(name: str, stage: str, action: str, state: str, *, always: bool = True, **facts: Any) -> Refuser:
    known = {key: facts.pop(key) for key in ("other", "copies", "unknown", "notices") if key in facts}
    options = tuple({"times": None if always else 1, **facts}.items())
    return Refuser(name, (stage, action), state, options=options, **known)


ALL_ONCE = (1,) * EACH
HOMES = (
    refuser("gone", "connect", "drop", "deferred"),
    refuser("mute", "banner", "garbage", "deferred"),
    refuser("endless", "ehlo", "endless-line", "deferred", octets=1_000_000),
    refuser("full", "dot", "reply", "deferred", code=452, text="4.3.1 disk full"),
    refuser("closing", "mail", "421", "delivered", always=False, copies=ALL_ONCE),
    refuser("cut", "dot", "drop", "delivered", always=False, copies=ALL_ONCE, unknown=True),
    refuser("taking", "dot", "commit-drop", "delivered", always=False, copies=(2, 1, 1), unknown=True),
    refuser("raving", "dot", "garbage", "delivered", always=False, copies=ALL_ONCE, unknown=True),
    refuser(
        "choosy", "rcpt", "reply", "delivered", other="failed", copies=ALL_ONCE, notices=EACH,
        matching="other@", code=550, text="5.1.1 who?",
    ),
    refuser("touchy", "rcpt", "421", "delivered", other="deferred", copies=ALL_ONCE, matching="other@"),
    refuser("strict", "dot", "reply", "failed", notices=EACH, code=550, text="5.7.1 no"),
    # Its recipients are told, and it refuses that as well.
    refuser("small", "dot", "reply", "rejected-oversize", code=552, text="5.3.4 too large"),
)  # fmt: skip


def test_hostile_home_servers_hold_up_nobody_and_lose_nothing(opened: House) -> None:
    homes: dict[str, HomePeer] = {}
    opened.retry = {"first": "1s", "cap": "1s"}
    with ExitStack() as stack:
        for bad in HOMES:
            homes[bad.name] = add_home(stack, opened, bad.name, EACH)
            homes[bad.name].fault(*bad.fault, **dict(bad.options))
        slow = homes["slow"] = add_home(stack, opened, "slow", 1)
        late = slow.fault("dot", "late")
        opened.more += '[[route]]\nrecipients = ["*@example.com"]\nnext_hop = "home"\n'
        opened.provider.put("info", mail(0))

        with running(opened) as gateway:
            slow.wait_until(lambda: slow.ledger)
            opened.home.wait_until(lambda: len(opened.notices()) == sum(bad.notices for bad in HOMES))
            opened.home.wait_until(lambda: mail(0) in opened.arrived())
            for bad in HOMES:
                await_attempts(homes[bad.name], bad.copies)
            assert {row["state"] for row in opened.json("list", "--to", "slow@example.com")} == {
                "outcome-unknown"
            }
            late.release()
            slow.wait_until(lambda: slow.said(".")[0].reply)
            assert gateway.stop() == 0

        assert opened.arrived() == Counter([mail(0)])
        check_messages(opened, homes)
        assert opened.problems() == []


def add_home(stack: ExitStack, opened: House, name: str, messages: int) -> HomePeer:
    """A further home server, and a mailbox whose mail goes there."""
    add_mailbox(stack, opened, name, messages)
    opened.keys[name] = {"recipients": [f"{name}@example.com", f"other@{name}.example.com"]}
    home = HomePeer()
    port = stack.enter_context(PeerThread(home))
    opened.more += (
        f'[next_hop.{name}]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'
        f'[[route]]\nrecipients = ["{name}@example.com", "*@{name}.example.com"]\nnext_hop = "{name}"\n'
    )
    return home


def await_attempts(home: HomePeer, wanted: tuple[int, ...]) -> None:
    home.wait_until(lambda: home.sessions and copies(home) == wanted)


def copies(home: HomePeer) -> tuple[int, ...]:
    """How often each message was taken, the most first."""
    return tuple(sorted(Counter(original(taken.octets) for taken in home.ledger).values(), reverse=True))


def check_messages(opened: House, homes: dict[str, HomePeer]) -> None:
    listed = opened.json("list", "--limit", "0")
    unknown = opened.unknown_ids()
    for bad in HOMES:
        rows = [row for row in listed if row["mailbox"] == bad.name]
        assert len(rows) == EACH
        assert copies(homes[bad.name]) == bad.copies
        for row in rows:
            states = [recipient["state"] for recipient in row["recipients"]]
            assert states == [bad.state, bad.other or bad.state], (bad.name, row)
            assert all(recipient["reply"] for recipient in row["recipients"]), (bad.name, row)
        assert bool(unknown.intersection(row["id"] for row in rows)) == bad.unknown, bad.name
    (slow,) = (row for row in listed if row["mailbox"] == "slow")
    assert slow["state"] == "delivered"
    shown = opened.run("show", listed[0]["id"])
    assert (shown.returncode, shown.stderr) == (0, "")
