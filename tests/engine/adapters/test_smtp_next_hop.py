"""Handing messages to an SMTP server: a scripted one that does everything wrong, and aiosmtpd."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP as AiosmtpdSession
from aiosmtpd.smtp import AuthResult, Envelope, Session

from engine.adapters import smtp_access
from engine.adapters.smtp_delivery import SMALL_OCTETS
from engine.adapters.smtp_next_hop import NextHopAccess, NextHopTimeouts, SmtpNextHop
from engine.ports import (
    NextHopTrouble,
    NoAnswer,
    Outcome,
    Reply,
    TooManyRecipients,
    Transaction,
)
from engine.secrets import SecretError
from tests.engine.adapters.scripted_smtp import CLOSE, DROP, EXTENSIONS, SILENCE, ScriptedServer
from tests.peers.certificates import CERTIFICATE, server_context, write_certificate

SOON_SECONDS = 0.3  # a time-out that a test waits for
CONTENT = b"Subject: hello\r\n\r\nHello.\r\n"
PREFIX = b"Received: from a by b\r\n"
NO_PIPELINING = tuple(line for line in EXTENSIONS if line != "PIPELINING")
FINGERPRINT = "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(CERTIFICATE)).hexdigest()


class Durable:
    """A before_dot that counts, and may do something."""

    def __init__(self, work: Callable[[], Awaitable[None]] | None = None) -> None:
        self.calls = 0
        self._work = work

    async def __call__(self) -> None:
        self.calls += 1
        if self._work is not None:
            await self._work()


@asynccontextmanager
async def next_hop(port: int, **access: Any) -> AsyncIterator[SmtpNextHop]:
    wanted = {"name": "home", "host": "127.0.0.1", "port": port, "tls": "none"} | access
    hop = SmtpNextHop(NextHopAccess(**wanted), "gate.example.net")
    try:
        yield hop
    finally:
        await hop.close()


def transaction(
    *recipients: str, content: bytes = CONTENT, prefix: bytes = PREFIX, **other: str
) -> Transaction:
    return Transaction(
        reverse_path=other.get("reverse_path", "me@example.net"),
        recipients=recipients or ("you@example.org",),
        prefix=prefix,
        content=content,
    )


async def handed_over(hop: SmtpNextHop, *recipients: str, **other: Any) -> Outcome:
    return await hop.hand_over(transaction(*recipients, **other), Durable())


def only(outcome: Outcome) -> Any:
    (answer,) = outcome.answers
    return answer


def codes(outcome: Outcome) -> list[int]:
    return [answer.code for answer in outcome.answers if isinstance(answer, Reply)]


# The envelope


async def test_with_pipelining_the_envelope_goes_in_one_write():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert codes(outcome) == [250, 250]
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]
        assert server.connections[0].ahead == len("RCPT TO:<a@example.org>\r\n" * 2 + "DATA\r\n")
        assert server.taken[0].octets == PREFIX + CONTENT


async def test_without_pipelining_nothing_is_sent_ahead():
    async with ScriptedServer(NO_PIPELINING) as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert codes(outcome) == [250, 250]
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]
        assert server.connections[0].ahead == 0


async def test_the_outcome_says_where_and_how():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop)
        assert outcome.address == f"127.0.0.1:{server.port}"
        assert outcome.tls == "none"
        assert outcome.duration_ms >= 0
        assert only(outcome) == Reply(250, "2.0.0 queued", "2.0.0", "message")


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b".\r\n..\r\nx.\r\n", b"..\r\n...\r\nx.\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"no end", b"no end\r\n"),
        (b"", b""),
        (bytearray(b"a\r\n.b"), b"a\r\n..b\r\n"),
        (memoryview(b"a\r\n"), b"a\r\n"),
    ],
)
@pytest.mark.parametrize("padding", [0, SMALL_OCTETS + 1])
async def test_content_is_stuffed_and_mended_and_its_size_is_told(content, sent, padding):
    pad = b"X: " + b"y" * (padding - 5) + b"\r\n" if padding else b""
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop, prefix=pad, content=content)
        (taken,) = server.taken
        assert taken.octets == pad + sent
        unstuffed = (b"\r\n" + sent).replace(b"\r\n..", b"\r\n.")[2:]
        assert taken.mail == f"MAIL FROM:<me@example.net> SIZE={len(pad + unstuffed)}"


async def test_big_content_arrives_whole():
    content = b"".join(b".%d\r\n\n" % number for number in range(200_000))
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        assert codes(await handed_over(hop, content=content)) == [250]
        (taken,) = server.taken
        assert taken.octets == PREFIX + b"".join(b"..%d\r\n\r\n" % number for number in range(200_000))


async def test_no_size_is_told_where_it_is_not_offered():
    async with ScriptedServer(("PIPELINING",)) as server, next_hop(server.port) as hop:
        await handed_over(hop, content=b"8 bit: \xe9\r\n")
        assert server.taken[0].mail == "MAIL FROM:<me@example.net>"
        assert server.taken[0].octets.endswith(b"\xe9\r\n")


@pytest.mark.parametrize(
    ("content", "parameters"),
    [
        (b"Subject: x\r\n\r\nk\xc3\xa4se\r\n", " BODY=8BITMIME"),
        ("Subject: Käse\r\n\r\n".encode(), " BODY=8BITMIME SMTPUTF8"),
        (b"Subject: K\xe4se\r\n\r\n", " BODY=8BITMIME"),
        (b"Subject: x\r\n\r\n", ""),
    ],
)
async def test_eight_bit_content_is_announced(content, parameters):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop, content=content, prefix=b"")
        assert server.taken[0].mail == f"MAIL FROM:<me@example.net> SIZE={len(content)}{parameters}"


async def test_an_address_that_needs_it_gets_smtputf8():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop, "jörg@example.org")
        assert server.taken[0].mail.endswith(" SMTPUTF8")
        assert server.taken[0].rcpts == ["RCPT TO:<jörg@example.org>"]


async def test_without_smtputf8_on_offer_only_the_addresses_that_need_it_are_refused():
    async with ScriptedServer(("PIPELINING",)) as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop, "jörg@example.org", "you@example.org")
        ours, theirs = outcome.answers
        assert isinstance(ours, Reply)
        assert (ours.code, ours.enhanced, ours.scope) == (550, "5.6.7", "message")
        assert "mailgate" in ours.text
        assert isinstance(theirs, Reply)
        assert theirs.code == 250
        assert server.taken[0].rcpts == ["RCPT TO:<you@example.org>"]


async def test_without_smtputf8_a_reverse_path_that_needs_it_refuses_all():
    async with ScriptedServer(("PIPELINING",)) as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop, "a@example.org", "b@example.org", reverse_path="jörg@example.net")
        assert codes(outcome) == [550, 550]
        assert server.verbs() == ["EHLO"]
        # The connection is as good as new.
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


async def test_a_recipient_that_would_break_out_of_its_command_is_refused_here():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        outcome = await handed_over(
            hop, "a@example.org\r\nRCPT TO:<evil@example.org", "b> X=<y", "you@example.org"
        )
        assert codes(outcome) == [553, 553, 250]
        first = outcome.answers[0]
        assert isinstance(first, Reply)
        assert (first.enhanced, first.scope) == ("5.1.3", "recipient")
        assert server.taken[0].rcpts == ["RCPT TO:<you@example.org>"]


@pytest.mark.parametrize(
    ("envelope", "enhanced"),
    [({"reverse_path": "me\r\nQUIT"}, "5.1.7"), ({"recipient": "<>"}, "5.1.3")],
)
async def test_nothing_is_connected_where_nothing_can_be_sent(envelope, enhanced):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        recipient = envelope.pop("recipient", "you@example.org")
        outcome = await handed_over(hop, recipient, **envelope)
        assert codes(outcome) == [553]
        assert only(outcome).enhanced == enhanced
        assert (outcome.address, outcome.tls) == ("", "none")
        assert server.connections == []


async def test_the_null_reverse_path_is_sent():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop, reverse_path="")
        assert server.taken[0].mail.startswith("MAIL FROM:<> SIZE=")


# Answers


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
async def test_each_recipient_gets_its_own_answer(extensions):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        replies = {"a": "550-5.1.1 no\r\n550 5.1.1 such user", "b": "250 ok", "c": "451 4.7.1 greylisted"}
        server.on("RCPT", lambda line: replies[line[9]])
        outcome = await handed_over(hop, "a@example.org", "b@example.org", "c@example.org")
        assert outcome.answers == (
            Reply(550, "5.1.1 no / such user", "5.1.1", "recipient"),
            Reply(250, "2.0.0 queued", "2.0.0", "message"),
            Reply(451, "4.7.1 greylisted", "4.7.1", "recipient"),
        )


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize(
    ("stage", "scope"), [("MAIL", "message"), ("RCPT", "recipient"), ("DATA", "message"), ("DOT", "message")]
)
@pytest.mark.parametrize("code", [450, 552])
async def test_a_refusal_at_any_stage_is_an_answer_for_all(extensions, stage, scope, code):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on(stage, f"{code} {code // 100}.3.4 no")
        if stage in ("MAIL", "RCPT"):
            server.on("DATA", "503 no recipients")
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert outcome.answers == (Reply(code, f"{code // 100}.3.4 no", f"{code // 100}.3.4", scope),) * 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_421_at_any_stage_means_the_next_hop(extensions, stage):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on(stage, "421 4.3.2 closing")
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert outcome.answers == (Reply(421, "4.3.2 closing", "4.3.2", "next-hop"),) * 2
        server.on(stage, "354 go" if stage == "DATA" else "250 ok")
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize(
    "refusal", ["452 4.5.3 enough", "452 Too many recipients", "552 5.5.3 enough", "552 too many recipients"]
)
async def test_too_many_recipients_may_be_sent_at_once_if_one_was_accepted(extensions, refusal):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: refusal if line[9] != "a" else "250 ok")
        outcome = await handed_over(hop, "a@example.org", "b@example.org", "c@example.org")
        assert outcome.answers[1:] == (TooManyRecipients(refusal),) * 2
        assert codes(outcome) == [250]


async def test_other_452_replies_and_too_many_for_all_are_plain_refusals():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: "452 4.2.2 mailbox full" if line[9] == "b" else "250 ok")
        assert codes(await handed_over(hop, "a@example.org", "b@example.org")) == [250, 452]
        server.on("RCPT", "452 4.5.3 too many recipients")
        server.on("DATA", "503 none")
        assert codes(await handed_over(hop)) == [452]


async def test_354_with_every_recipient_refused_delivers_nothing():
    durable = Durable()
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", "550 5.1.1 no")
        server.on("DOT", "250 took it")
        outcome = await hop.hand_over(transaction("a@example.org", "b@example.org"), durable)
        assert codes(outcome) == [550, 550]
        assert [taken.octets for taken in server.taken] == [b""]
        assert durable.calls == 0
        server.on("RCPT", "250 ok")
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


async def test_rset_is_sent_only_where_an_envelope_was_left_open():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.on("RCPT", "550 no")
        server.on("DATA", "503 none")
        await handed_over(hop)
        server.on("RCPT", "250 ok")
        server.on("DATA", "354 go")
        await handed_over(hop)
        await handed_over(hop)
        verbs = server.verbs()
        assert len(server.connections) == 1
        assert verbs.count("RSET") == 1
        assert verbs[verbs.index("RSET") - 1 : verbs.index("RSET") + 2] == ["DATA", "RSET", "MAIL"]


# The final dot


async def test_nothing_of_small_content_is_sent_before_before_dot_returns():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        seen = []

        async def look() -> None:
            await server.until(lambda: server.verbs()[-1] == "DATA")
            seen.append(server.connections[0].seen)

        durable = Durable(look)
        assert codes(await hop.hand_over(transaction(), durable)) == [250]
        assert (durable.calls, seen) == (1, [b""])


async def test_all_of_big_content_but_no_dot_is_sent_before_before_dot_returns():
    content = b"line of text\r\n" * 100_000
    async with ScriptedServer() as server, next_hop(server.port) as hop:

        async def look() -> None:
            # The server got everything there is, and its content isn't over.
            await server.until(lambda: server.connections[0].seen == PREFIX + content)
            assert server.taken == []

        durable = Durable(look)
        assert codes(await hop.hand_over(transaction(content=content), durable)) == [250]
        assert durable.calls == 1
        assert server.taken[0].octets == PREFIX + content


@pytest.mark.parametrize("content", [CONTENT, b"big\r\n" * 50_000])
async def test_if_before_dot_raises_no_dot_is_sent(content):
    async def fail() -> None:
        raise RuntimeError("disk full")

    async with ScriptedServer() as server, next_hop(server.port) as hop:
        with pytest.raises(RuntimeError, match="disk full"):
            await hop.hand_over(transaction(content=content), Durable(fail))
        await server.connections[0].over.wait()
        assert server.taken == []
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "DOT"])
async def test_cancelling_drops_the_connection_and_frees_its_place(stage):
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on(stage, SILENCE)
        task = asyncio.create_task(handed_over(hop))
        await server.until(lambda: server.taken if stage == "DOT" else stage in server.verbs())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.connections[0].over.wait()
        server.on(stage, "354 go" if stage == "DATA" else "250 ok")
        assert codes(await handed_over(hop)) == [250]


@pytest.mark.parametrize("way", [DROP, CLOSE, b"250-half a rep", b"nonsense\r\n"])
async def test_no_whole_answer_to_the_final_dot_is_no_answer(way):
    timeouts = NextHopTimeouts(final_dot_seconds=SOON_SECONDS)
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.on("DOT", way)
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert [type(answer) for answer in outcome.answers] == [NoAnswer, NoAnswer]
        assert len(server.taken) == 1


async def test_recipients_refused_before_keep_their_answer_when_the_dot_has_none():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: "550 5.1.1 no" if line[9] == "a" else "250 ok")
        server.on("DOT", DROP)
        refused, unknown = (await handed_over(hop, "a@example.org", "b@example.org")).answers
        assert refused == Reply(550, "5.1.1 no", "5.1.1", "recipient")
        assert isinstance(unknown, NoAnswer)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "way", [DROP, CLOSE, b"nonsense\r\n", b"250 one\r\n250 two\r\n250 three\r\n250 4\r\n", b"250 lf\n"]
)
async def test_a_connection_lost_before_the_dot_is_the_next_hops_fault(stage, way):
    durable = Durable()
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on(stage, way)
        outcome = await hop.hand_over(transaction("a@example.org", "b@example.org"), durable)
        for answer in outcome.answers:
            assert isinstance(answer, Reply)
            assert (answer.code, answer.scope) == (421, "next-hop")
            assert f"127.0.0.1[127.0.0.1]:{server.port}" in answer.text
        assert durable.calls == 0
        assert server.taken == []


async def test_a_connection_lost_while_before_dot_runs_sends_no_dot_and_is_no_riddle():
    async with ScriptedServer() as server, next_hop(server.port) as hop:

        async def cut() -> None:
            server.connections[0].writer.transport.abort()
            await server.connections[0].over.wait()

        assert codes(await hop.hand_over(transaction(), Durable(cut))) == [421]
        assert server.taken == []


@pytest.mark.parametrize(
    ("stage", "field", "extensions"),
    [
        ("MAIL", "mail_seconds", EXTENSIONS),
        ("RCPT", "rcpt_seconds", EXTENSIONS),
        ("DATA", "data_seconds", EXTENSIONS),
        ("MAIL", "mail_seconds", NO_PIPELINING),
        ("RCPT", "rcpt_seconds", NO_PIPELINING),
        ("DATA", "data_seconds", NO_PIPELINING),
    ],
)
async def test_each_silence_before_the_dot_ends_by_its_own_time_out(stage, field, extensions):
    timeouts = NextHopTimeouts(**{field: SOON_SECONDS})
    async with ScriptedServer(extensions) as server, next_hop(server.port, timeouts=timeouts) as hop:
        stages = ["MAIL", "RCPT", "DATA"]
        # Whoever pipelines gets no later reply either, which would be taken for the missing one.
        for silent in stages[stages.index(stage) :]:
            server.on(silent, SILENCE)
        answer = only(await handed_over(hop))
        assert (answer.code, answer.scope) == (421, "next-hop")
        assert answer.text.endswith(f"waiting for {stage}")


async def test_a_server_that_stops_reading_ends_by_the_data_block_time_out():
    timeouts = NextHopTimeouts(data_block_seconds=SOON_SECONDS)
    durable = Durable()
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.reading.clear()
        outcome = await hop.hand_over(transaction(content=(b"x" * 62 + b"\r\n") * 500_000), durable)
        assert codes(outcome) == [421]
        assert durable.calls == 0


async def test_a_refusal_in_the_middle_of_the_content_is_about_this_message():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DATA", "354 go on\r\n552 5.3.4 too big after all")
        answer = only(await handed_over(hop, content=b"big\r\n" * 100_000))
        assert (answer.code, answer.scope) == (451, "message")
        assert "552 5.3.4 too big after all" in answer.text
        assert server.taken == []


async def test_a_reply_before_the_dot_is_never_taken_for_the_answer_to_it():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DATA", "354 go on\r\n250 2.0.0 queued")
        answer = only(await handed_over(hop))
        assert answer.code == 451
        assert server.taken == []


async def test_two_replies_to_the_dot_at_once_are_no_answer():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DOT", "250 2.0.0 queued\r\n554 5.7.1 refused")
        assert isinstance(only(await handed_over(hop)), NoAnswer)


async def test_421_behind_the_answer_to_the_dot_only_ends_the_connection():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DOT", "250 2.0.0 queued\r\n421 4.3.2 enough for now")
        assert codes(await handed_over(hop)) == [250]
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


# Connections


async def test_a_connection_is_used_again():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        for _ in range(5):
            assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1
        assert "RSET" not in server.verbs()


async def test_a_connection_that_the_server_closed_while_idle_is_replaced():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.connections[0].writer.transport.abort()
        await server.connections[0].over.wait()
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize("way", [DROP, CLOSE, "421 4.4.2 you were idle"])
async def test_a_kept_connection_that_fails_at_mail_is_replaced_once(extensions, way):
    durable = Durable()
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        await handed_over(hop)
        ways = iter([way])
        server.on("MAIL", lambda line: next(ways, "250 ok"))
        assert codes(await hop.hand_over(transaction(), durable)) == [250]
        assert durable.calls == 1
        assert [taken.connection for taken in server.taken] == [0, 1]


async def test_a_fresh_connection_that_fails_at_mail_is_not_replaced():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("MAIL", "421 4.3.2 not now")
        assert codes(await handed_over(hop)) == [421]
        assert len(server.connections) == 1


async def test_a_kept_connection_that_fails_twice_is_trouble():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.on("MAIL", "421 4.3.2 not now")
        assert codes(await handed_over(hop)) == [421]
        assert len(server.connections) == 2


async def test_a_kept_connection_lost_after_mail_is_not_tried_again():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.on("RCPT", DROP)
        server.on("MAIL", b"250 ok\r\n")
        assert codes(await handed_over(hop)) == [421]
        assert len(server.connections) == 1


@pytest.mark.parametrize("octets", [b"250 surprise\r\n", b"2", b"421 4.4.2 idle too long\r\n"])
async def test_octets_on_an_idle_connection_end_it(octets):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.connections[0].writer.write(octets)
        await server.connections[0].over.wait()
        server.on("MAIL", "550 5.7.1 no")
        server.on("RCPT", "503 no")
        server.on("DATA", "503 no")
        assert codes(await handed_over(hop)) == [550]
        assert len(server.connections) == 2


async def test_after_so_many_messages_a_connection_is_ended_with_quit():
    async with ScriptedServer() as server, next_hop(server.port, messages_per_connection=2) as hop:
        for _ in range(5):
            await handed_over(hop)
        assert [taken.connection for taken in server.taken] == [0, 0, 1, 1, 2]
        await server.connections[1].over.wait()
        assert server.verbs(0)[-1] == server.verbs(1)[-1] == "QUIT"


async def test_there_are_never_more_connections_than_allowed():
    async with (
        ScriptedServer() as server,
        next_hop(server.port, connections=3, messages_per_connection=4) as hop,
    ):
        outcomes = await asyncio.gather(*(handed_over(hop) for _ in range(60)))
        assert {code for outcome in outcomes for code in codes(outcome)} == {250}
        assert len(server.taken) == 60
        assert server.most_open == 3


async def test_an_idle_connection_is_ended_after_a_while():
    timeouts = NextHopTimeouts(idle_seconds=0.05)
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        await handed_over(hop)
        await server.until(lambda: server.open == 0)
        assert server.verbs()[-1] == "QUIT"
        assert codes(await handed_over(hop)) == [250]


async def test_close_says_quit_on_every_kept_connection():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await asyncio.gather(*(handed_over(hop) for _ in range(4)))
        await hop.close()
        await server.until(lambda: server.open == 0)
        assert {server.verbs(number)[-1] for number in range(len(server.connections))} == {"QUIT"}


async def test_close_does_not_wait_for_a_server_that_ignores_quit():
    timeouts = NextHopTimeouts(quit_seconds=0.05)
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.on("QUIT", SILENCE)
        await handed_over(hop)
        await hop.close()
        await server.connections[0].over.wait()


# No session


async def test_no_server_is_the_next_hops_fault():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with next_hop(port) as hop:
            outcome = await handed_over(hop, "a@example.org", "b\r\n")
            answer = outcome.answers[0]
            assert isinstance(answer, Reply)
            assert (answer.code, answer.enhanced, answer.scope) == (421, "4.4.1", "next-hop")
            assert answer.text.startswith(f"4.4.1 connect to 127.0.0.1[127.0.0.1]:{port}: Connect")
            assert codes(outcome) == [421, 553]
            assert (outcome.address, outcome.tls) == ("", "none")


async def test_a_name_that_cannot_be_looked_up_says_so():
    async with next_hop(25, host="no..name") as hop:
        assert only(await handed_over(hop)).text.startswith("4.4.3 look up no..name: ")


@pytest.mark.parametrize(
    ("stage", "script", "said"),
    [
        ("GREETING", "554 5.7.1 go away", "554 5.7.1 go away"),
        ("GREETING", "421 4.3.2 busy", "421 4.3.2 busy"),
        ("GREETING", DROP, ""),
        ("GREETING", CLOSE, ""),
        ("GREETING", b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        ("GREETING", b"2" * 100_000, "too long"),
        ("EHLO", "450 4.3.2 not now", "450 4.3.2 not now"),
        ("EHLO", "421 4.3.2 not now", "421 4.3.2 not now"),
        ("EHLO", DROP, ""),
        ("EHLO", b"250-scripted\r\n250 PIPELINING\r\n250 one too many\r\n", "a reply without a command"),
        ("GREETING", b"220 hello\r\n250 one too many\r\n", "a reply without a command"),
    ],
)
async def test_a_session_that_is_refused_is_the_next_hops_fault(stage, script, said):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on(stage, script)
        outcome = await handed_over(hop)
        answer = only(outcome)
        assert (answer.code, answer.scope) == (421, "next-hop")
        assert answer.text.startswith("4.")
        assert f"127.0.0.1[127.0.0.1]:{server.port}" in answer.text
        assert said in answer.text
        assert outcome.address == f"127.0.0.1:{server.port}"
        await server.connections[0].over.wait()


@pytest.mark.parametrize(("stage", "field"), [("GREETING", "greeting_seconds"), ("EHLO", "command_seconds")])
async def test_silence_during_set_up_ends_by_a_time_out(stage, field):
    timeouts = NextHopTimeouts(**{field: SOON_SECONDS})
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.on(stage, SILENCE)
        assert codes(await handed_over(hop)) == [421]


async def test_a_server_without_ehlo_is_greeted_with_helo():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("EHLO", "502 5.5.1 what?")
        assert codes(await handed_over(hop)) == [250]
        assert server.verbs() == ["EHLO", "HELO", "MAIL", "RCPT", "DATA"]
        assert server.taken[0].mail == "MAIL FROM:<me@example.net>"


async def test_cancelling_during_set_up_closes_the_connection():
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on("EHLO", SILENCE)
        task = asyncio.create_task(handed_over(hop))
        await server.until(lambda: server.verbs() == ["EHLO"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.connections[0].over.wait()


# TLS


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize("way", ["ca", "fingerprint", "unverified"])
async def test_tls_as_configured(mode, way, tmp_path):
    context = server_context()
    server = ScriptedServer(implicit_tls=context) if mode == "implicit" else ScriptedServer(starttls=context)
    access: dict[str, Any] = {"tls": mode}
    if way == "ca":
        access["tls_ca"] = str(write_certificate(tmp_path))
    elif way == "fingerprint":
        access["tls_fingerprint"] = FINGERPRINT
    else:
        access["tls_verify"] = False
    content = b".x\r\n" * 100_000
    async with server, next_hop(server.port, **access) as hop:
        outcome = await handed_over(hop, content=content)
        assert codes(outcome) == [250]
        assert outcome.tls.startswith("TLSv1.3 TLS_")
        assert outcome.tls.endswith(" unverified" if way == "unverified" else " verified")
        assert server.taken[0].octets == PREFIX + b"..x\r\n" * 100_000
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize(
    "access",
    [{}, {"tls_fingerprint": "sha256:" + "0" * 64}, {"host": "localhost", "tls_fingerprint": "sha256:1"}],
)
async def test_a_certificate_that_is_not_trusted_ends_it(mode, access):
    context = server_context()
    server = ScriptedServer(implicit_tls=context) if mode == "implicit" else ScriptedServer(starttls=context)
    async with server, next_hop(server.port, tls=mode, **access) as hop:
        answer = only(await handed_over(hop))
        assert (answer.code, answer.scope) == (421, "next-hop")
        assert "certificate" in answer.text
        assert not any(line.startswith("MAIL") for line in server.lines)


async def test_a_missing_tls_ca_is_named(tmp_path):
    async with ScriptedServer() as server:
        async with next_hop(server.port, tls="required", tls_ca=str(tmp_path / "absent.pem")) as hop:
            assert "absent.pem" in only(await handed_over(hop)).text
        assert server.connections == []


async def test_required_tls_never_falls_back():
    async with ScriptedServer() as server, next_hop(server.port, tls="required") as hop:
        answer = only(await handed_over(hop))
        assert (answer.code, answer.enhanced, answer.scope) == (421, "4.7.0", "next-hop")
        assert "STARTTLS" in answer.text
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, tls="required") as hop,
    ):
        server.on("STARTTLS", "454 4.7.0 no certificate today")
        assert "454 4.7.0 no certificate today" in only(await handed_over(hop)).text
        assert server.taken == []


async def test_opportunistic_tls_takes_any_certificate():
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, tls="opportunistic") as hop,
    ):
        outcome = await handed_over(hop)
        assert codes(outcome) == [250]
        assert outcome.tls.endswith(" unverified")


async def test_opportunistic_tls_does_without_where_it_is_not_offered():
    async with ScriptedServer() as server, next_hop(server.port, tls="opportunistic") as hop:
        outcome = await handed_over(hop)
        assert (codes(outcome), outcome.tls) == ([250], "none")


@pytest.mark.parametrize("way", ["454 4.7.0 no certificate today", "220 but no TLS follows", DROP])
async def test_opportunistic_tls_that_fails_goes_on_in_clear_text_on_a_new_connection(way):
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, tls="opportunistic") as hop,
    ):
        if way.startswith("220"):
            server.starttls = None
            server.extensions = (*EXTENSIONS, "STARTTLS")
        server.on("STARTTLS", way)
        outcome = await handed_over(hop)
        assert codes(outcome) == [250]
        assert outcome.tls.startswith("none (STARTTLS failed with ")
        assert [taken.connection for taken in server.taken] == [1]


# AUTH


async def secret() -> str:
    return "hunter2-secret"


async def test_a_password_goes_only_under_tls():
    extensions = (*EXTENSIONS, "AUTH PLAIN LOGIN")
    async with ScriptedServer(extensions) as server:
        access: dict[str, Any] = {"tls": "opportunistic", "username": "gate", "secret": secret}
        async with next_hop(server.port, **access) as hop:
            answer = only(await handed_over(hop))
            assert (answer.code, answer.scope) == (421, "next-hop")
            assert "authentication" in answer.text
            assert not any(line.startswith("AUTH") for line in server.lines)


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({"AUTH": "535 5.7.8 wrong password"}, "authentication as gate failed"),
        ({"AUTH": "454 4.7.0 try later"}, "454 4.7.0 try later"),
        ({"EHLO": "250 scripted.example"}, "not supported"),
        ({"AUTH": DROP}, "authentication as gate failed"),
    ],
)
async def test_failed_authentication_is_the_next_hops_fault(scripts, said):
    async with ScriptedServer((*EXTENSIONS, "AUTH PLAIN")) as server:
        for stage, script in scripts.items():
            server.on(stage, script)
        async with next_hop(server.port, username="gate", secret=secret) as hop:
            answer = only(await handed_over(hop))
            assert (answer.code, answer.scope) == (421, "next-hop")
            assert said in answer.text
            assert "hunter2" not in answer.text
            assert server.taken == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SecretError("next_hop.home password: PASSWORD is not set"), "PASSWORD is not set"),
        (KeyError("hunter2"), "KeyError"),
    ],
)
async def test_a_password_that_cannot_be_read_is_told_without_details(error, said):
    async def no_secret() -> str:
        raise error

    async with (
        ScriptedServer((*EXTENSIONS, "AUTH PLAIN")) as server,
        next_hop(server.port, username="gate", secret=no_secret) as hop,
    ):
        answer = only(await handed_over(hop))
        assert answer.code == 421
        assert said in answer.text
        assert "hunter2" not in answer.text


def test_the_secret_is_not_shown():
    access = NextHopAccess(name="home", host="mx", username="gate", secret=secret)
    assert "secret" not in repr(access)


# Greeting


async def test_greet_tells_what_the_server_offers_and_keeps_the_connection():
    extensions = ("PIPELINING", "size 36700160", "AUTH PLAIN LOGIN")
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        greeting = await hop.greet()
        assert greeting.banner == "scripted.example ready"
        assert greeting.address == f"127.0.0.1:{server.port}"
        assert greeting.extensions == ("PIPELINING", "SIZE 36700160", "AUTH PLAIN LOGIN")
        assert greeting.size_octets == 36_700_160
        assert greeting.tls == "none"
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE many", "8BITMIME"])
async def test_a_size_that_says_nothing_is_none(size):
    async with ScriptedServer((size,)) as server, next_hop(server.port) as hop:
        assert (await hop.greet()).size_octets is None


async def test_greet_asks_anew_each_time():
    async with ScriptedServer(("SIZE 100",)) as server, next_hop(server.port, connections=1) as hop:
        assert (await hop.greet()).size_octets == 100
        server.extensions = ("SIZE 200",)
        assert (await hop.greet()).size_octets == 200
        assert server.most_open == 1


async def test_greet_says_why_there_is_no_greeting():
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on("GREETING", "554 5.7.1 go away")
        with pytest.raises(NextHopTrouble, match="554 5\\.7\\.1 go away"):
            await hop.greet()
        server.on("GREETING", "220 well")
        assert (await hop.greet()).banner == "well"


@pytest.mark.parametrize("hello", ["", "a b", "a\r\nb", "tür.example"])
def test_a_host_name_that_cannot_be_said_is_refused(hello):
    with pytest.raises(ValueError, match="EHLO"):
        SmtpNextHop(NextHopAccess(name="home", host="mx"), hello)


def test_no_default_time_out_is_shorter_than_rfc_5321_asks():
    asked = {"greeting": 300, "mail": 300, "rcpt": 300, "data": 120, "data_block": 180, "final_dot": 600}
    defaults = NextHopAccess(name="home", host="mx").timeouts
    for name, seconds in asked.items():
        assert getattr(defaults, f"{name}_seconds") >= seconds
    assert smtp_access.COMMAND_SECONDS >= 300


# Other event loops and a real server


@pytest.mark.parametrize("tls", ["none", "implicit", "required"])
def test_the_taking_over_works_on_uvloop(tls):
    uvloop = pytest.importorskip("uvloop")

    async def check() -> None:
        context = server_context()
        servers = {
            "none": ScriptedServer,
            "implicit": lambda: ScriptedServer(implicit_tls=context),
            "required": lambda: ScriptedServer(starttls=context),
        }
        content = b".x\r\n" * 500_000
        async with (
            servers[tls]() as server,
            next_hop(server.port, tls=tls, tls_fingerprint=FINGERPRINT) as hop,
        ):
            assert codes(await handed_over(hop)) == [250]
            assert codes(await handed_over(hop, content=content)) == [250]
            assert server.taken[1].octets == PREFIX + b"..x\r\n" * 500_000
            server.on("DOT", DROP)
            assert isinstance(only(await handed_over(hop)), NoAnswer)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check())


class Keeper:
    """What aiosmtpd's server got."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: AiosmtpdSession, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 kept"


