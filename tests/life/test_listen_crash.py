"""Between DATA and 250: whatever dies there, a message was answered with 250 and arrives, or the client still has it."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.life.gateway import Gateway, check_log
from tests.life.house import House, house
from tests.life.submitting import (
    FOREIGN,
    SENDER,
    ask,
    letter,
    listens,
    port_of,
    sent,
    submit,
    submitting,
    transaction,
)
from tests.peers.raw import RawClient
from tests.processes import children, command
from tests.real.postgres import Postgres
from tests.real.process import wait_until

MESSAGES = 5
# Between the end of data and our answer, and beyond: (seam, the how-manieth time).
SEAMS = (
    ("data-read", 3),
    ("before-commit submitted", 3),
    ("after-commit submitted", 3),
    ("before-250", 3),
    ("before-commit relayed", 1),
    ("after-commit relayed", 2),
    ("answered", 2),
)


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.next_hop = {"connections": 1}
        opened.make_store()
        listens(opened)
        yield opened


@pytest.mark.parametrize(("seam", "count"), SEAMS)
def test_killed_at_a_seam_what_was_answered_with_250_arrives(opened: House, seam: str, count: int) -> None:
    gateway = Gateway(opened.start("run", seam=seam, count=count))
    answered = submitted_until_it_dies(port_of(gateway))
    assert gateway.ended() == -signal.SIGKILL, gateway.log
    for stream in (gateway.process.stdout, gateway.process.stderr):
        assert stream is not None
        stream.close()

    for _ in range(6):
        if opened.run("run", "--once").returncode == 0:
            break

    arrived = sent(opened)
    assert {letter(n) for n in answered} <= set(arrived) <= {letter(n) for n in range(MESSAGES)}
    for octets, times in arrived.items():
        assert times == 1 or named_as_possible_duplicate(opened, octets)
    assert opened.json("list", "--state", "received") == []
    assert opened.problems() == []


def submitted_until_it_dies(port: int) -> list[int]:
    """Submit as long as there is somebody; returns which got 250."""
    answered: list[int] = []
    for number in range(MESSAGES):
        try:
            if submit(port, letter(number)).startswith("250 "):
                answered.append(number)
        except (OSError, AssertionError):
            break
    return answered


@pytest.mark.parametrize("seam", ["data-read", "before-250"])
def test_where_the_process_that_listens_dies_alone_the_gateway_goes_on(opened: House, seam: str) -> None:
    gateway = Gateway(opened.start("run", seam=f"{seam} alone", count=3))
    port = port_of(gateway)
    tries = {number: tries_until_taken(port, number) for number in range(MESSAGES)}
    assert sum(tries.values()) == MESSAGES + 2  # the first process died, and the one after it
    gateway.says("the process that listens is gone (SIGKILL): it is started again", 2)
    opened.home.wait_until(lambda: set(sent(opened)) == {letter(n) for n in range(MESSAGES)})
    assert gateway.stop() == 0
    for stream in (gateway.process.stdout, gateway.process.stderr):
        assert stream is not None
        stream.close()
    check_log(gateway.log)
    assert opened.run("run", "--once").returncode == 0
    # What was handed over whole is kept, whether or not the client heard of it.
    kept = tries if seam == "before-250" else dict.fromkeys(tries, 1)
    assert sent(opened) == Counter({letter(number): times for number, times in kept.items()})
    assert opened.problems() == []


def tries_until_taken(port: int, number: int) -> int:
    """Submit a message again and again, as a client does whose connection breaks."""
    for tries in range(1, 10):
        try:
            if submit(port, letter(number)).startswith("250 "):
                return tries
        except (OSError, AssertionError):
            pass
    return pytest.fail("it was never taken")


def test_with_the_gateway_gone_clients_are_sent_away_and_nobody_is_left(opened: House) -> None:
    gateway = Gateway(opened.start("run", seam="before-commit submitted", count=1))
    port = port_of(gateway)
    (porter,) = children(gateway.process.pid)
    with RawClient(port) as waiting, RawClient(port) as quiet:
        for client in (waiting, quiet):
            assert client.reply().startswith(b"220 ")
            ask(client, b"EHLO a.example")
        assert transaction(waiting, letter(1)).startswith(b"451 4.3.0 ")
        for client in (waiting, quiet):
            assert client.reply().startswith(b"421 4.3.2 ")
    assert gateway.ended() == -signal.SIGKILL
    for stream in (gateway.process.stdout, gateway.process.stderr):
        assert stream is not None
        stream.close()
    wait_until(lambda: not command(porter), "the process that listens to end")
    assert opened.run("run", "--once").returncode == 0
    assert sent(opened) == Counter()


def named_as_possible_duplicate(opened: House, octets: bytes) -> bool:
    subject = octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
    (message,) = opened.json("list", "--subject", subject)
    return message["id"] in opened.unknown_ids()


def test_with_the_database_gone_nothing_is_answered_with_250_nor_doubled(
    tmp_path: Path, start_postgres: Callable[..., Postgres]
) -> None:
    server = start_postgres(fsync=True)
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        listens(opened)
        with submitting(opened) as (gateway, port), RawClient(port) as client:
            assert transaction(client, letter(0), hello=True).startswith(b"250 ")
            opened.home.wait_until(lambda: opened.home.ledger)
            ask(client, b"MAIL FROM:<%s>" % SENDER.encode())
            ask(client, b"RCPT TO:<%s>" % FOREIGN.encode())
            ask(client, b"DATA")
            server.kill()
            client.say(letter(1).replace(b"\r\n.", b"\r\n..") + b".\r\n")
            assert client.reply().startswith(b"451 4.3.0 ")
            server.restart()
            gateway_takes_again(client)
            opened.home.wait_until(lambda: len(opened.home.ledger) == 2)
            assert gateway.stop() == 0
        assert sent(opened) == Counter([letter(0), letter(1)])
        assert opened.problems() == []


def gateway_takes_again(client: RawClient) -> None:
    """The same session goes on; the client comes again until it is taken."""
    for _ in range(100):
        if transaction(client, letter(1)).startswith(b"250 "):
            return
    pytest.fail("it never took the message")


def test_a_client_that_hangs_up_without_its_answer_leaves_nothing_behind(opened: House) -> None:
    with submitting(opened) as (gateway, port):
        clients = [threading.Thread(target=hang_up, args=(port, number)) for number in range(10)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        submit(port, letter(99))
        opened.home.wait_until(lambda: letter(99) in sent(opened))
        assert gateway.stop() == 0
    assert opened.run("run", "--once").returncode == 0
    arrived = sent(opened)
    assert max(arrived.values()) == 1
    assert set(arrived) <= {letter(n) for n in (*range(10), 99)}
    assert opened.problems() == []


def hang_up(port: int, number: int) -> None:
    """Be gone at the end of data, half of the clients a little before it."""
    with RawClient(port) as client:
        client.reply()
        ask(client, b"EHLO a.example")
        ask(client, b"MAIL FROM:<%s>" % SENDER.encode())
        ask(client, b"RCPT TO:<%s>" % FOREIGN.encode())
        ask(client, b"DATA")
        client.say(letter(number).replace(b"\r\n.", b"\r\n..") + (b".\r\n" if number % 2 else b""))
