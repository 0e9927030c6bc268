"""A real Postfix hands all its mail to the gateway as its smart host, while the gateway is killed and started at random.

All arrives, and each duplicate is one that the log names: an attempt whose outcome nobody knows, or a message that
Postfix handed in twice because the gateway died before it could say 250.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from store import log
from store.database import open_store, reading
from tests.life.gateway import running
from tests.life.house import House, house
from tests.real.postfix import Postfix
from tests.real.process import free_ports

MESSAGES = 10_000
SESSIONS = 10
SECONDS = 300  # only a hang takes so long
MESSAGE_ID = re.compile(rb"^Message-Id: <([^>]+)>", re.MULTILINE | re.IGNORECASE)


@pytest.mark.real
def test_killed_at_random_the_smart_host_loses_nothing_and_names_each_duplicate(
    tmp_path: Path, database_url: str, start_postfix: Callable[..., Postfix], smtp_source: str
) -> None:
    (port,) = free_ports(1)
    chance = random.Random(4)
    with house(tmp_path, database_url) as opened:
        opened.next_hop = {"connections": 10}
        opened.more = (
            f'[listen]\naddress = "127.0.0.1:{port}"\n[[route]]\nrecipients = ["*"]\nnext_hop = "home"\n'
        )
        opened.make_store()
        postfix = start_postfix(relay_port=port)
        source = hand_in(smtp_source, postfix.port)
        kills, until = 0, time.monotonic() + SECONDS
        while len(arrived(opened)) < MESSAGES * 9 // 10:
            assert time.monotonic() < until, f"{len(arrived(opened))} arrived\n{postfix.log()}"
            with running(opened, clean=False) as gateway:
                time.sleep(chance.uniform(0.2, 4.0))
                gateway.kill()
                kills += 1
        with running(opened) as gateway:
            ledger = opened.home.ledger
            opened.home.wait_until(
                lambda: len(ledger) >= MESSAGES and len(arrived(opened)) == MESSAGES, SECONDS
            )
            assert source.wait(SECONDS) == 0
            wait_until_closed(opened)
            assert gateway.stop() == 0
        assert kills > 2
        check(opened)


def hand_in(program: str, port: int) -> subprocess.Popen[bytes]:
    """Let Postfix have so many messages, each with a Message-ID of its own."""
    size = ["-s", str(SESSIONS), "-m", str(MESSAGES), "-l", "2000"]
    envelope = ["-f", "desk@example.com", "-t", "anna@customer.example"]
    return subprocess.Popen([program, *size, *envelope, f"127.0.0.1:{port}"])


def arrived(opened: House) -> Counter[bytes]:
    """How often each message was taken by the far side, by its Message-ID."""
    found = (MESSAGE_ID.search(taken.octets) for taken in tuple(opened.home.ledger))
    return Counter(one[1] for one in found if one)


def wait_until_closed(opened: House) -> None:
    until = time.monotonic() + SECONDS
    while opened.json("list", "--state", "received", "--limit", "1"):
        assert time.monotonic() < until
        time.sleep(0.2)


def check(opened: House) -> None:
    """Each arrived; who arrived twice stands in the log as such."""
    engine = open_store(opened.store_url)
    submissions, unknown = Counter[bytes](), set[bytes]()
    with reading(engine) as connection:
        for stream, _ in log.streams(connection):
            message = log.message(connection, stream)
            assert message is not None
            name = (message.message_id or "").strip("<>").encode()
            submissions[name] += 1
            if any(recipient.unknown_attempts for recipient in message.recipients):
                unknown.add(name)
    engine.dispose()
    for name, times in arrived(opened).items():
        assert times <= submissions[name] or name in unknown, name
    assert opened.problems() == []