def right_password(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = data.login == b"gate" and data.password == b"hunter2-secret"
    return AuthResult(success=right, handled=right)


@asynccontextmanager
async def aiosmtpd_server(**options: Any) -> AsyncIterator[tuple[int, Keeper]]:
    keeper, loop = Keeper(), asyncio.get_running_loop()
    sessions: list[AiosmtpdSession] = []

    def session() -> AiosmtpdSession:
        sessions.append(AiosmtpdSession(keeper, hostname="home.example", loop=loop, **options))
        return sessions[-1]

    server = await loop.create_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], keeper
    finally:
        server.close()
        for each in sessions:
            if each.transport is not None:
                each.transport.abort()


async def test_aiosmtpd_gets_the_octets_as_they_are():
    content = "Subject: Käse\r\n\r\n.dot\r\n..\r\n\r\nend".encode()
    async with aiosmtpd_server(decode_data=False, enable_SMTPUTF8=True) as (port, keeper):
        async with next_hop(port) as hop:
            outcome = await handed_over(hop, "jörg@example.org", "you@example.org", content=content)
            assert codes(outcome) == [250, 250]
        (envelope,) = keeper.envelopes
        assert envelope.original_content == PREFIX + content + b"\r\n"
        assert envelope.rcpt_tos == ["jörg@example.org", "you@example.org"]
        assert "SMTPUTF8" in envelope.mail_options


@pytest.mark.parametrize("password", ["hunter2-secret", "wrong"])
async def test_aiosmtpd_with_starttls_and_authentication(password, tmp_path):
    async def reveal() -> str:
        return password

    options = {
        "tls_context": server_context(),
        "require_starttls": True,
        "auth_required": True,
        "authenticator": right_password,
    }
    async with aiosmtpd_server(**options) as (port, keeper):
        access = {"tls": "required", "tls_ca": str(write_certificate(tmp_path)), "username": "gate"}
        async with next_hop(port, secret=reveal, **access) as hop:
            outcome = await handed_over(hop)
            if password == "wrong":
                assert codes(outcome) == [421]
                assert "535 5.7.8" in only(outcome).text
                assert keeper.envelopes == []
            else:
                assert codes(outcome) == [250]
                assert outcome.tls.endswith(" verified")
