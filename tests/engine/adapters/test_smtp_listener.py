"""The listener on loopback, with a real client at each end of the law: limits, lies, time-outs, rubbish."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from engine.adapters import smtp_authentication, smtp_connection, smtp_listener_access, smtp_speech
from engine.adapters.smtp_listener import Listener
from engine.adapters.smtp_listener_access import ListenerAccess, ListenTrouble, bound
from engine.adapters.smtp_reception import Terms
from engine.budget import OctetBudget
from engine.core.relaying import Rules
from engine.ports import Holding, NotKept, Octets, Submission
from engine.shares import Share
from tests.peers.certificates import client_context, write_certificate_and_key

PATIENCE_SECONDS = 30.0  # only ends a hung test
MAX_SIZE = 10_000
ENVELOPE = b"EHLO a.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@foreign.example>\r\n"
SECRET = "open sesame"


@dataclass
class Keeper:
    """Takes everything, or says why not."""

    budget: OctetBudget = field(default_factory=lambda: OctetBudget(64 << 20))
    taken: list[tuple[Submission, bytes]] = field(default_factory=list)
    trouble: list[NotKept] = field(default_factory=list)
    refused: list[tuple[Submission, int, bytes]] = field(default_factory=list)
    room: bool = True

    def has_room(self) -> bool:
        return self.room

    def holding(self) -> Holding:
        return Share(self.budget)

    async def take(self, submission: Submission, octets: Octets, holding: Holding) -> str:
        holding.release()
        if self.trouble:
            raise self.trouble.pop()
        self.taken.append((submission, bytes(octets)))
        return f"id{len(self.taken)}"

    def rejected(self, submission: Submission, size_octets: int, header: Octets) -> None:
        self.refused.append((submission, size_octets, bytes(header)))


@dataclass
class Client:
    """Says exactly what it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, line: bytes) -> bytes:
        self.writer.write(line + b"\r\n")
        return await self.reply()

    async def reply(self) -> bytes:
        lines = line = await self.line()
        while line[3:4] == b"-":
            line = await self.line()
            lines += line
        return lines

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readline()

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def envelope(self) -> None:
        """Up to the go-ahead for DATA."""
        self.writer.write(ENVELOPE + b"DATA\r\n")
        while not (await self.reply()).startswith(b"354"):
            pass


@asynccontextmanager
async def listening(keeper: Keeper, **changes: Any) -> AsyncIterator[Listener]:
    rules = Rules(allow=(ip_network("127.0.0.1/32"),), domains=("example.com",), postmaster="p@example.com")
    rules = changes.pop("rules", rules)
    terms = Terms(
        hostname="gate.example.com",
        rules=rules,
        max_size_octets=MAX_SIZE,
        max_recipients=100,
        offers_tls="certificate" in changes,
    )
    access = ListenerAccess(addresses=[("127.0.0.1", 0)], terms=terms, **changes)
    listener = Listener(access, keeper)
    await listener.start(await bound(access.addresses))
    try:
        yield listener
    finally:
        await listener.stop(0)
        assert keeper.budget.used_octets == 0


