"""What is sent to an SMTP server, and what its replies come to, for every way to be wrong."""

import asyncio
import tracemalloc

import pytest

from engine.adapters.smtp_measured import SMALL_OCTETS
from engine.adapters.smtp_next_hop import MORE_TRANSACTIONS, NextHopTimeouts
from engine.core.outcome import ReportWish
from engine.ports import LeftOut, NoAnswer, Reply
from tests.engine.adapters.handing_over import (
    CONTENT,
    NO_PIPELINING,
    PREFIX,
    SOON_SECONDS,
    Durable,
    codes,
    handed_over,
    next_hop,
    only,
    transaction,
)
from tests.engine.adapters.scripted_smtp import CLOSE, DROP, EXTENSIONS, SILENCE, ScriptedServer

# The envelope


async def test_with_pipelining_the_envelope_goes_in_one_write():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert codes(outcome) == [250, 250]
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]
        assert server.connections[0].ahead == len("RCPT TO:<a@example.org>\r\n" * 2 + "DATA\r\n")
        assert server.taken[0].octets == PREFIX + CONTENT


async def test_wishes_for_reports_are_passed_on_where_dsn_is_offered():
    wish = ReportWish(ret="HDRS", envid="QQ314159", notify=("NEVER", ""), orcpt=("", "rfc822;b@example.org"))
    async with ScriptedServer((*EXTENSIONS, "DSN")) as server, next_hop(server.port) as hop:
        await handed_over(hop, "a@example.org", "b@example.org", wish=wish)
        mail, first, second = server.connections[0].lines[1:4]
        assert mail.endswith("RET=HDRS ENVID=QQ314159")
        assert first == "RCPT TO:<a@example.org> NOTIFY=NEVER"
        assert second == "RCPT TO:<b@example.org> ORCPT=rfc822;b@example.org"


async def test_wishes_for_reports_stay_here_where_dsn_is_not_offered():
    wish = ReportWish(ret="HDRS", envid="QQ314159", notify=("NEVER",))
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        assert codes(await handed_over(hop, wish=wish)) == [250]
        assert not any("NOTIFY" in line or "ENVID" in line for line in server.connections[0].lines)


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


@pytest.mark.parametrize("limit", [99, 100])
async def test_a_server_is_not_asked_to_take_more_than_its_ehlo_says(limit):
    async with ScriptedServer((f"SIZE {limit}",)) as server, next_hop(server.port) as hop:
        outcome = await handed_over(
            hop, "a@example.org", "b@example.org", prefix=b"", content=b"x" * 98 + b"\r\n"
        )
        if limit == 100:
            assert codes(outcome) == [250, 250]
        else:
            text = "5.3.4 not sent by mailgate: 100 octets, and the next hop takes 99 by its EHLO"
            assert outcome.answers == (Reply(552, text, "5.3.4", "message", limit_octets=99),) * 2
            assert server.taken == []


async def test_no_size_is_told_where_it_is_not_offered():
    async with ScriptedServer(("PIPELINING",)) as server, next_hop(server.port) as hop:
        await handed_over(hop, content=b"8 bit: \xe9\r\n")
        assert server.taken[0].mail == "MAIL FROM:<me@example.net>"
        assert server.taken[0].octets.endswith(b"\xe9\r\n")


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (EXTENSIONS, " ORCPT=utf-8;jörg@example.org"),
        (("PIPELINING",), r" ORCPT=utf-8;j\x{F6}rg@example.org"),
    ],
)
async def test_an_original_recipient_in_utf8_is_ascii_for_a_server_without_smtputf8(offered, told):
    wish = ReportWish(orcpt=("utf-8;jörg@example.org",))
    async with ScriptedServer((*offered, "DSN")) as server, next_hop(server.port) as hop:
        await handed_over(hop, "b@example.org", wish=wish, smtputf8=True)
        assert server.taken[0].rcpts == [f"RCPT TO:<b@example.org>{told}"]


