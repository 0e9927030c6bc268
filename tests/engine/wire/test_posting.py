"""POST as a client: what goes out, and every answer whole, octet by octet, cut anywhere, and with rubbish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.posting import KEPT_OCTETS, MOST_BODY_OCTETS, Posting
from engine.wire.rubbish import Rubbish

HEAD = b"HTTP/1.1 503 Busy\r\nRetry-After: 17\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 5\r\n\r\nlater"
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nla\r\n3\r\nter\r\n0\r\n\r\n"
AFTER_A_HINT = b"HTTP/1.1 100 Continue\r\n\r\n" + WITH_LENGTH
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def asked() -> Posting:
    posting = Posting()
    posting.post("/hook?x=1", "there.example", [("X-Id", "7")], b"{}")
    return posting


def test_a_request_goes_out_with_its_length() -> None:
    sent = Posting().post("/hook?x=1", "there.example:8080", [("X-Id", "7")], b'{"a":1}')
    head, _, body = sent.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook?x=1 HTTP/1.1"
    assert {b"Host: there.example:8080", b"User-Agent: mailgate", b"X-Id: 7", b"Content-Length: 7"} == set(
        lines[1:]
    )
    assert body == b'{"a":1}'


@pytest.mark.parametrize("answer", [WITH_LENGTH, IN_CHUNKS, AFTER_A_HINT])
def test_an_answer_octet_by_octet_and_the_next_request_on_the_same_connection(answer: bytes) -> None:
    posting = asked()
    for _ in range(2):
        assert not posting.heard
        for at in range(len(answer)):
            assert not posting.over
            posting.feed(answer[at : at + 1])
        assert (posting.status, posting.retry_after, posting.beginning) == (503, 17, b"later")
        assert posting.over
        assert posting.reusable
        assert posting.post("/", "there.example", [], b"more").endswith(b"more")
        assert not posting.answered


@given(cut=st.integers(0, len(IN_CHUNKS)), other=st.integers(0, len(IN_CHUNKS)))
def test_an_answer_cut_anywhere(cut: int, other: int) -> None:
    posting = asked()
    first, second = sorted((cut, other))
    for piece in (IN_CHUNKS[:first], IN_CHUNKS[first:second], IN_CHUNKS[second:]):
        if piece:
            posting.feed(piece)
    assert (posting.status, posting.beginning, posting.reusable) == (503, b"later", True)


def test_an_answer_without_a_body() -> None:
    posting = asked()
    posting.feed(EMPTY)
    assert (posting.status, posting.retry_after, posting.reusable) == (204, None, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_who_wants_to_close_is_not_asked_again(answer: bytes) -> None:
    posting = asked()
    posting.feed(answer)
    assert (posting.status, posting.over, posting.reusable) == (200, True, False)


def test_an_answer_up_to_the_end_of_the_connection() -> None:
    posting = asked()
    posting.feed(b"HTTP/1.1 200 OK\r\n\r\nbye")
    assert (posting.answered, posting.over) == (True, False)
    posting.feed(b"")
    assert (posting.over, posting.reusable, posting.beginning) == (True, False, b"bye")


def test_a_body_without_end_is_not_read_to_it() -> None:
    posting = asked()
    posting.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
    octets = 0
    while not posting.over:
        posting.feed(b"x" * 1_000)
        octets += 1_000
    assert octets <= MOST_BODY_OCTETS + 1_000
    assert (posting.status, posting.reusable) == (200, False)
    assert len(posting.beginning) == KEPT_OCTETS


@pytest.mark.parametrize(
    "said",
    [b"220 mail.example ESMTP\r\n\r\n", b"\x00\xff\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99_999],
)
def test_what_is_no_http_is_rubbish(said: bytes) -> None:
    posting = asked()
    with pytest.raises(Rubbish):
        posting.feed(said)


def test_an_end_before_any_answer_is_rubbish_or_no_answer() -> None:
    posting = asked()
    with pytest.raises(Rubbish):
        posting.feed(b"")
    assert not posting.heard


@given(said=st.binary(max_size=200))
def test_whatever_is_said_it_is_an_answer_or_rubbish_or_not_whole(said: bytes) -> None:
    posting = asked()
    try:
        posting.feed(said)
    except Rubbish:
        return
    assert posting.answered or not posting.reusable


@pytest.mark.parametrize("wish", [b"soon", b"-1", b"Wed, 21 Oct 2026 07:28:00 GMT", b"9" * 40, b"\xb2"])
def test_a_wish_that_is_no_number_of_seconds_is_none(wish: bytes) -> None:
    posting = asked()
    posting.feed(b"HTTP/1.1 503 Busy\r\nRetry-After: " + wish + b"\r\nContent-Length: 0\r\n\r\n")
    assert posting.retry_after is None