@asynccontextmanager
async def connected(listener: Listener, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    """A client that was greeted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports[0], local_addr=(source, 0))
    client = Client(reader, writer)
    try:
        assert (await client.reply()).startswith((b"220 gate.example.com ", b"421 "))
        yield client
    finally:
        writer.close()


async def test_the_small_commands_have_their_replies() -> None:
    async with listening(Keeper()) as listener, connected(listener) as client:
        expected = {
            b"MAIL FROM:<a@example.com>": b"503 5.5.1",
            b"HELO": b"501 5.5.4",
            b"HELO a.example": b"250 gate.example.com\r\n",
            b"MAIL FROM:<a@example.com> SIZE=1": b"555 5.5.4",
            b"RCPT TO:<b@c.example>": b"503 5.5.1",
            b"DATA": b"503 5.5.1",
            b"VRFY b@c.example": b"252 2.5.0",
            b"EXPN list": b"502 5.5.1",
            b"NOOP whatever": b"250 2.0.0",
            b"HELP": b"214 2.0.0",
            b"RSET": b"250 2.0.0",
            b"STARTTLS": b"502 5.5.1",
            b"AUTH PLAIN": b"502 5.5.1",
            b"XYZZY": b"500 5.5.2",
            b"EHLO \xff": b"501 5.5.2",
            b"EHLO a\0b": b"501 5.5.2",
            b"MAIL FROM:<\xc3\xbc@example.com>": b"553 5.6.7",
            b"QUIT": b"221 2.0.0",
        }
        for command, code in expected.items():
            assert (await client.ask(command)).startswith(code), command
        assert await client.rest() == b""


async def test_helo_gives_smtp_and_smtputf8_gives_utf8smtp() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        for greeting, option in ((b"HELO a.example", b""), (b"EHLO b.example", b" SMTPUTF8")):
            await client.ask(greeting)
            await client.ask(b"MAIL FROM:<a@example.com>" + option)
            await client.ask(b"RCPT TO:<b@foreign.example>")
            await client.ask(b"DATA")
            assert await client.ask(b"Subject: x\r\n.") == b"250 2.0.0 Ok: kept as id%d\r\n" % len(
                keeper.taken
            )
    assert [(s.helo, s.protocol, s.smtputf8) for s, _ in keeper.taken] == [
        ("a.example", "SMTP", False),
        ("b.example", "UTF8SMTP", True),
    ]


async def test_a_line_that_is_too_long_is_refused_and_the_next_one_heard() -> None:
    async with listening(Keeper()) as listener, connected(listener) as client:
        await client.ask(b"EHLO a.example")
        long = b"x" * 400 + b"@example.com"
        assert (await client.ask(b"MAIL FROM:<%s> ENVID=%s" % (long, b"e" * 100))).startswith(b"553 5.1.7")
        assert (await client.ask(b"NOOP " + b"x" * 1_000_000)).startswith(b"500 5.5.2 The line is too long")
        assert (await client.ask(b"NOOP")).startswith(b"250")


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_a_line_without_an_end_is_cut_off(source: str) -> None:
    async with listening(Keeper()) as listener, connected(listener, source) as client:
        for _ in range(smtp_connection.ERRORS + 1):
            client.writer.write(b"x" * smtp_speech.ENDLESS_LINE_OCTETS)
        assert await client.rest() == b"421 4.7.0 Too many errors\r\n"


async def test_a_bare_lf_ends_no_command() -> None:
    async with listening(Keeper()) as listener, connected(listener) as client:
        client.writer.write(b"NOOP\nNOOP\r\n")
        assert (await client.reply()).startswith(b"500 5.5.2 A command ends with CR LF")
        assert (await client.reply()).startswith(b"250")
        assert (await client.ask(b"NOOP\rQUIT")).startswith(b"5")


async def test_octet_by_octet_is_as_good_as_at_once() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        for octet in ENVELOPE + b"DATA\r\n..\r\n.\r\nQUIT\r\n":
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0)
            await client.writer.drain()
        replies = (await client.rest()).split(b"\r\n")
    assert [reply[:3] for reply in replies[-6:]] == [b"250", b"250", b"354", b"250", b"221", b""]
    assert keeper.taken[0][1] == b".\r\n"


async def test_a_client_that_closes_its_half_is_answered_to_the_end() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        client.writer.write(ENVELOPE + b"DATA\r\nhello\r\n.\r\nQUIT\r\n")
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"250 2.0.0 Ok: kept as id1\r\n221 2.0.0 Goodbye\r\n")


@pytest.mark.parametrize("said", [b"", b" SIZE=%d" % (MAX_SIZE // 2)])
async def test_more_than_the_limit_is_refused_after_its_end(said: bytes) -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        assert b"250-SIZE 10000\r\n" in await client.ask(b"EHLO a.example")
        assert (await client.ask(b"MAIL FROM:<> SIZE=%d" % (MAX_SIZE + 1))).startswith(b"552 5.3.4")
        await client.ask(b"MAIL FROM:<>" + said)
        await client.ask(b"RCPT TO:<b@foreign.example>")
        await client.ask(b"DATA")
        content = b"Subject: large\r\n\r\n" + b"x" * (5 * MAX_SIZE)
        assert (await client.ask(content + b"\r\n.")).startswith(b"552 5.3.4")
        assert (await client.ask(b"MAIL FROM:<>")).startswith(b"250")
    assert keeper.taken == []
    at_mail, at_the_end = keeper.refused
    assert (at_mail[0].recipients, at_mail[1:]) == ((), (MAX_SIZE + 1, b""))
    assert (at_the_end[0].recipients, at_the_end[1]) == (("b@foreign.example",), len(content) + 2)
    assert at_the_end[2].startswith(b"Subject: large\r\n\r\nxxx")


async def test_what_a_stranger_may_not_send_leaves_no_record_of_its_size() -> None:
    keeper = Keeper()
    rules = Rules(domains=("our.example",), allow=(), postmaster="p@example.com")
    async with listening(keeper, rules=rules) as listener, connected(listener) as client:
        await client.ask(b"EHLO a.example")
        assert (await client.ask(b"MAIL FROM:<> SIZE=%d" % (MAX_SIZE + 1))).startswith(b"552 5.3.4")
    assert keeper.refused == []


async def test_content_without_end_is_cut_off() -> None:
    async with listening(Keeper()) as listener, connected(listener) as client:
        await client.envelope()
        client.writer.write(b"x" * (11 * MAX_SIZE))
        assert (await client.rest()).startswith(b"552 5.3.4 The message does not end")


async def test_too_many_recipients_come_in_a_transaction_of_their_own() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        await client.ask(b"EHLO a.example")
        await client.ask(b"MAIL FROM:<>")
        replies = [await client.ask(b"RCPT TO:<%d@foreign.example>" % number) for number in range(150)]
        assert [reply[:9] for reply in replies] == [b"250 2.1.5"] * 100 + [b"452 4.5.3"] * 50
        await client.ask(b"DATA")
        assert (await client.ask(b".")).startswith(b"250 2.0.0")
    assert len(keeper.taken[0][0].recipients) == 100


async def test_a_recipient_named_twice_is_one_and_a_source_route_falls_away() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        await client.ask(b"EHLO a.example")
        await client.ask(b"MAIL FROM:<@relay.example:a@Example.COM>")
        for recipient in (
            b"<b@c.example> NOTIFY=NEVER",
            b"<@x.example,@y.example:b@C.example>",
            b"<d@c.example>",
        ):
            assert (await client.ask(b"RCPT TO:" + recipient)).startswith(b"250 2.1.5")
        await client.ask(b"DATA")
        await client.ask(b".")
    submission, _ = keeper.taken[0]
    assert submission.reverse_path == "a@example.com"
    assert (submission.recipients, submission.notify, submission.orcpt) == (
        ("b@c.example", "d@c.example"),
        ("NEVER", ""),
        (),
    )


@pytest.mark.parametrize("networks", [{"allow": 1}, {"inbound": 1}, {"allow": 1, "inbound": 1}])
async def test_what_comes_from_who_may_not_relay_is_known_by_that(networks: dict[str, int]) -> None:
    keeper, here = Keeper(), (ip_network("127.0.0.1/32"),)
    whom = {"allow": ()} | dict.fromkeys(networks, here)
    rules = Rules(domains=("our.example",), postmaster="p@our.example", **whom)
    async with listening(keeper, rules=rules) as listener, connected(listener) as client:
        client.writer.write(
            ENVELOPE.replace(b"foreign.example", b"our.example") + b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        )
        assert b"250 2.0.0 Ok: kept as id1" in await client.rest()
    assert keeper.taken[0][0].pushed is ("allow" not in networks)


async def test_errors_and_commands_are_counted_until_a_message_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp_connection, "COMMANDS", 60)
    async with listening(Keeper()) as listener:
        async with connected(listener) as client:
            client.writer.write(b"XYZZY\r\n" * smtp_connection.ERRORS)
            assert (await client.rest()).endswith(b"421 4.7.0 Too many errors\r\n")
        async with connected(listener) as client:
            client.writer.write(b"NOOP\r\n" * 70)
            assert (await client.rest()).endswith(b"421 4.7.0 Too many commands and no message\r\n")
        async with connected(listener) as client:
            for _ in range(20):
                client.writer.write(ENVELOPE + b"DATA\r\n.\r\n")
                while b"kept as" not in await client.reply():
                    pass


async def test_bdat_is_refused_and_its_octets_are_no_commands() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        chunk = b"QUIT\r\n" * 100_000
        client.writer.write(b"EHLO a.example\r\nBDAT 600 LAST\r\n" + chunk[:600] + b"NOOP\r\n")
        await client.reply()
        assert (await client.reply()).startswith(b"502 5.5.1")
        assert (await client.reply()).startswith(b"250")
        client.writer.write(b"BDAT 99999999 LAST\r\n" + chunk)
        assert (await client.rest()).startswith(b"502 5.5.1")
    assert keeper.taken == []


async def test_a_browser_is_sent_away_with_all_it_carries() -> None:
    keeper = Keeper()
    async with listening(keeper) as listener, connected(listener) as client:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" + ENVELOPE + b"DATA\r\n.\r\n")
        assert await client.rest() == b"554 5.7.0 This is not a web server\r\n"
    assert keeper.taken == []


async def test_who_says_nothing_for_too_long_is_told_to_go() -> None:
    async with listening(Keeper(), idle_seconds=0.2) as listener:
        async with connected(listener) as client:
            assert await client.rest() == b"421 4.4.2 Nothing was heard for too long\r\n"
        async with connected(listener) as client:
            await client.envelope()
            client.writer.write(b"half a message\r\n")
            assert (await client.rest()).startswith(b"421 4.4.2")


@pytest.mark.parametrize("size", [5_000, 2 * MAX_SIZE])  # taken, or read to its end and refused
async def test_a_message_that_takes_memory_and_then_comes_by_octets_is_given_up(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(smtp_connection, "UNCOUNTED_OCTETS", 1_000)
    async with listening(Keeper(), idle_seconds=0.4) as listener, connected(listener) as client:
        await client.envelope()
        client.writer.write(b"x" * size)
        dripping = asyncio.create_task(drip(client, 0.05, b"x"))
        assert (await client.rest()).startswith(b"421 4.4.2 Too little was heard for too long")
        dripping.cancel()


async def test_a_slow_line_and_a_small_message_have_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "UNCOUNTED_OCTETS", 1_000)
    keeper = Keeper()
    async with listening(keeper, idle_seconds=0.4) as listener:
        for octets in (b"x" * 200, b"x"):  # four times the pace; no pace, for it takes no memory
            async with connected(listener) as client:
                await client.envelope()
                dripping = asyncio.create_task(drip(client, 0.05, octets))
                await asyncio.sleep(1.2)
                dripping.cancel()
                assert (await client.ask(b"\r\n.")).startswith(b"250 2.0.0")
    assert len(keeper.taken[0][1]) > 1_000 > len(keeper.taken[1][1])


async def test_who_waits_for_memory_is_not_called_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "UNCOUNTED_OCTETS", 1_000)
    keeper = Keeper(OctetBudget(64 << 10))
    async with listening(keeper, idle_seconds=0.4) as listener, connected(listener) as client:
        everything = await keeper.budget.take(64 << 10)
        await client.envelope()
        client.writer.write(b"x" * 5_000)
        await asyncio.sleep(1.1)  # it is looked at each 0.4 s
        keeper.budget.give_back(everything)
        await asyncio.sleep(0.2)
        assert (await client.ask(b"\r\n.")).startswith(b"250 2.0.0")


async def drip(client: Client, pause_seconds: float, octets: bytes) -> None:
    while True:
        client.writer.write(octets)
        await asyncio.sleep(pause_seconds)


@pytest.mark.parametrize(("full", "code"), [(True, b"452 4.3.1"), (False, b"451 4.3.0")])
async def test_what_can_t_be_kept_is_never_answered_with_250(full: bool, code: bytes) -> None:
    keeper = Keeper(trouble=[NotKept("gone", full=full)])
    async with listening(keeper) as listener, connected(listener) as client:
        for expected in (code, b"250 2.0.0"):
            await client.envelope()
            assert (await client.ask(b".")).startswith(expected)
        keeper.room = False
        assert (await client.ask(b"MAIL FROM:<>")).startswith(b"452 4.3.1")


async def test_strangers_relay_nothing_and_soon_lose_their_patience() -> None:
    async with listening(Keeper()) as listener, connected(listener, "127.0.0.2") as client:
        await client.ask(b"EHLO a.example")
        await client.ask(b"MAIL FROM:<a@example.com>")
        assert (await client.ask(b"RCPT TO:<b@foreign.example>")).startswith(b"550 5.7.1 Relaying denied")
        assert (await client.ask(b"DATA")).startswith(b"550 5.7.1 Relaying denied")
        client.writer.write(b"RCPT TO:<b@foreign.example>\r\n" * smtp_connection.STRANGERS_ERRORS)
        assert (await client.rest()).endswith(b"421 4.7.0 Too many errors\r\n")


async def test_connections_are_counted_by_address_and_places_come_free() -> None:
    async with listening(Keeper(), per_address=2) as listener, connected(listener), connected(listener):
        async with connected(listener) as third:
            assert await third.rest() == b""
        async with connected(listener, "127.0.0.2") as other:
            assert (await other.ask(b"EHLO a.example")).startswith(b"250-")
    async with listening(Keeper(), per_address=1) as listener:
        for _ in range(3):
            async with connected(listener) as client:
                assert (await client.ask(b"QUIT")).startswith(b"221")
                assert await client.rest() == b""


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a listener with a certificate and one user is made with."""
    monkeypatch.setattr(smtp_authentication, "FAILURE_SECONDS", 0.0)
    certificate, key = write_certificate_and_key(tmp_path)
    rules = Rules(allow=(), domains=("example.com",), postmaster="p@example.com", has_users=True)

    async def secret() -> str:
        return SECRET

    return lambda: {
        "certificate": (str(certificate), str(key)),
        "users": {"anna": secret},
        "rules": rules,
    }


async def under_tls(client: Client) -> None:
    """Say EHLO, STARTTLS, EHLO."""
    assert b"STARTTLS" in await client.ask(b"EHLO a.example")
    assert (await client.ask(b"STARTTLS")).startswith(b"220 2.0.0")
    await client.writer.start_tls(client_context(), server_hostname="127.0.0.1")
    assert b"AUTH PLAIN LOGIN" in await client.ask(b"EHLO a.example")


async def test_login_by_either_mechanism_in_one_go_or_step_by_step(secured: Callable[..., Any]) -> None:
    plain, name, password = b"AGFubmEAb3BlbiBzZXNhbWU=", b"YW5uYQ==", b"b3BlbiBzZXNhbWU="
    for steps in (
        [b"AUTH PLAIN " + plain],
        [b"AUTH plain", plain],
        [b"AUTH LOGIN", name, password],
        [b"AUTH LOGIN " + name, password],
    ):
        keeper = Keeper()
        async with listening(keeper, **secured()) as listener, connected(listener) as client:
            await under_tls(client)
            for step in steps[:-1]:
                assert (await client.ask(step)).startswith(b"334 ")
            assert (await client.ask(steps[-1])).startswith(b"235 2.7.0")
            assert (await client.ask(b"AUTH PLAIN " + plain)).startswith(b"503 5.5.1")
            await client.envelope()
            assert (await client.ask(b".")).startswith(b"250 2.0.0")
        assert [(s.user, s.protocol) for s, _ in keeper.taken] == [("anna", "ESMTPSA")]


async def test_a_login_that_is_no_login_has_its_reply(secured: Callable[..., Any]) -> None:
    async with listening(Keeper(), **secured()) as listener, connected(listener) as client:
        assert (await client.ask(b"AUTH PLAIN AGEAYg==")).startswith(b"538 5.7.11")
        await under_tls(client)
        assert (await client.ask(b"AUTH CRAM-MD5")).startswith(b"504 5.5.4")
        assert (await client.ask(b"AUTH PLAIN !!!")).startswith(b"501 5.5.2")
        assert (await client.ask(b"AUTH PLAIN YWJj")).startswith(b"501 5.5.2")
        assert (await client.ask(b"AUTH LOGIN")).startswith(b"334 VXNlcm5hbWU6")
        assert (await client.ask(b"*")).startswith(b"501 5.7.0")
        assert (await client.ask(b"NOOP")).startswith(b"250")


async def test_an_answer_to_a_challenge_without_an_end_is_cut_off(secured: Callable[..., Any]) -> None:
    async with listening(Keeper(), **secured()) as listener, connected(listener) as client:
        await under_tls(client)
        assert (await client.ask(b"AUTH PLAIN")).startswith(b"334 ")
        client.writer.write(b"x" * smtp_speech.ENDLESS_LINE_OCTETS * (smtp_connection.STRANGERS_ERRORS + 1))
        assert await client.rest() == b"421 4.7.0 Too many errors\r\n"


async def test_who_guesses_is_cut_off_and_then_kept_out(secured: Callable[..., Any]) -> None:
    wrong = b"AUTH PLAIN AGFubmEAd3Jvbmc="
    async with listening(Keeper(), **secured()) as listener:
        for _ in range(3):
            async with connected(listener) as client:
                await under_tls(client)
                replies = [await client.ask(wrong) for _ in range(smtp_connection.LOGIN_FAILURES)]
                assert [reply[:9] for reply in replies] == [b"535 5.7.8", b"535 5.7.8", b"421 4.7.0"]
        async with connected(listener) as client:
            await under_tls(client)
            assert (await client.ask(wrong)).startswith(b"535")
        async with connected(listener) as client:
            assert await client.rest() == b""  # greeted with 421


async def test_however_many_guess_at_once_no_more_are_answered(
    secured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_authentication, "FAILURE_SECONDS", 0.3)
    made = secured()
    limit = smtp_authentication.FAILURES_PER_ADDRESS

    async def slow() -> str:
        await asyncio.sleep(0.3)
        return SECRET

    for reveal in (made["users"]["anna"], slow):
        made["users"] = {"anna": reveal}
        async with listening(Keeper(), **made, per_address=100) as listener, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(listener)) for _ in range(limit + 6)]
            for client in clients:
                await under_tls(client)
            replies = await asyncio.gather(*(one.ask(b"AUTH PLAIN AGFubmEAd3Jvbmc=") for one in clients))
            assert Counter(reply[:9] for reply in replies) == {b"535 5.7.8": limit, b"454 4.7.0": 6}


