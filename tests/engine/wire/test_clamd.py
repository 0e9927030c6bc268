"""clamd's protocol: what is sent, and every reply whole, octet by octet, cut anywhere, and with rubbish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import clamd
from engine.wire.rubbish import Rubbish
from tests.engine.wire.cuts import anywhere, fed, pieces

REPLIES = {
    b"stream: OK\0": clamd.Nothing(),
    b"stream: Eicar-Test-Signature FOUND\0": clamd.Found("Eicar-Test-Signature"),
    b"stream: Heuristics.Encrypted.Zip FOUND\0": clamd.Found("Heuristics.Encrypted.Zip"),
    b"stream: Odd name: OK FOUND\0": clamd.Found("Odd name: OK"),
    b"INSTREAM size limit exceeded. ERROR\0": clamd.TooLarge("INSTREAM size limit exceeded. ERROR"),
    b"stream: Can't allocate memory ERROR\0": clamd.Failed("stream: Can't allocate memory"),
    b"COMMAND READ TIMED OUT\0": clamd.Failed("COMMAND READ TIMED OUT"),
    b"UNKNOWN COMMAND\0": clamd.Unknown("UNKNOWN COMMAND"),
    b"\0": clamd.Unknown(""),
    b"PONG\0": clamd.Unknown("PONG"),
}


def chunks(sent: bytes) -> bytes:
    """The message in what INSTREAM sends."""
    lead, _, rest = sent.partition(b"\0")
    assert lead == b"zINSTREAM"
    found = b""
    while size := int.from_bytes(rest[:4], "big"):
        found, rest = found + rest[4 : 4 + size], rest[4 + size :]
    assert rest == bytes(4)
    return found


@pytest.mark.parametrize(
    "size", [0, 1, clamd.PIECE_OCTETS - 1, clamd.PIECE_OCTETS, clamd.PIECE_OCTETS + 1, 200_000]
)
def test_a_message_goes_out_in_chunks(size: int) -> None:
    octets = bytes(at % 251 for at in range(size))
    for given_as in (octets, bytearray(octets), memoryview(octets)):
        sent = list(clamd.instream(given_as))
        assert chunks(b"".join(sent)) == octets
        assert len(sent) == max(1, -(-size // clamd.PIECE_OCTETS))
        assert max(map(len, sent)) <= clamd.PIECE_OCTETS + 30


def test_commands() -> None:
    assert clamd.command("PING") == b"zPING\0"


@given(reply=st.sampled_from([*REPLIES]), cuts=anywhere)
def test_a_reply_cut_anywhere(reply: bytes, cuts: list[int]) -> None:
    for cut in (pieces(reply, cuts), [reply[at : at + 1] for at in range(len(reply))]):
        reader = clamd.ReplyReader()
        said = fed(reader.feed, cut)
        assert said == [False] * (len(cut) - 1) + [True]
        assert reader.reply is not None
        assert clamd.verdict(reader.reply) == REPLIES[reply]


@given(st.sampled_from([*REPLIES]), st.integers(0, 100))
def test_a_reply_cut_off_is_none(reply: bytes, at: int) -> None:
    reader = clamd.ReplyReader()
    assert not any(fed(reader.feed, [reply[: at % len(reply)]], end=True))
    assert reader.reply is None


@pytest.mark.parametrize("octets", [b"stream: OK\0stream: OK\0", b"stream: OK\0x", b"x" * 5000])
def test_more_than_a_reply_is_rubbish(octets: bytes) -> None:
    with pytest.raises(Rubbish):
        clamd.ReplyReader().feed(octets)


@given(st.binary(max_size=300), anywhere)
def test_rubbish_is_never_clean(octets: bytes, cuts: list[int]) -> None:
    reader = clamd.ReplyReader()
    try:
        fed(reader.feed, pieces(octets, cuts), end=True)
    except Rubbish:
        return
    if reader.reply is not None and octets != b"stream: OK\0":
        assert clamd.verdict(reader.reply) != clamd.Nothing()


def test_a_name_is_one_line_that_can_be_shown() -> None:
    reader = clamd.ReplyReader()
    assert reader.feed(b"stream: A\x1b[2J\n\xffB" + b"x" * 1000 + b" FOUND\0")
    found = clamd.verdict(reader.reply or "")
    assert isinstance(found, clamd.Found)
    assert found.name.startswith("A?[2J?\ufffdBxxx")
    assert found.name.isprintable()
    assert len(found.name) == 200
