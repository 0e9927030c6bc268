"""Lines and dot-ended bodies keep every octet, however the octets are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.wire.lines import CRLF, LF, DotBody, LineBuffer, TooLong

# Octets that matter are made likely; the others are there too.
SCRAPS = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r\n.", b"\r\n..", b"\n.", b".", b"\r", b"\n", b"\n.\r\n", b"\0", b"a", b"\xe4 b"]
    )
    | st.binary(max_size=4),
    max_size=30,
).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def stuffed(body: bytes, line_end: bytes = CRLF) -> bytes:
    """What a server sends for a body: RFC 1939 section 3, line by line."""
    lines = body.split(line_end)
    dotted = [b"." + line if line.startswith(b".") else line for line in lines]
    return line_end.join(dotted)


def collected(
    sent: bytes, cuts: list[int], *, line_end: bytes = CRLF, limit_octets: int = 10**6
) -> tuple[bytes, bytes]:
    """The body and what is left behind it, of a stream cut at `cuts`."""
    stream = b"+OK" + line_end + sent
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    buffer = LineBuffer()
    body: DotBody | None = None
    done = False
    for start, stop in pairwise(edges):
        buffer.feed(stream[start:stop])
        if body is None and buffer.line(100) is not None:
            body = DotBody(buffer, line_end=line_end, limit_octets=limit_octets)
        if body is not None and not done:
            done = body.take(buffer)
    assert body is not None
    assert done, "the end was not found"
    return bytes(body.octets), buffer.octets[buffer.start :]


@given(body=SCRAPS, cuts=CUTS, behind=SCRAPS)
@example(body=b"", cuts=[], behind=b"")
@example(body=b".", cuts=list(range(20)), behind=b".\r\n")
def test_a_body_comes_back_octet_for_octet(body: bytes, cuts: list[int], behind: bytes) -> None:
    body = body + CRLF if body else body

    assert collected(stuffed(body) + b".\r\n" + behind, cuts) == (body, behind)


@given(body=SCRAPS, cuts=CUTS, behind=SCRAPS, last=st.sampled_from([b".\n", b".\r\n"]))
def test_a_body_with_bare_lf_comes_back_octet_for_octet(
    body: bytes, cuts: list[int], behind: bytes, last: bytes
) -> None:
    body = body + LF if body else body

    assert collected(stuffed(body, LF) + last + behind, cuts, line_end=LF) == (body, behind)


@given(body=SCRAPS)
def test_a_body_fed_octet_by_octet_is_the_same(body: bytes) -> None:
    sent = stuffed(body + CRLF) + b".\r\n"

    assert collected(sent, list(range(len(sent) + 5))) == (body + CRLF, b"")


@pytest.mark.parametrize(
    "inside", [b"a\n.\r\nb", b"a\n.\nb", b"a\r.\rb", b"a\r\n.\nb", b"\n.\r\nb", b"a\r\n.\r\r\nb"]
)
def test_only_crlf_dot_crlf_ends_the_body_of_a_server_that_speaks_crlf(inside: bytes) -> None:
    assert collected(inside + b"\r\n.\r\n", []) == (inside + CRLF, b"")


def test_one_dot_at_the_start_of_a_longer_line_was_not_stuffed() -> None:
    assert collected(b".signature\r\n..\r\n.\r\n", []) == (b".signature\r\n.\r\n", b"")


@pytest.mark.parametrize("cuts", [[], list(range(20))])
def test_a_body_may_be_as_long_as_its_limit_and_no_longer(cuts: list[int]) -> None:
    assert collected(b"12345678\r\n.\r\n", cuts, limit_octets=10) == (b"12345678\r\n", b"")
    with pytest.raises(TooLong, match="more than 9 octets"):
        collected(b"12345678\r\n.\r\n", cuts, limit_octets=9)


def test_an_endless_body_without_a_line_ending_is_cut_off() -> None:
    buffer = LineBuffer()
    buffer.feed(b"+OK\r\n")
    buffer.line(100)
    body = DotBody(buffer, line_end=CRLF, limit_octets=10_000)

    def endless() -> None:
        while True:
            buffer.feed(b"x" * 1000)
            body.take(buffer)

    with pytest.raises(TooLong):
        endless()
    assert len(body.octets) == 10_000


def test_a_body_full_of_stuffed_dots_is_cleaned_in_one_pass() -> None:
    body = b".\r\n" * 200_000

    assert collected(stuffed(body) + b".\r\n", [70_000, 70_001, 350_002]) == (body, b"")


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=5), cuts=CUTS
)
def test_lines_come_out_whole_with_their_endings(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"unfinished"
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    buffer = LineBuffer()
    got = []

    for start, stop in pairwise(edges):
        buffer.feed(stream[start:stop])
        while (line := buffer.line(1000)) is not None:
            got.append(line)

    assert got == [line + b"\n" for line in lines]
    assert len(buffer) == len(b"unfinished")


def test_a_line_over_the_limit_is_refused_whether_its_end_has_come_or_not() -> None:
    for octets in (b"123456789\n", b"1234567890", b"123456789012345\n"):
        buffer = LineBuffer()
        buffer.feed(octets)
        if octets == b"123456789\n":
            assert buffer.line(10) == octets
            continue
        with pytest.raises(TooLong):
            buffer.line(10)