async def test_however_many_log_in_at_once_none_is_called_a_failure(secured: Callable[..., Any]) -> None:
    async def slow() -> str:
        await asyncio.sleep(0.3)
        return SECRET

    made = secured() | {"users": {"anna": slow}, "per_address": 100}
    async with listening(Keeper(), **made) as listener, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(listener)) for _ in range(15)]
        for client in clients:
            await under_tls(client)
        plain = b"AUTH PLAIN AGFubmEAb3BlbiBzZXNhbWU="
        replies = await asyncio.gather(*(client.ask(plain) for client in clients))
        assert {reply[:9] for reply in replies} == {b"235 2.7.0"}


def test_failures_count_by_address_and_by_network_of_ipv6() -> None:
    failures = smtp_authentication.Failures()
    for number in range(smtp_authentication.FAILURES_PER_ADDRESS):
        failures.note(ip_address(f"2001:db8:0:1::{number + 1}"), 0.0)
        failures.note(ip_address(f"192.0.2.{number + 1}"), 0.0)
    assert failures.too_many(ip_address("2001:db8:0:1:ffff::1"), 1.0)
    assert not failures.too_many(ip_address("2001:db8:0:2::1"), 1.0)
    assert not failures.too_many(ip_address("192.0.2.1"), 1.0)
    assert not failures.too_many(
        ip_address("2001:db8:0:1::1"), 1.0 + smtp_authentication.FAILURES_KEPT_SECONDS
    )


