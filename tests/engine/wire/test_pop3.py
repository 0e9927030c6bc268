"""A POP3 conversation means the same however its octets are cut, and is never paired wrongly."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import pop3_commands, sasl
from engine.wire.pop3 import STATUS_LINE_OCTETS_LIMIT, Misuse, Pop3
from engine.wire.pop3_commands import CAPA, LIST, NOOP, QUIT, RSET, STLS, UIDL, Command
from engine.wire.pop3_listing import sizes_of
from engine.wire.pop3_phases import PHASES, Phase
from engine.wire.pop3_replies import (
    Broken,
    Challenged,
    Greeted,
    Happening,
    Replied,
)


def retr(number: int, listed_octets: int = 0, limit_octets: int = 10_000) -> Command:
    return pop3_commands.retr(number, listed_octets=listed_octets, limit_octets=limit_octets, about=number)


BODY = b"Subject: one\r\n\r\n.\nnot the end\n.\r\n\xff\0\r alone\r\n.\r\n.."


GREETING = b"+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n"


LOGIN = [pop3_commands.user("anna"), pop3_commands.password("pass word"), CAPA]


LOGIN_REPLIES = [b"+OK\r\n", b"+OK in\r\n", b"+OK\r\nPIPELINING\r\nUIDL\r\nSASL PLAIN\r\n.\r\n"]


PIPELINED = [LIST, UIDL, retr(1, 5), retr(2), retr(3, 2), pop3_commands.dele(1), RSET, NOOP, QUIT]


STUFFED = BODY.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"


REPLIES = (
    b"+OK 3 messages\r\n1 5\r\n2 9\r\n3 2\r\n.\r\n+OK\r\n1 a b\r\n.\r\n+OK 5 octets\r\n" + STUFFED
    + b"-ERR [SYS/TEMP] later\r\n+OK\r\n..\r\n.\r\n+OK marked\r\n+OK\r\n+OK\r\n+OK bye\r\n"
)  # fmt: skip


def logged_in(*, pipelining: bool = True) -> Pop3:
    link = Pop3()
    link.feed(GREETING)
    for command, reply in zip(LOGIN, LOGIN_REPLIES, strict=True):
        link.send(command)
        link.feed(reply if pipelining else reply.replace(b"PIPELINING\r\n", b""))
    assert link.phase is Phase.TRANSACTION
    return link


def fed(link: Pop3, stream: bytes, cuts: list[int] | range) -> list[Happening]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [happening for start, stop in pairwise(edges) for happening in link.feed(stream[start:stop])]


def broken_by(link: Pop3, stream: bytes) -> Broken:
    """How a stream breaks a conversation."""
    happening = link.feed(stream)[-1]
    assert isinstance(happening, Broken)
    return happening


def check_the_recorded_session(happenings: list[Happening], link: Pop3) -> None:
    replies = [happening for happening in happenings if isinstance(happening, Replied)]
    assert replies == happenings
    assert [reply.command for reply in replies] == PIPELINED
    assert [reply.ok for reply in replies] == [True, True, True, False, True, True, True, True, True]
    assert replies[0].body == b"1 5\r\n2 9\r\n3 2\r\n"
    assert replies[1].body == b"1 a b\r\n"
    assert replies[2].body == BODY + b"\r\n"
    assert replies[4].body == b".\r\n"
    assert replies[3].body is None
    assert link.phase is Phase.CLOSED


@given(cuts=st.lists(st.integers(0, len(REPLIES)), max_size=12), behind=st.binary(max_size=8))
def test_a_session_does_not_depend_on_how_it_is_cut_nor_on_rubbish_behind_it(
    cuts: list[int], behind: bytes
) -> None:
    link = logged_in()
    for command in PIPELINED:
        link.send(command)

    check_the_recorded_session(fed(link, REPLIES + behind, cuts), link)


def test_a_session_octet_by_octet_is_the_same() -> None:
    link = logged_in()
    for command in PIPELINED:
        link.send(command)

    check_the_recorded_session(fed(link, REPLIES, range(len(REPLIES))), link)


@given(
    stream=st.lists(st.sampled_from([b"+OK", b"-ERR", b"\r\n", b".", b"\n", b"+ "]) | st.binary(max_size=5))
)
def test_no_octets_whatever_raise_or_pair_more_than_was_asked(stream: list[bytes]) -> None:
    link = logged_in()
    commands = [retr(1, 100), retr(2), LIST]
    for command in commands:
        link.send(command)

    happenings = [happening for octets in stream for happening in link.feed(octets)]

    replies = [happening for happening in happenings if isinstance(happening, Replied)]
    assert [reply.command for reply in replies] == commands[: len(replies)]
    assert not any(isinstance(happening, Broken) for happening in happenings[:-1])


def test_the_greeting_tells_the_apop_timestamp() -> None:
    (greeted,) = Pop3().feed(GREETING)

    assert greeted == Greeted(True, GREETING, b"<1896.697170952@dbc.mtview.ca.us>")
    command = pop3_commands.apop("mrose", "tanstaaf", b"<1896.697170952@dbc.mtview.ca.us>")
    assert command.line() == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"


@pytest.mark.parametrize(
    "line", [b"+OK ready\r\n", b"+OK <no-at-sign>\r\n", b"+OK <a b@c>\r\n", b"+OK <a\xff@b>\r\n"]
)
def test_a_greeting_without_a_message_id_offers_no_apop(line: bytes) -> None:
    assert Pop3().feed(line) == [Greeted(True, line, None)]


@pytest.mark.parametrize("line", [b"220 smtp.example ESMTP\r\n", b"\x16\x03\x01\r\n", b"* OK IMAP4\r\n"])
def test_another_protocol_is_no_greeting(line: bytes) -> None:
    broken = broken_by(Pop3(), line)

    assert "no POP3 greeting" in broken.text
    assert not broken.lost


def test_a_greeting_that_turns_us_away_closes() -> None:
    link = Pop3()

    assert link.feed(b"-ERR too many\r\n+OK\r\n") == [Greeted(False, b"-ERR too many\r\n")]
    assert link.phase is Phase.CLOSED


def test_only_commands_of_the_phase_can_be_sent() -> None:
    every = {verb for allowed in PHASES.values() for verb in allowed}
    for phase, allowed in PHASES.items():
        for verb in every - set(allowed):
            link = Pop3()
            link.phase = phase
            with pytest.raises(Misuse, match=verb):
                link.send(Command(verb=verb))


def test_without_pipelining_a_command_waits_for_the_reply_to_the_last() -> None:
    link = logged_in(pipelining=False)
    link.send(retr(1))

    with pytest.raises(Misuse, match="DELE has to wait for the reply to RETR"):
        link.send(pop3_commands.dele(1))
    link.feed(b"+OK\r\nx\r\n.\r\n")
    assert link.send(pop3_commands.dele(1)) == b"DELE 1\r\n"


def test_nothing_is_sent_behind_a_command_that_changes_the_phase() -> None:
    link = logged_in()
    link.send(QUIT)

    with pytest.raises(Misuse, match="NOOP has to wait for the reply to QUIT"):
        link.send(NOOP)


def test_tls_makes_us_forget_what_was_learnt_in_the_clear() -> None:
    link = Pop3()
    link.feed(GREETING)
    link.send(CAPA)
    link.feed(b"+OK\r\nSTLS\r\nPIPELINING\r\n.\r\n")
    link.send(STLS)
    link.feed(b"+OK begin\r\n")

    assert link.phase is Phase.TLS
    with pytest.raises(Misuse):
        link.send(CAPA)
    link.tls_started()
    assert link.capabilities == {}
    assert not link.pipelining
    assert link.phase is Phase.AUTHORIZATION


@pytest.mark.parametrize("cut", [0, 4, 11, 12, 15])
def test_octets_in_the_clear_behind_stls_are_an_attack(cut: int) -> None:
    link = Pop3()
    link.feed(GREETING)
    link.send(STLS)
    stream = b"+OK begin\r\n+OK\r\n"

    happening = fed(link, stream, [cut])[-1]

    assert isinstance(happening, Broken)
    with pytest.raises(Misuse):
        link.tls_started()


def test_stls_that_is_refused_changes_nothing() -> None:
    link = Pop3()
    link.feed(GREETING)
    link.send(STLS)
    link.feed(b"-ERR no\r\n")

    assert link.phase is Phase.AUTHORIZATION
    with pytest.raises(Misuse):
        link.tls_started()


def test_a_challenge_is_decoded_and_answered_in_base64() -> None:
    link = Pop3()
    link.feed(GREETING)
    link.send(sasl.plain("anna", "secret").command)

    (challenged,) = link.feed(b"+ " + base64.b64encode(b"more?") + b"\r\n")

    assert isinstance(challenged, Challenged)
    assert challenged.octets == b"more?"
    assert link.respond(b"\0a\0b") == b"AGEAYg==\r\n"
    assert link.respond(b"") == b"\r\n"
    assert link.respond(None) == b"*\r\n"
    link.feed(b"+OK\r\n")
    assert link.phase is Phase.TRANSACTION


@pytest.mark.parametrize(
    ("line", "octets"), [(b"+\r\n", b""), (b"+ \r\n", b""), (b"+ no base64!\r\n", b"no base64!")]
)
def test_a_challenge_may_be_empty_or_no_base64(line: bytes, octets: bytes) -> None:
    link = Pop3()
    link.feed(GREETING)
    command = sasl.plain("anna", "secret").command
    link.send(command)

    assert link.feed(line) == [Challenged(command, octets)]


def test_a_response_without_auth_is_misuse() -> None:
    with pytest.raises(Misuse, match="no AUTH"):
        logged_in().respond(b"x")


def test_a_challenge_to_another_command_than_auth_is_out_of_step() -> None:
    link = logged_in()
    link.send(NOOP)

    assert "neither +OK nor -ERR to NOOP" in broken_by(link, b"+ \r\n").text


def test_a_reply_out_of_step_names_the_message_and_hands_out_nothing_more() -> None:
    link = logged_in()
    link.send(retr(1))
    link.send(retr(2))

    first, broken = link.feed(b"+OK\r\none\r\n.\r\nrubbish\r\n+OK\r\ntwo\r\n.\r\n")

    assert isinstance(first, Replied)
    assert first.command.about == 1
    assert isinstance(broken, Broken)
    assert broken.command is not None
    assert broken.command.about == 2
    assert "'rubbish'" in broken.text
    assert link.feed(b"+OK\r\n") == []


@pytest.mark.parametrize("first_lines", [b".\r\nrest\r\n", b".\r\n+OK\r\nfaked\r\n"])
@pytest.mark.parametrize("next_in_flight", [False, True])
def test_a_message_whose_first_dot_was_not_stuffed_is_never_taken_for_an_empty_one(
    first_lines: bytes, next_in_flight: bool
) -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=20))
    if next_in_flight:
        link.send(retr(2, listed_octets=3))

    (broken,) = link.feed(b"+OK\r\n" + first_lines + b".\r\n+OK\r\ntwo\r\n.\r\n")

    assert isinstance(broken, Broken)
    assert broken.command is not None
    assert broken.command.about == 1


def test_a_message_of_no_octets_may_be_listed_with_none() -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=0))

    (reply,) = link.feed(b"+OK\r\n.\r\n")

    assert isinstance(reply, Replied)
    assert reply.body == b""


@pytest.mark.parametrize("next_in_flight", [False, True])
def test_a_message_cut_short_by_its_own_dot_is_not_handed_out(next_in_flight: bool) -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=20))
    if next_in_flight:
        link.send(retr(2))

    (broken,) = link.feed(b"+OK\r\nshort\r\n.\r\nthe rest\r\n.\r\n")

    assert isinstance(broken, Broken)
    assert broken.command is not None
    assert broken.command.about == 1


def test_the_messages_before_one_that_was_cut_short_are_handed_out() -> None:
    link = logged_in()
    for number in (1, 2, 3):
        link.send(retr(number, listed_octets=5))

    first, broken = link.feed(b"+OK\r\none\r\n.\r\n+OK\r\n2\r\n.\r\nthe rest\r\n.\r\n")

    assert isinstance(first, Replied)
    assert (first.command.about, first.body) == (1, b"one\r\n")
    assert isinstance(broken, Broken)
    assert broken.command is not None
    assert broken.command.about == 2


def test_a_message_as_long_as_listed_waits_for_nothing() -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=5))
    link.send(retr(2, listed_octets=5))

    (first,) = link.feed(b"+OK\r\none\r\n.\r\n")

    assert isinstance(first, Replied)
    assert first.command.about == 1


def test_a_message_shorter_than_listed_waits_for_the_next_reply_to_begin() -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=20))
    link.send(retr(2, listed_octets=20))

    assert link.feed(b"+OK\r\nshort\r\n.\r\n") == []
    (first,) = link.feed(b"+OK\r\n")
    (second,) = link.feed(b"also\r\n.\r\n")

    assert isinstance(first, Replied)
    assert isinstance(second, Replied)
    assert (first.command.about, second.command.about) == (1, 2)


def test_a_message_kept_back_is_lost_with_the_connection() -> None:
    link = logged_in()
    link.send(retr(1, listed_octets=20))
    link.send(retr(2))
    link.feed(b"+OK\r\nshort\r\n.\r\n")

    assert link.end("gone") == [Broken(retr(2), "gone", True)]
    assert link.end("again") == []


def test_octets_nobody_asked_for_break_the_conversation() -> None:
    link = logged_in()

    assert "nobody asked for: 'Autologout'" in broken_by(link, b"-ERR Autologout\r\n").text


def test_an_endless_message_is_cut_off_and_named() -> None:
    link = logged_in()
    link.send(retr(7, limit_octets=10_000))
    link.feed(b"+OK\r\n")

    happenings = [happening for _ in range(20) for happening in link.feed(b"x" * 998 + b"\r\n")]

    assert len(happenings) == 1
    assert isinstance(happenings[0], Broken)
    assert happenings[0].command is not None
    assert happenings[0].command.about == 7
    assert happenings[0].text == "the server sent more than 10000 octets"


def test_a_status_line_is_bounded() -> None:
    link = logged_in()
    link.send(NOOP)
    longest = b"+OK " + b"x" * (STATUS_LINE_OCTETS_LIMIT - 6) + b"\r\n"

    (reply,) = link.feed(longest)
    assert isinstance(reply, Replied)
    link.send(NOOP)
    assert "the status line is more than 4096 octets" in broken_by(link, b"+OK" + b"x" * 5000).text


def test_a_server_with_bare_lf_throughout_is_understood() -> None:
    link = Pop3()
    link.feed(b"+OK\n")
    link.send(pop3_commands.user("a"))
    link.feed(b"+OK\n")
    link.send(pop3_commands.password("b"))
    link.feed(b"+OK\n")
    link.send(LIST)
    (listing,) = link.feed(b"+OK\n1 5\n.\n")
    link.send(retr(1, 5))
    (message,) = link.feed(b"+OK\n..one\ntwo\r\n.\n")

    assert isinstance(listing, Replied)
    assert isinstance(message, Replied)
    assert list(sizes_of(listing.body or b"", listing.line_end)) == [(1, 5)]
    assert message.body == b".one\ntwo\r\n"


def test_a_broken_login_never_quotes_what_the_server_echoes() -> None:
    link = Pop3()
    link.feed(GREETING)
    link.send(pop3_commands.user("anna"))
    link.feed(b"+OK\r\n")
    link.send(pop3_commands.password("hunter2"))

    assert "hunter2" not in broken_by(link, b"PASS hunter2\r\n").text
