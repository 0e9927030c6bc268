"""The stand-in home server takes mail as a server should and gives the scripted answers."""

import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cli.stand_in_home import StandInHome
from tests.peers.raw import RawClient
from tests.peers.thread import PeerThread

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAIL = b"Subject: x\r\n\r\n.\r\n..two\nlone\rcr\r\n"


@pytest.fixture
def home() -> StandInHome:
    return StandInHome(
        clock=lambda: NOON,
        size_limit_octets=1000,
        refused=["Gone@example.com"],
        deferrals={"slow@example.com": 2},
    )


@pytest.fixture
def port(home: StandInHome) -> Iterator[int]:
    with PeerThread(home) as port:
        yield port


def ask(client: RawClient, line: bytes) -> bytes:
    client.say(line + b"\r\n")
    return client.reply()


def test_smtplib_delivers_byte_for_byte(home: StandInHome, port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo()
        assert client.esmtp_features.keys() >= {"size", "8bitmime", "pipelining", "smtputf8"}
        assert client.esmtp_features["size"] == "1000"
        client.sendmail("a@demo.example", ["b@example.com", "c@example.com"], b"A: \xff\r\n\r\n.\r\n")
    (taken,) = home.ledger
    assert taken.reverse_path == "a@demo.example"
    assert taken.recipients == ("b@example.com", "c@example.com")
    assert taken.octets == b"A: \xff\r\n\r\n.\r\n"
    assert taken.at == NOON


def test_only_crlf_dot_crlf_ends_the_content(home: StandInHome, port: int) -> None:
    with RawClient(port) as client:
        client.line()
        for line in (b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<b@example.com>", b"DATA"):
            ask(client, line)
        client.say(b"one\n.\r\ntwo\r\n.\nthree\r\n..\r\n.\r\n")
        assert client.reply().startswith(b"250 2.0.0")
        assert home.ledger[0].octets == b"one\n.\r\ntwo\r\n\nthree\r\n.\r\n"
        assert home.ledger[0].reverse_path == ""


def test_an_empty_message_is_taken(home: StandInHome, port: int) -> None:
    with RawClient(port) as client:
        client.line()
        client.say(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n.\r\nQUIT\r\n")
        assert client.rest().endswith(b"221 2.0.0 bye\r\n")
        assert home.ledger[0].octets == b""


def test_a_recipient_is_refused_and_the_others_are_taken(home: StandInHome, port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        refused = client.sendmail("a@demo.example", ["gone@example.com", "b@example.com"], MAIL)
    assert refused["gone@example.com"] == (550, b"5.1.1 no such recipient here")
    assert home.ledger[0].recipients == ("b@example.com",)


def test_a_recipient_is_deferred_so_many_times_and_then_taken(home: StandInHome, port: int) -> None:
    with RawClient(port) as client:
        client.line()
        ask(client, b"EHLO x")
        replies = []
        for _ in range(3):
            ask(client, b"MAIL FROM:<>")
            replies.append(ask(client, b"RCPT TO:<slow@example.com>")[:9])
            ask(client, b"RSET")
        assert replies == [b"451 4.7.1", b"451 4.7.1", b"250 2.1.5"]


def test_mail_above_the_limit_is_refused_when_announced_and_when_sent(home: StandInHome, port: int) -> None:
    with RawClient(port) as client:
        client.line()
        ask(client, b"EHLO x")
        assert ask(client, b"MAIL FROM:<> SIZE=1001").startswith(b"552 5.3.4")
        for line in (b"MAIL FROM:<> SIZE=1000", b"RCPT TO:<b@example.com>", b"DATA"):
            assert ask(client, line)[:1] in b"23"
        assert ask(client, b"x" * 1000 + b"\r\n.").startswith(b"552 5.3.4")
        assert home.ledger == []


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"RCPT TO:<b@example.com>"], b"503"),
        ([b"DATA"], b"554"),
        ([b"MAIL FROM:<>", b"RCPT TO:<gone@example.com>", b"DATA"], b"554"),
        ([b"MAIL FROM:<>", b"MAIL FROM:<>"], b"503"),
        ([b"MAIL a@demo.example"], b"501"),
        ([b"MAIL FROM:<>", b"RCPT b@example.com"], b"501"),
        ([b"NONSENSE"], b"500"),
        ([b"NOOP"], b"250"),
        ([b"HELO x"], b"250"),
    ],
)
def test_commands_get_the_code_they_deserve(port: int, lines: list[bytes], code: bytes) -> None:
    with RawClient(port) as client:
        client.line()
        assert [ask(client, line) for line in lines][-1][:3] == code


def test_the_ledger_is_written_before_the_answer(home: StandInHome, port: int) -> None:
    with RawClient(port) as client:
        client.line()
        for line in (b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<b@example.com>", b"DATA"):
            ask(client, line)
        assert ask(client, b"x\r\n.") == b"250 2.0.0 taken as 1\r\n"
        assert len(home.ledger) == 1