async def test_a_handshake_that_fails_ends_that_connection_alone(secured: Callable[..., Any]) -> None:
    async with listening(Keeper(), **secured()) as listener:
        async with connected(listener) as client:
            await client.ask(b"EHLO a.example")
            await client.ask(b"STARTTLS")
            client.writer.write(b"NOOP\r\n" * 100)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await client.rest() == b"250 2.0.0 Ok\r\n"
        async with connected(listener) as client:
            await under_tls(client)


def idle_under_tls(port: int) -> ssl.SSLSocket:
    """A client that has begun TLS and reads no more."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    for line in (b"EHLO a.example", b"STARTTLS"):
        plain.recv(1_000)
        plain.sendall(line + b"\r\n")
    assert plain.recv(1_000).startswith(b"220 2.0.0")
    return client_context().wrap_socket(plain, server_hostname="127.0.0.1")


async def test_a_client_that_is_idle_under_tls_keeps_nobody_from_stopping(
    secured: Callable[..., Any],
) -> None:
    async with listening(Keeper(), **secured()) as listener:
        client = await asyncio.to_thread(idle_under_tls, listener.ports[0])
        async with asyncio.timeout(15):
            await listener.stop(PATIENCE_SECONDS)
        client.close()


async def test_an_address_that_can_t_be_listened_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_listener_access, "IN_USE_SECONDS", 0.1)
    async with listening(Keeper()) as listener:
        port = listener.ports[0]
        (free,) = await bound([("127.0.0.1", 0)])
        address = free.getsockname()
        free.close()
        with pytest.raises(
            ListenTrouble, match=rf"can't listen on 127\.0\.0\.1:{port}: address already in use"
        ):
            await bound([address, ("127.0.0.1", port)])
        (free,) = await bound([address])  # it was let go
        free.close()


async def test_an_address_that_gets_free_in_a_moment_is_waited_for() -> None:
    async with listening(Keeper()) as listener:
        address = ("127.0.0.1", listener.ports[0])
        waiting = asyncio.create_task(bound([address]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await listener.stop(0)
        (free,) = await waiting
        free.close()


async def test_a_certificate_that_is_none_leaves_the_address_free(tmp_path: Path) -> None:
    sockets = await bound([("127.0.0.1", 0)])
    address = sockets[0].getsockname()
    rules = Rules(allow=(), postmaster="p@example.com")
    terms = Terms(hostname="gate.example.com", rules=rules, max_size_octets=1, max_recipients=1)
    missing = str(tmp_path / "none.pem")
    access = ListenerAccess(addresses=[address], terms=terms, certificate=(missing, missing))
    with pytest.raises(ListenTrouble, match=r"listen\.tls_cert: .*none\.pem can't be read"):
        await Listener(access, Keeper()).start(sockets)
    (free,) = await bound([address])
    free.close()
