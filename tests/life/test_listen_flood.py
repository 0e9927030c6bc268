"""Many clients at once: their memory is bounded, and strangers never keep out who may relay."""

from __future__ import annotations

import resource
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.engine.rig import without_trace
from tests.life.house import House, house
from tests.life.submitting import letter, listens, sent, submit, submitting
from tests.peers.raw import ANSWER_SECONDS, RawClient

MB = 1_000_000
CLIENTS = 100
LETTER_OCTETS = 5 * MB
LIMIT_OCTETS = 600 * MB
FLOOD = 500
SECONDS = 240  # only a hang takes so long


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


@pytest.fixture
def lite(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        yield opened


def test_a_hundred_large_messages_at_once_stay_within_the_memory(opened: House) -> None:
    listens(opened)
    expected = Counter[str]()
    replies: list[str] = []
    with submitting(opened) as (gateway, port):

        def hand_over(number: int) -> None:
            octets = letter(number, LETTER_OCTETS)
            expected[sha256(octets).hexdigest()] += 1
            replies.append(submit(port, octets))

        clients = [threading.Thread(target=hand_over, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(SECONDS)
        peak = gateway.peak_octets()
        assert [reply[:4] for reply in replies] == ["250 "] * CLIENTS
        opened.home.wait_until(lambda: len(opened.home.ledger) == CLIENTS, SECONDS)
        peak = max(peak, gateway.peak_octets())
        assert gateway.stop() == 0
    arrived = (sha256(without_trace(taken.octets)).hexdigest() for taken in opened.home.ledger)
    assert Counter(arrived) == expected
    assert peak < LIMIT_OCTETS


def test_a_flood_of_strangers_leaves_their_places_to_who_may_relay(lite: House) -> None:
    listens(lite, allow=["127.0.0.1/32"])
    with submitting(lite) as (gateway, port), open_files(2 * FLOOD), ExitStack() as stack:
        strangers = [stack.enter_context(connected(f"127.0.0.{2 + n % 50}", port)) for n in range(FLOOD)]
        greetings = Counter(stranger.recv(3) for stranger in strangers)
        assert greetings == Counter({b"220": 50, b"421": FLOOD - 50})
        for number in range(10):
            assert submit(port, letter(number)).startswith("250 ")
        lite.home.wait_until(lambda: len(lite.home.ledger) == 10)
        assert gateway.stop() == 0
    assert sent(lite) == Counter(letter(number) for number in range(10))


def test_where_all_places_are_taken_the_silent_make_room(lite: House) -> None:
    listens(lite, connections=5)
    with submitting(lite) as (gateway, port), ExitStack() as stack:
        silent = [stack.enter_context(RawClient(port)) for _ in range(5)]
        for client in silent:
            assert client.reply().startswith(b"220 ")
        gateway_has_room(port)
        assert told_to_go(silent) == 1
        assert gateway.stop() == 0


def gateway_has_room(port: int) -> None:
    """Come again until somebody has been silent for long enough."""
    for _ in range(1_000):
        with RawClient(port) as client:
            if client.reply().startswith(b"220 "):
                return
            threading.Event().wait(0.01)
    pytest.fail("nobody made room")


def told_to_go(clients: list[RawClient]) -> int:
    """How many were told that others need their place."""
    sockets, _, _ = select.select([client.socket for client in clients], [], [], ANSWER_SECONDS)
    return sum(socket.recv(9) == b"421 4.7.0" for socket in sockets)


@contextmanager
def connected(source: str, port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS, source_address=(source, 0)) as client:
        yield client


@contextmanager
def open_files(more: int) -> Iterator[None]:
    """Let this process have so many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, more), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