async def test_an_original_recipient_that_gets_too_long_in_ascii_is_left_out():
    wish = ReportWish(orcpt=("utf-8;" + "ö" * 100,))
    async with ScriptedServer(("DSN",)) as server, next_hop(server.port) as hop:
        await handed_over(hop, "b@example.org", wish=wish, smtputf8=True)
        assert server.taken[0].rcpts == ["RCPT TO:<b@example.org>"]


@pytest.mark.parametrize(
    ("content", "asked", "parameters"),
    [
        (b"Subject: x\r\n\r\nk\xc3\xa4se\r\n", False, " BODY=8BITMIME"),
        ("Subject: Käse\r\n\r\n".encode(), True, " BODY=8BITMIME SMTPUTF8"),
        ("Subject: Käse\r\n\r\n".encode(), False, " BODY=8BITMIME"),
        (b"Subject: K\xe4se\r\n\r\n", False, " BODY=8BITMIME"),
        (b"Subject: x\r\n\r\n", False, ""),
    ],
)
async def test_eight_bit_content_is_announced(content, asked, parameters):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop, content=content, prefix=b"", smtputf8=asked)
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


async def test_without_smtputf8_a_header_in_utf8_is_not_sent_where_its_client_asked_for_it():
    content = "Subject: Käse\r\n\r\n".encode()
    async with ScriptedServer(("PIPELINING",)) as server, next_hop(server.port) as hop:
        refused = only(await handed_over(hop, content=content, prefix=b"", smtputf8=True))
        assert (refused.code, refused.enhanced) == (550, "5.6.7")
        for as_ever in ({}, {"content": b"Subject: x\r\n\r\nk\xc3\xa4se\r\n", "smtputf8": True}):
            assert codes(await handed_over(hop, **{"content": content, "prefix": b""} | as_ever)) == [250]


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
@pytest.mark.parametrize(
    ("stage", "scope", "connections"),
    [("MAIL", "next-hop", 1), ("RCPT", "message", 2), ("DATA", "message", 1), ("DOT", "next-hop", 1)],
)
async def test_421_means_the_next_hop_only_where_it_took_not_even_mail_or_has_everything(
    extensions, stage, scope, connections
):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on(stage, "421 4.3.2 closing")
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert outcome.answers == (Reply(421, "4.3.2 closing", "4.3.2", scope),) * 2
        assert len(server.connections) == connections
        server.on(stage, "354 go" if stage == "DATA" else "250 ok")
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == connections + 1


EVERYBODY = tuple(f"{letter}@example.org" for letter in "abcdef")
HANGS_UP = "421 4.7.0 too many errors"


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
async def test_who_was_accepted_before_the_server_hung_up_gets_through_at_once(extensions):
    replies = {"a": "250 ok", "b": "250 ok", "c": "550 5.1.1 no", "d": "452 4.5.3 enough", "e": HANGS_UP}
    durable = Durable()
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: replies.get(line[9], "250 ok"))
        outcome = await hop.hand_over(transaction(*EVERYBODY), durable)
        left_out = [answer.reply.code for answer in outcome.answers if isinstance(answer, LeftOut)]
        assert (codes(outcome), left_out) == ([250, 250, 550], [452, 421, 421])
        (taken,) = server.taken
        assert [rcpt[9] for rcpt in taken.rcpts] == ["a", "b"]
        assert (durable.calls, len(server.connections)) == (1, 2)
        # The connection that is left is as good as any.
        assert codes(await handed_over(hop, "a@example.org")) == [250]
        assert len(server.connections) == 2


@pytest.mark.parametrize("way", [HANGS_UP, DROP, CLOSE])
async def test_who_had_no_turn_before_the_server_hung_up_on_another_is_asked_at_once(way):
    replies = {"a": "550 5.1.1 no", "b": way}
    async with ScriptedServer(NO_PIPELINING) as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: replies.get(line[9], "250 ok"))
        outcome = await handed_over(hop, *EVERYBODY)
        assert codes(outcome) == [550, 250, 250, 250, 250]
        assert isinstance(outcome.answers[1], LeftOut)
        assert sorted(rcpt[9] for rcpt in server.taken[0].rcpts) == ["c", "d", "e", "f"]


