"""spamd's protocol: what is sent, and every reply whole, octet by octet, cut anywhere, and with rubbish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import spamd
from engine.wire.rubbish import Rubbish
from tests.engine.wire.cuts import anywhere, fed, pieces

SYMBOLS = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 11\r\nSpam: True ; 1003.5 / 5.0\r\n\r\nGTUBE,PILLS"
NOTHING_HIT = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; -0.1 / 5.0\r\n\r\n"
# Without a length, the end of the connection ends them.
UNTIL_THE_END = {
    b"SPAMD/1.1 0 EX_OK\r\nSpam: Yes ; 7 / 5\r\n\r\n": (0, True, ()),
    b"SPAMD/1.1 0 EX_OK\r\nSpam: No ; 2.0 / 5.0\r\n\r\nONE, TWO\r\n": (0, False, ("ONE", "TWO")),
    b"SPAMD/1.5 0 PONG\r\n": (0, None, ()),
    b"SPAMD/1.0 76 Bad header line: (Content-Length mismatch)\r\n": (76, None, ()),
    b"SPAMD/1.0 79 Timeout: (30 second timeout while trying to CHECK)\r\n": (79, None, ()),
}


@pytest.mark.parametrize("size", [0, 1, spamd.PIECE_OCTETS, spamd.PIECE_OCTETS + 1, 200_000])
def test_a_message_goes_out_with_its_length(size: int) -> None:
    octets = bytes(at % 251 for at in range(size))
    for given_as in (octets, bytearray(octets), memoryview(octets)):
        head, _, content = b"".join(spamd.question("SYMBOLS", given_as)).partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [b"SYMBOLS SPAMC/1.5", b"Content-length: %d" % size]
        assert content == octets


def test_a_user_cannot_break_the_line() -> None:
    assert b"\r\nUser: alice\r\n" in next(spamd.question("SYMBOLS", b"", "alice"))
    for user in ("a\r\nContent-length: 0", "jürgen", ""):
        assert b"User" not in next(spamd.question("SYMBOLS", b"", user))


@given(anywhere)
def test_a_verdict_cut_anywhere(cuts: list[int]) -> None:
    for cut in (pieces(SYMBOLS, cuts), [SYMBOLS[at : at + 1] for at in range(len(SYMBOLS))]):
        reader = spamd.ReplyReader()
        assert fed(reader.feed, cut) == [False] * (len(cut) - 1) + [True]
        reply = reader.reply
        assert reply is not None
        assert (reply.code, reply.spam, reply.score, reply.threshold) == (0, True, 1003.5, 5.0)
        assert reply.rules == ("GTUBE", "PILLS")


def test_a_verdict_without_rules() -> None:
    reader = spamd.ReplyReader()
    assert reader.feed(NOTHING_HIT)
    assert reader.reply == spamd.Reply(code=0, text="EX_OK", spam=False, score=-0.1, threshold=5.0)
    assert reader.reply.rules == ()


@given(st.sampled_from([*UNTIL_THE_END]), anywhere)
def test_a_reply_that_ends_with_the_connection(reply: bytes, cuts: list[int]) -> None:
    reader = spamd.ReplyReader()
    cut = pieces(reply, cuts)
    assert fed(reader.feed, cut, end=True) == [False] * len(cut) + [True]
    assert reader.reply is not None
    assert (reader.reply.code, reader.reply.spam, reader.reply.rules) == UNTIL_THE_END[reply]


@given(st.sampled_from([SYMBOLS, NOTHING_HIT]), st.integers(0, 200))
def test_a_reply_cut_off_has_no_verdict(reply: bytes, at: int) -> None:
    reader = spamd.ReplyReader()
    fed(reader.feed, [reply[: at % len(reply)]], end=True)
    assert reader.reply is None or reader.reply.spam is None


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"SPAMD/1.1 zero EX_OK\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: Perhaps ; 1.0 / 5.0\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; nan / 5.0\r\n\r\n",
        SYMBOLS + b",MORE",
        b"SPAMD/1.1 0 " + b"x" * 10_000,
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.0 / 5.0\r\n\r\n" + b"x" * 100_000,
    ],
)
def test_rubbish(octets: bytes) -> None:
    with pytest.raises(Rubbish):
        fed(spamd.ReplyReader().feed, [octets], end=True)


@given(st.binary(max_size=200), st.booleans(), anywhere)
def test_rubbish_has_no_verdict(octets: bytes, led: bool, cuts: list[int]) -> None:
    reader = spamd.ReplyReader()
    try:
        fed(reader.feed, pieces(b"SPAMD/1.1 " * led + octets, cuts), end=True)
    except Rubbish:
        return
    assert reader.reply is None or reader.reply.spam is None


def test_rules_are_bounded() -> None:
    reply = spamd.Reply(code=0, text="", body=",".join(f"R{n}" + "x" * 500 for n in range(500)))
    assert len(reply.rules) == 100
    assert max(map(len, reply.rules)) == 100
