"""The stand-in mailbox is a POP3 server that a POP3 client finds nothing wrong with."""

import asyncio
import poplib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.stand_in_mailbox import StandInMailbox, top_of
from cli.stand_ins import stuffed
from tests.peers.raw import RawClient
from tests.peers.thread import PeerThread

ONE = b"Subject: one\r\n\r\n.\r\n..two\r\n"
TWO = b"Subject: two\r\n\r\nline 1\r\nline 2\r\n"


@pytest.fixture
def mailbox() -> StandInMailbox:
    return StandInMailbox(username="demo", password="secret", messages={"first": ONE, "second": TWO})


@pytest.fixture
def port(mailbox: StandInMailbox) -> Iterator[int]:
    with PeerThread(mailbox) as port:
        yield port


def log_in(port: int) -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("demo")
    client.pass_("secret")
    return client


def test_poplib_reads_everything(port: int) -> None:
    client = log_in(port)
    assert client.capa().keys() >= {"USER", "UIDL", "TOP", "PIPELINING", "RESP-CODES"}
    assert client.stat() == (2, len(ONE) + len(TWO))
    assert client.list()[1] == [b"1 %d" % len(ONE), b"2 %d" % len(TWO)]
    assert client.uidl()[1] == [b"1 first", b"2 second"]
    assert client.uidl(1) == b"+OK 1 first"
    assert client.retr(1)[1] == [b"Subject: one", b"", b".", b"..two"]
    assert client.top(2, 1)[1] == [b"Subject: two", b"", b"line 1"]
    client.noop()
    client.quit()


def test_list_of_one_message_is_one_line(port: int) -> None:
    with RawClient(port) as client:
        client.say(b"USER demo\r\nPASS secret\r\nLIST 2\r\nQUIT\r\n")
        assert client.rest().splitlines()[3] == b"+OK 2 %d" % len(TWO)


def test_deletions_take_effect_at_quit(mailbox: StandInMailbox, port: int) -> None:
    client = log_in(port)
    client.dele(1)
    assert client.stat() == (1, len(TWO))
    client.rset()
    client.dele(2)
    assert list(mailbox.uidls) == ["first", "second"]
    client.quit()
    assert list(mailbox.uidls) == ["first"]


async def test_a_broken_session_deletes_nothing_and_frees_the_mailbox(mailbox: StandInMailbox) -> None:
    port = await mailbox.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"USER demo\r\nPASS secret\r\nDELE 1\r\n")
    for _ in range(4):
        assert (await reader.readline()).startswith(b"+OK")
    writer.close()
    await writer.wait_closed()
    await mailbox.stop()
    assert mailbox.uidls == ("first", "second")
    port = await mailbox.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"USER demo\r\nPASS secret\r\nQUIT\r\n")
    assert (await reader.read()).count(b"+OK") == 4
    writer.close()
    await writer.wait_closed()
    await mailbox.stop()


def test_the_mailbox_is_locked_while_a_session_has_it(port: int) -> None:
    first = log_in(port)
    second = poplib.POP3("127.0.0.1", port, timeout=30)
    second.user("demo")
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        second.pass_("secret")
    first.quit()
    second.pass_("secret")
    second.quit()


@pytest.mark.parametrize(("username", "password"), [("demo", "wrong"), ("other", "secret"), ("", "")])
def test_nobody_else_gets_in(port: int, username: str, password: str) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user(username)
    with pytest.raises(poplib.error_proto, match="AUTH"):
        client.pass_(password)
    client.quit()


@pytest.mark.parametrize(
    "command", ["RETR 3", "RETR 0", "RETR \xb2", "TOP 1", "TOP 1 x", "DELE x", "USER demo"]
)
def test_what_makes_no_sense_is_refused_and_the_session_goes_on(port: int, command: str) -> None:
    with RawClient(port) as client:
        client.line()
        client.ask(b"USER demo")
        client.ask(b"PASS secret")
        assert client.ask(command.encode()).startswith(b"-ERR")
        assert client.ask(b"NOOP") == b"+OK\r\n"


def test_pipelined_commands_are_answered_in_order(port: int) -> None:
    with RawClient(port) as client:
        client.say(b"USER demo\r\nPASS secret\r\nRETR 1\r\nDELE 1\r\nSTAT\r\nQUIT\r\n")
        said = client.rest().partition(b"\r\n")[2]
        assert said == (
            b"+OK\r\n+OK\r\n+OK %d octets\r\n" % len(ONE)
            + b"Subject: one\r\n\r\n..\r\n...two\r\n.\r\n"
            + b"+OK\r\n+OK 1 %d\r\n+OK bye\r\n" % len(TWO)
        )


def test_new_mail_is_seen_by_the_next_session(mailbox: StandInMailbox, port: int) -> None:
    client = log_in(port)
    mailbox.add("third", ONE)
    assert client.stat()[0] == 2
    client.quit()
    client = log_in(port)
    assert client.stat()[0] == 3
    client.quit()


@pytest.mark.parametrize("uidl", ["", "with space", "x" * 71, "ümlaut", "new\nline"])
def test_a_unique_id_that_pop3_cannot_carry_is_an_error(uidl: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        StandInMailbox(username="demo", password="secret", messages={uidl: ONE})


PIECES = st.lists(st.sampled_from([b"\r\n", b".", b"\n", b"\r", b"a"])).map(b"".join)


@given(content=PIECES)
def test_stuffed_octets_end_once_and_unstuff_to_what_they_were(content: bytes) -> None:
    content += b"\r\n"
    wire = b"\r\n" + stuffed(content)
    assert wire.index(b"\r\n.\r\n") + 5 == len(wire)
    assert wire[:-3].replace(b"\r\n.", b"\r\n")[2:] == content


def test_an_empty_message_is_only_a_dot_and_an_open_end_gets_crlf() -> None:
    assert stuffed(b"") == b".\r\n"
    assert stuffed(b".") == b"..\r\n.\r\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b"A: b\r\n\r\n"), (1, b"A: b\r\n\r\n1\r\n"), (2, b"A: b\r\n\r\n1\r\n2"), (9, b"A: b\r\n\r\n1\r\n2")],
)
def test_top_is_the_header_and_so_many_lines(lines: int, expected: bytes) -> None:
    assert top_of(b"A: b\r\n\r\n1\r\n2", lines) == expected


def test_top_of_a_message_without_a_body_is_all_of_it() -> None:
    assert top_of(b"A: b\r\n", 3) == b"A: b\r\n"