async def test_recipients_refused_for_good_keep_that_where_the_server_hangs_up_at_data():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        hung_up = iter([HANGS_UP])
        server.on("RCPT", lambda line: "250 ok" if line[9] == "a" else "550 5.1.1 no")
        server.on("DATA", lambda line: next(hung_up, "354 go"))
        assert codes(await handed_over(hop, *EVERYBODY)) == [250, 550, 550, 550, 550, 550]


@pytest.mark.parametrize("way", [HANGS_UP, DROP])
async def test_a_server_that_hangs_up_on_everybody_is_asked_few_times_and_nobody_comes_at_once(way):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", way)
        outcome = await handed_over(hop, *EVERYBODY)
        assert [answer.scope for answer in outcome.answers if isinstance(answer, Reply)] == ["message"] * 6
        assert len(server.connections) == 1 + MORE_TRANSACTIONS


async def test_a_server_that_hangs_up_and_takes_no_connection_any_more_is_found_by_the_next_message():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        greetings = iter(["220 well"])
        server.on("GREETING", lambda line: next(greetings, "421 4.3.2 closing"))
        server.on("RCPT", lambda line: "250 ok" if line[9] == "a" else HANGS_UP)
        outcome = await handed_over(hop, "a@example.org", "b@example.org")
        assert [answer.scope for answer in outcome.answers if isinstance(answer, Reply)] == ["message"] * 2
        assert only(await handed_over(hop)).scope == "next-hop"


async def test_a_server_that_hangs_up_and_then_takes_not_even_mail_is_no_trouble_of_one_message():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        mails = iter(["250 ok"])
        server.on("MAIL", lambda line: next(mails, "421 4.3.2 closing"))
        server.on("RCPT", lambda line: "550 5.1.1 no" if line[9] == "a" else HANGS_UP)
        outcome = await handed_over(hop, *EVERYBODY)
        assert codes(outcome) == [550]
        assert all(isinstance(answer, LeftOut) for answer in outcome.answers[1:])


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize(
    "refusal", ["452 4.5.3 enough", "452 Too many recipients", "552 5.5.3 enough", "552 too many recipients"]
)
async def test_too_many_recipients_may_be_sent_at_once_if_one_was_accepted(extensions, refusal):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: refusal if line[9] != "a" else "250 ok")
        outcome = await handed_over(hop, "a@example.org", "b@example.org", "c@example.org")
        for left_out in outcome.answers[1:]:
            assert isinstance(left_out, LeftOut)
            assert left_out.reply.said == refusal
        assert codes(outcome) == [250]


async def test_other_452_replies_and_too_many_for_all_are_plain_refusals():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: "452 4.2.2 mailbox full" if line[9] == "b" else "250 ok")
        assert codes(await handed_over(hop, "a@example.org", "b@example.org")) == [250, 452]
        server.on("RCPT", "452 4.5.3 too many recipients")
        server.on("DATA", "503 none")
        assert codes(await handed_over(hop)) == [452]


LOGIN_FIRST = "530 5.7.0 Authentication required"


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
async def test_530_means_the_next_hop_which_lets_no_such_session_in(extensions, stage):
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        server.on(stage, LOGIN_FIRST)
        answers = (await handed_over(hop, "a@example.org", "b@example.org")).answers
        scope = "message" if stage == "DATA" else "next-hop"  # by then recipients were taken
        assert answers == (Reply(530, LOGIN_FIRST[4:], "5.7.0", scope),) * 2


async def test_530_in_a_session_that_takes_mail_means_that_message_or_recipient():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", lambda line: LOGIN_FIRST if "a@" in line else "250 2.1.5 ok")
        refused, taken = (await handed_over(hop, "a@example.org", "b@example.org")).answers
        assert (refused.code, refused.scope, taken.code) == (530, "recipient", 250)
        assert only(await handed_over(hop, "a@example.org")).scope == "recipient"
        server.on("MAIL", LOGIN_FIRST)
        assert only(await handed_over(hop)).scope == "message"
        assert len(server.connections) == 1


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


