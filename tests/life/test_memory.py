"""Memory stays bounded whatever comes: many large messages at once, data without end, thousands of small ones.

What counts is the most that the gateway's process ever had resident (VmHWM), read just before it is stopped.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from tests.life.gateway import running
from tests.life.house import House, add_mailbox, house, mail, original
from tests.peers.smtpd import HomePeer

MB = 1_000_000
LIMIT_OCTETS = 400 * MB  # with the default budget of 256 MiB for mail
LITTLE_OCTETS = 110 * MB  # where little mail is there at once; the process alone has some 60 MB
LARGE_OCTETS = 35 * MB
LARGE = 10
SMALL = 2_000
LISTINGS = 5
ENDLESS_OCTETS = 10**12
SECONDS = 120  # only a hang takes so long


def large(number: int) -> bytes:
    """A large message with dots to be stuffed, another for each number."""
    head = mail(number)
    line = b"." + b"%d " % number + b"y" * 70 + b"\r\n"
    return head + line * ((LARGE_OCTETS - len(head)) // len(line))


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url, home=HomePeer(size_octets=50 * MB)) as opened:
        opened.gateway = {"connections_per_host": 100}
        opened.make_store()
        yield opened


def test_ten_large_messages_at_once_stay_within_the_budget(opened: House) -> None:
    expected = Counter[str]()
    with ExitStack() as stack:
        for number in range(LARGE):
            peer = add_mailbox(stack, opened, f"box{number}", 0)
            peer.put(f"box{number}", large(number))
            expected[sha256(peer.mailboxes[f"box{number}"].messages[0].octets).hexdigest()] += 1
        with running(opened) as gateway:
            opened.home.wait_until(lambda: len(opened.home.ledger) == LARGE, SECONDS)
            peak = gateway.peak_octets()
            assert gateway.stop() == 0
    assert Counter(sha256(original(taken.octets)).hexdigest() for taken in opened.home.ledger) == expected
    assert opened.problems() == []
    assert peak < LIMIT_OCTETS


def test_thousands_of_small_messages_need_no_more_than_a_few(opened: House) -> None:
    for number in range(SMALL):
        opened.provider.put("info", mail(number))
    with running(opened) as gateway:
        opened.home.wait_until(lambda: len(opened.home.ledger) >= SMALL, SECONDS)
        peak = gateway.peak_octets()
        assert gateway.stop() == 0
    assert opened.arrived() == Counter(mail(number) for number in range(SMALL))
    assert peak < LITTLE_OCTETS


def test_data_without_end_is_cut_off(tmp_path: Path, sqlite_url: str) -> None:
    with house(tmp_path, sqlite_url, home=HomePeer(size_octets=50 * MB)) as opened, ExitStack() as stack:
        for name, stage, action in (
            ("message", "retr", "flood"),
            ("large-message", "retr", "flood"),
            ("header", "top", "flood"),
            ("listing", "list", "flood"),
            ("line", "list", "endless-line"),
            ("greeting", "greeting", "endless-line"),
        ):
            peer = add_mailbox(stack, opened, name, 1)
            peer.fault(stage, action, times=None, octets=ENDLESS_OCTETS)
            if name in ("large-message", "header"):
                peer.fault(
                    "list", "lie-size", times=None, octets=LARGE_OCTETS if name != "header" else 60 * MB
                )
        opened.provider.put("info", mail(0))
        with running(opened) as gateway:
            for name in opened.neighbours:
                gateway.says(f"mailbox {name}: ")
            opened.home.wait_until(lambda: opened.home.ledger)
            peak = gateway.peak_octets()
            assert gateway.stop() == 0
        assert opened.arrived() == Counter([mail(0)])
        assert opened.problems() == []
    assert peak < LIMIT_OCTETS


def test_listings_without_end_stay_within_the_budget(tmp_path: Path, sqlite_url: str) -> None:
    with house(tmp_path, sqlite_url) as opened, ExitStack() as stack:
        opened.gateway = {"connections_per_host": 100}
        for number in range(LISTINGS):
            peer = add_mailbox(stack, opened, f"box{number}", 1)
            peer.fault("uidl", "flood", times=None, octets=ENDLESS_OCTETS)
        opened.provider.put("info", mail(0))
        with running(opened) as gateway:
            for name in opened.neighbours:
                gateway.says(f"mailbox {name}: ")
            opened.home.wait_until(lambda: opened.home.ledger)
            peak = gateway.peak_octets()
            assert gateway.stop() == 0
        assert opened.arrived() == Counter([mail(0)])
    assert peak < LIMIT_OCTETS
