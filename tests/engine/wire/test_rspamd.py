"""rspamd's protocol: what is sent, and every response whole, octet by octet, cut anywhere, and with rubbish."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import rspamd
from engine.wire.rubbish import Rubbish
from tests.engine.wire.cuts import anywhere, fed, pieces

FACTS = {
    "action": "add header",
    "score": 7.5,
    "required_score": 15.0,
    "symbols": {"A": {"score": 7.5}, "B": {}},
}
BODY = json.dumps(FACTS).encode()
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nServer: rspamd/3.4\r\n"
WITH_LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5)
IN_CHUNKS += BODY[5:] + b"\r\n0\r\n\r\n"
UNTIL_THE_END = HEAD + b"\r\n" + BODY


def asked() -> rspamd.Exchange:
    exchange = rspamd.Exchange()
    list(exchange.post("/checkv2", "localhost", [], b"a message"))
    return exchange


@pytest.mark.parametrize("size", [0, 1, rspamd.PIECE_OCTETS, rspamd.PIECE_OCTETS + 1, 200_000])
def test_a_message_goes_out_with_its_length(size: int) -> None:
    octets = bytes(at % 251 for at in range(size))
    headers = [(b"Rcpt", b"a@x.example"), (b"Rcpt", b"b@x.example")]
    for given_as in (octets, bytearray(octets), memoryview(octets)):
        sent = b"".join(rspamd.Exchange().post("/checkv2", "127.0.0.1:11333", headers, given_as))
        head, _, content = sent.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /checkv2 HTTP/1.1"
        assert {b"Host: 127.0.0.1:11333", b"Connection: close", b"Content-Length: %d" % size} < set(lines)
        assert lines.count(b"Rcpt: a@x.example") == lines.count(b"Rcpt: b@x.example") == 1
        assert content == octets


def test_a_question_without_content() -> None:
    assert (
        rspamd.Exchange().get("/ping", "localhost").startswith(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n")
    )


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("there.example", b"there.example"),
        ("a\r\nSettings: {}", b"aSettings: {}"),
        (" \x00\t ", None),
        ("", None),
        ("jürgen@straße.example", "jürgen@straße.example".encode()),
    ],
)
def test_a_header_stays_one(value: str, sent: bytes | None) -> None:
    found = rspamd.header("Helo", value)
    assert found == (None if sent is None else (b"Helo", sent))
    if found:
        request = b"".join(rspamd.Exchange().post("/checkv2", "localhost", [found], b""))
        assert b"\r\nHelo: " + found[1] + b"\r\n" in request


@given(st.sampled_from([WITH_LENGTH, IN_CHUNKS]), anywhere)
def test_a_response_cut_anywhere(response: bytes, cuts: list[int]) -> None:
    for cut in (pieces(response, cuts), [response[at : at + 1] for at in range(len(response))]):
        exchange = asked()
        assert fed(exchange.feed, cut) == [False] * (len(cut) - 1) + [True]
        assert (exchange.status, exchange.server, exchange.body) == (200, "rspamd/3.4", BODY)


@given(anywhere)
def test_a_response_that_ends_with_the_connection(cuts: list[int]) -> None:
    exchange = asked()
    cut = pieces(UNTIL_THE_END, cuts)
    assert fed(exchange.feed, cut, end=True) == [False] * len(cut) + [True]
    assert exchange.body == BODY


@given(st.sampled_from([WITH_LENGTH, IN_CHUNKS]), st.integers(0, 1000))
def test_a_response_cut_off_is_none(response: bytes, at: int) -> None:
    exchange = asked()
    try:
        assert not any(fed(exchange.feed, [response[: at % len(response)]], end=True))
    except Rubbish:
        return


@pytest.mark.parametrize(
    "octets", [b"SPAMD/1.1 0 EX_OK\r\n\r\n", b"\x00\xff\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 20_000]
)
def test_what_is_no_http(octets: bytes) -> None:
    with pytest.raises(Rubbish):
        asked().feed(octets)


def test_a_body_without_end() -> None:
    exchange = asked()
    exchange.feed(HEAD + b"\r\n")
    with pytest.raises(Rubbish):
        fed(exchange.feed, [b"x" * 65_536] * 17)


def test_what_check_says() -> None:
    found = rspamd.checked(BODY)
    assert (found.action, found.score, found.required_score, found.names) == (
        "add header",
        7.5,
        15.0,
        ("A", "B"),
    )
    assert not found.is_skipped


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nothing",
        b'{"action": 7, "score": 1}',
        b'{"action": "reject", "score": NaN}',
        b'{"score": 1}',
    ],
)
def test_what_is_no_verdict(body: bytes) -> None:
    with pytest.raises(Rubbish):
        rspamd.checked(body)


@given(st.binary(max_size=200))
def test_rubbish_is_no_verdict(body: bytes) -> None:
    with pytest.raises(Rubbish):
        rspamd.checked(body)
