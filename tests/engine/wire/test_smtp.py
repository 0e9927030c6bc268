"""Replies paired with commands: whole, octet by octet, cut at random, with rubbish after."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.smtp import MOST_ADDRESS_OCTETS, Dialogue, address_fault, mail_command, rcpt_command
from engine.wire.smtp_reply import Reply, SmtpFault

TWO = [rcpt_command("a@example.org"), rcpt_command("b@example.org")]


def dialogue(
    *, pipelining: bool = True, reset: bool = False, recipients: list[bytes] | None = None
) -> Dialogue:
    return Dialogue(
        mail=mail_command("me@example.net"),
        recipients=TWO if recipients is None else recipients,
        pipelining=pipelining,
        reset=reset,
    )


def test_mail_parameters():
    assert mail_command("") == b"MAIL FROM:<>\r\n"
    line = mail_command("jörg@example.net", size_octets=7, eight_bit=True, utf8=True)
    assert line == "MAIL FROM:<jörg@example.net> SIZE=7 BODY=8BITMIME SMTPUTF8\r\n".encode()


@pytest.mark.parametrize(
    "address",
    ["a@example.org", "a.b+c@example.org", '"a b"@example.org', '"a\\">"@example.org', "ü@example.org", "a"],
)
def test_addresses_that_may_stand_in_a_command(address):
    assert address_fault(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a@example.org\r\nRCPT TO:<b@example.org",
        "a\n",
        "a\r",
        "a\0b",
        "a\x7f",
        "a> NOTIFY=NEVER",
        "<a@example.org>",
        '"a@example.org',
        '"a"b"@example.org',
        "a\\",
        '"a\r\n"@example.org',
        "a\udcff@example.org",
        "a" * (MOST_ADDRESS_OCTETS + 1),
    ],
)
def test_addresses_that_may_not(address):
    assert address_fault(address) is not None


def test_pipelining_sends_the_whole_envelope_at_once():
    talk = dialogue()
    assert talk.start() == (
        b"MAIL FROM:<me@example.net>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    )
    assert talk.receive(b"250 m\r\n250 a\r\n550 b\r\n") == b""
    assert (talk.phase, talk.awaited) == ("envelope", "DATA")
    assert talk.receive(b"354 go\r\n") == b""
    assert (talk.phase, talk.awaited) == ("content", None)
    talk.dot_sent()
    assert talk.receive(b"250 queued\r\n") == b""
    assert talk.phase == "over"
    assert talk.mail_reply == Reply(250, "m")
    assert talk.recipient_replies == [Reply(250, "a"), Reply(550, "b")]
    assert talk.final_reply == Reply(250, "queued")
    assert talk.reusable
    assert not talk.left_open


@given(st.lists(st.integers(1, 5), max_size=30))
def test_pairing_is_the_same_however_the_replies_are_cut(steps):
    talk, octets, at = dialogue(), b"250-m\r\n250 m\r\n450 a\r\n250 b\r\n354 go\r\n", 0
    talk.start()
    for step in steps:
        talk.receive(octets[at : at + step])
        at += step
    talk.receive(octets[at:])
    assert talk.phase == "content"
    assert [reply.code for reply in talk.recipient_replies] == [450, 250]


def test_without_pipelining_each_command_waits_for_the_reply_before():
    talk = dialogue(pipelining=False, reset=True)
    assert talk.start() == b"RSET\r\n"
    assert talk.receive(b"250 ok\r\n") == b"MAIL FROM:<me@example.net>\r\n"
    assert talk.receive(b"250 ok\r\n") == TWO[0]
    assert talk.receive(b"550 no\r\n") == TWO[1]
    assert talk.receive(b"250 ok\r\n") == b"DATA\r\n"
    assert talk.receive(b"354 go\r\n") == b""
    assert talk.phase == "content"


def test_without_pipelining_nothing_follows_a_refused_mail():
    talk = dialogue(pipelining=False)
    talk.start()
    assert talk.receive(b"452 full\r\n") == b""
    assert talk.phase == "over"
    assert talk.reusable
    assert not talk.left_open


def test_without_pipelining_no_data_follows_when_every_recipient_was_refused():
    talk = dialogue(pipelining=False)
    talk.start()
    talk.receive(b"250 ok\r\n")
    talk.receive(b"550 a\r\n")
    assert talk.receive(b"550 b\r\n") == b""
    assert talk.phase == "over"
    assert talk.left_open


@pytest.mark.parametrize("envelope", [b"250 m\r\n550 a\r\n550 b\r\n", b"550 m\r\n250 a\r\n250 b\r\n"])
def test_354_for_nobody_is_answered_with_a_lone_dot(envelope):
    talk = dialogue()
    talk.start()
    assert talk.receive(envelope + b"354 go\r\n") == b".\r\n"
    assert (talk.phase, talk.awaited) == ("envelope", "lone dot")
    assert talk.receive(b"250 took an empty message\r\n") == b""
    assert talk.phase == "over"
    assert talk.final_reply is None


def test_refused_data_ends_it():
    talk = dialogue()
    talk.start()
    talk.receive(b"250 m\r\n250 a\r\n250 b\r\n451 later\r\n")
    assert talk.phase == "over"
    assert talk.data_reply == Reply(451, "later")
    assert talk.left_open


@pytest.mark.parametrize(
    "octets",
    [
        b"354 mail?\r\n",
        b"250 m\r\n354 rcpt?\r\n",
        b"250 m\r\n250 a\r\n250 b\r\n250 data?\r\n",
        b"250 m\r\n250 a\r\n250 b\r\n334 data?\r\n",
        b"250 m\r\n550 a\r\n550 b\r\n554 none\r\n250 too many\r\n",
        b"250 m\r\n550 a\r\n550 b\r\n554 none\r\n2",
        b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n2",
        b"nonsense\r\n",
    ],
)
def test_a_reply_that_cannot_be_one_to_its_command_is_a_fault(octets):
    talk = dialogue()
    talk.start()
    with pytest.raises(SmtpFault):
        talk.receive(octets)


def test_a_reply_before_the_final_dot_never_counts_as_one_to_it():
    talk = dialogue()
    talk.start()
    talk.receive(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n250 early\r\n")
    assert talk.phase == "over"
    assert talk.final_reply is None
    assert talk.interruption == Reply(250, "early")
    assert not talk.reusable


def test_a_second_reply_to_the_final_dot_voids_the_first():
    talk = dialogue()
    talk.start()
    talk.receive(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n")
    talk.dot_sent()
    with pytest.raises(SmtpFault):
        talk.receive(b"250 stray\r\n554 refused\r\n")
    assert talk.final_reply is None


def test_421_behind_the_reply_to_the_final_dot_leaves_it_standing():
    talk = dialogue()
    talk.start()
    talk.receive(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n")
    talk.dot_sent()
    talk.receive(b"250 queued\r\n421 closing\r\n")
    assert talk.final_reply == Reply(250, "queued")
    assert not talk.reusable


@pytest.mark.parametrize("before", [b"", b"250 m\r\n", b"250 m\r\n250 a\r\n", b"250 m\r\n250 a\r\n250 b\r\n"])
@pytest.mark.parametrize("after", [b"", b"421 again\r\n", b"503 what?\r\n50"])
def test_421_ends_it_anywhere_and_what_follows_is_ignored(before, after):
    talk = dialogue()
    talk.start()
    assert talk.receive(before + b"421 closing\r\n" + after) == b""
    assert talk.phase == "over"
    assert talk.farewell == Reply(421, "closing")
    assert not talk.reusable


def test_421_between_354_and_the_final_dot_ends_it():
    talk = dialogue()
    talk.start()
    talk.receive(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n")
    talk.receive(b"421 timeout\r\n")
    assert (talk.phase, talk.farewell) == ("over", Reply(421, "timeout"))


@pytest.mark.parametrize("answer", [b"500 what?\r\n", b"354 what?\r\n"])
def test_a_refused_rset_is_a_fault(answer):
    talk = dialogue(reset=True)
    assert talk.start().startswith(b"RSET\r\nMAIL ")
    with pytest.raises(SmtpFault):
        talk.receive(answer)


CODES = st.sampled_from([250, 250, 250, 251, 354, 354, 421, 451, 503, 550])


@given(st.lists(CODES, min_size=1, max_size=7), st.booleans())
def test_a_message_counts_as_taken_only_if_each_reply_in_its_place_says_so(codes, pipelining):
    talk = dialogue(pipelining=pipelining)
    talk.start()
    with contextlib.suppress(SmtpFault):
        for code in codes:
            talk.receive(b"%d x\r\n" % code)
            if talk.phase == "content":
                talk.dot_sent()
    taken = talk.final_reply is not None and talk.final_reply.positive
    mail, one, other, data, dot, *more = [*codes, 0, 0, 0, 0, 0]
    assert taken == (
        mail in (250, 251)
        and {one, other} & {250, 251} != set()
        and {one, other} & {354, 421} == set()
        and data == 354
        and dot in (250, 251)
        and [code for code in more if code][:1] in ([], [421])
    )


def test_what_the_client_wished_for_about_reports_is_passed_on() -> None:
    assert mail_command("a@example.com", ret="HDRS", envid="QQ+2B1") == (
        b"MAIL FROM:<a@example.com> RET=HDRS ENVID=QQ+2B1\r\n"
    )
    assert rcpt_command("b@example.net", notify="SUCCESS,DELAY", orcpt="rfc822;b@example.net") == (
        b"RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.net\r\n"
    )
