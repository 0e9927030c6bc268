"""Replies: whole, octet by octet, cut at random, with rubbish for replies."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.smtp_reply import (
    MOST_LINE_OCTETS,
    MOST_REPLY_LINES,
    MOST_TEXT_CHARACTERS,
    Reply,
    ReplyParser,
    SmtpFault,
)


def parsed(octets: bytes) -> list[Reply]:
    return ReplyParser().feed(octets)


def test_a_reply_of_one_line():
    assert parsed(b"250 2.1.0 Sender ok\r\n") == [Reply(250, "2.1.0 Sender ok")]


def test_a_reply_without_text():
    assert parsed(b"250\r\n354 \r\n") == [Reply(250, ""), Reply(354, "")]


def test_the_lines_of_a_long_reply_become_one():
    assert parsed(b"550-No such\r\n550-\r\n550 user\r\n") == [Reply(550, "No such / user")]


def test_an_enhanced_code_on_every_line_is_kept_once():
    (reply,) = parsed(b"550-5.1.1 No such\r\n550 5.1.1 user here\r\n")
    assert reply.text == "5.1.1 No such / user here"
    assert reply.enhanced == "5.1.1"


@pytest.mark.parametrize("text", ["5.1 x", "4.1.1 x", "2.0.0", "5.1.1x", "see 5.1.1", "5.1.1000 x", ""])
def test_what_is_no_enhanced_code_of_this_reply_is_not_taken_for_one(text):
    assert Reply(550, text).enhanced is None


def test_control_characters_are_made_visible():
    (reply,) = parsed(b"550 a\tb\x1b[2Jc\x00\rd\xff\r\n")
    assert reply.text == "a b?[2Jc? d\ufffd"


def test_text_is_bounded():
    (reply,) = parsed(b"".join(b"550%s%s\r\n" % (mark, b"x" * 1500) for mark in (b"-", b"-", b" ")))
    assert len(reply.text) == MOST_TEXT_CHARACTERS
    assert reply.text.endswith("…")


@pytest.mark.parametrize(
    "octets",
    [
        b"25 ok\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"abc ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250_ok\r\n",
        b"\r\n",
        b" 250 ok\r\n",
        b"250 ok\n",
        b"250 ok\n250 forged\r\n",
        b"250-ok\r\n251 ok\r\n",
        b"250-ok\r\n250\tok\r\n",
        "\u0662\u0665\u0660 ok\r\n".encode(),
        b"250 " + b"x" * MOST_LINE_OCTETS + b"\r\n",
        b"2" * (MOST_LINE_OCTETS + 1),
        b"250-x\r\n" * (MOST_REPLY_LINES + 1),
        (b"250-" + b"x" * 2000 + b"\r\n") * 40,
    ],
)
def test_what_is_no_reply_is_a_fault(octets):
    with pytest.raises(SmtpFault):
        parsed(octets)


@given(st.binary(max_size=200))
def test_no_octets_break_the_parser(octets):
    with contextlib.suppress(SmtpFault):
        assert all(200 <= reply.code < 600 and reply.text.isprintable() for reply in parsed(octets))


@given(st.lists(st.integers(1, 9), max_size=30))
def test_replies_are_the_same_however_they_are_cut(steps):
    octets = b"220 hello\r\n250-one\r\n250-two\r\n250 three\r\n354\r\n550 5.1.1 no\r\n"
    parser, replies, at = ReplyParser(), [], 0
    for step in steps:
        replies += parser.feed(octets[at : at + step])
        at += step
    replies += parser.feed(octets[at:])
    assert replies == parsed(octets)
    assert parser.between_replies