GARBLED = (b"nonsense\r\n", b"250 one\r\n250 two\r\n250 three\r\n250 4\r\n", b"250 lf\n")


@pytest.mark.parametrize(
    ("stage", "way", "scope"),
    [(stage, way, "next-hop") for stage in ("MAIL", "RCPT", "DATA") for way in GARBLED]
    + [("MAIL", way, "next-hop") for way in (DROP, CLOSE)]
    + [(stage, way, "message") for stage in ("RCPT", "DATA") for way in (DROP, CLOSE)],
)
async def test_a_connection_lost_before_the_dot_is_the_next_hops_fault_unless_it_took_mail(stage, way, scope):
    durable = Durable()
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on(stage, way)
        outcome = await hop.hand_over(transaction("a@example.org", "b@example.org"), durable)
        for answer in outcome.answers:
            assert isinstance(answer, Reply)
            assert (answer.code, answer.scope) == (None, scope)
            assert f"127.0.0.1[127.0.0.1]:{server.port}" in answer.text
        assert durable.calls == 0
        assert server.taken == []


async def test_a_connection_lost_while_before_dot_runs_sends_no_dot_and_is_no_riddle():
    async with ScriptedServer() as server, next_hop(server.port) as hop:

        async def cut() -> None:
            server.connections[0].writer.transport.abort()
            await server.connections[0].over.wait()

        answer = only(await hop.hand_over(transaction(), Durable(cut)))
        # The server said 354: another message may well go through.
        assert (answer.code, answer.scope) == (None, "message")
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
        assert (answer.code, answer.scope) == (None, "next-hop")
        assert answer.text.endswith(f"waiting for {stage}")


async def test_a_server_that_stops_reading_costs_no_memory_and_ends_by_the_data_block_time_out():
    timeouts = NextHopTimeouts(data_block_seconds=SOON_SECONDS)
    durable = Durable()
    content = (b"x" * 62 + b"\r\n") * 500_000
    endless = ("PIPELINING", "SIZE 0")
    async with ScriptedServer(endless) as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.reading.clear()
        tracemalloc.start()
        try:
            outcome = await hop.hand_over(transaction(content=content), durable)
            _, most_octets = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert codes(outcome) == [None]
        assert durable.calls == 0
        assert most_octets < 2 * 1024 * 1024


async def test_a_refusal_in_the_middle_of_the_content_is_about_this_message():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DATA", "354 go on\r\n552 5.3.4 too big after all")
        answer = only(await handed_over(hop, content=b"big\r\n" * 100_000))
        assert (answer.code, answer.scope) == (None, "message")
        assert "552 5.3.4 too big after all" in answer.text
        assert server.taken == []


async def test_a_reply_before_the_dot_is_never_taken_for_the_answer_to_it():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DATA", "354 go on\r\n250 2.0.0 queued")
        answer = only(await handed_over(hop))
        assert (answer.code, answer.scope) == (None, "message")
        assert server.taken == []


async def test_two_replies_to_the_dot_at_once_are_no_answer():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DOT", "250 2.0.0 queued\r\n554 5.7.1 refused")
        assert isinstance(only(await handed_over(hop)), NoAnswer)


async def test_a_server_that_says_yes_to_the_content_twice_has_taken_it():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DOT", "250 2.0.0 queued\r\n250 2.0.0 queued")
        assert codes(await handed_over(hop)) == [250]
        server.on("DOT", "250 2.0.0 queued")
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2  # what the first says next might be paired wrongly


async def test_421_behind_the_answer_to_the_dot_only_ends_the_connection():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("DOT", "250 2.0.0 queued\r\n421 4.3.2 enough for now")
        assert codes(await handed_over(hop)) == [250]
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


async def test_where_one_reply_was_too_many_before_the_dot_no_refusal_counts():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("RCPT", "550 5.1.1 no")
        server.on("DATA", "503 5.5.1 nobody\r\n250 one too many")
        answer = only(await handed_over(hop))
        assert (answer.code, answer.scope) == (None, "next-hop")
