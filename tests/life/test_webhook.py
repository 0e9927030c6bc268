"""Whoever is told of events by HTTP has been told of all of them, in order, whatever was killed or down meanwhile."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.life.gateway import PATIENCE_SECONDS, running
from tests.life.house import House, house, mail
from tests.life.test_metrics import ask, free_port
from tests.peers.hook_peer import HookPeer, Posted
from tests.peers.thread import PeerThread

SECRET = "a secret that nobody guesses"


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


def table(port: int, more: str = "") -> str:
    return f"""
[[webhook]]
name = "crm"
url = "http://127.0.0.1:{port}/hook"
secret = "{SECRET}"
timeout = "1s"
{more}
"""


def lag(opened: House) -> int | None:
    (found,) = opened.json("db", "status")[0]["webhooks"]
    lag: int | None = found["lag"]
    return lag


def told(peer: HookPeer) -> list[dict[str, Any]]:
    """What it took, each event where it was taken first."""
    return list({one.body["position"]: one.body for one in reversed(peer.taken)}.values())[::-1]


def signed(posted: Posted) -> bool:
    """As the README has it."""
    stamp, signature = (posted.headers[f"x-mailgate-{name}"] for name in ("timestamp", "signature"))
    made = hmac.new(SECRET.encode(), stamp.encode() + b"." + posted.octets, hashlib.sha256)
    return hmac.compare_digest(signature, f"sha256={made.hexdigest()}")


def test_every_event_is_told_across_kills_and_faults_and_a_receiver_that_was_down(opened: House) -> None:
    connections = 1 if opened.store_url.startswith("sqlite") else 4
    peer = HookPeer()
    thread = PeerThread(peer).open()
    opened.more = table(thread.port, f"connections = {connections}")
    try:
        for number in range(10):
            opened.provider.put("info", mail(number))
        for action in ("status", "drop", "reset", "garbage", "stall"):
            peer.fault("answer", action, code=500, after=5)
        with running(opened) as gateway:
            gateway.says("ERROR webhook crm: ")
            peer.wait_until(lambda: len(peer.taken) >= 15)
            gateway.kill()
        thread.go_away()
        for number in range(10, 20):
            opened.provider.put("info", mail(number))
        with running(opened) as gateway:
            gateway.says("ERROR webhook crm: can't connect")
            opened.home.wait_until(lambda: len(opened.arrived()) == 20)  # mail goes on
            gateway.kill()
        thread.come_back()
        with running(opened) as gateway:
            known = len(opened.json("events", "--limit", "0"))
            peer.wait_until(lambda: len(told(peer)) >= known)
            assert gateway.stop() == 0
        opened.run("run", "--once")  # what the last one had to say while it ended
    finally:
        thread.close()
    events = opened.json("events", "--limit", "0")
    assert sorted(told(peer), key=lambda event: event["position"]) == events
    if connections == 1:
        assert told(peer) == events
    for stream in {event["stream"] for event in events}:
        revisions = [event["revision"] for event in told(peer) if event["stream"] == stream]
        assert revisions == list(range(len(revisions)))
    assert all(signed(one) for one in peer.posted)
    assert {one.headers["x-mailgate-id"] for one in peer.taken} == {event["hash"] for event in events}


def test_a_single_round_tells_what_happened_in_it(opened: House) -> None:
    peer = HookPeer()
    with PeerThread(peer) as port:
        opened.more = table(port, 'events = ["delivered", "removed-from-source"]')
        opened.provider.put("info", mail(1))
        assert opened.run("run", "--once").returncode == 0
        assert [one.body["name"] for one in peer.taken] == ["delivered", "removed-from-source"]
        assert lag(opened) == 0
        assert opened.run("run", "--once").returncode == 0
    assert len(peer.posted) == 2


def test_a_receiver_that_says_nothing_is_told_of_and_keeps_no_mail_back(opened: House) -> None:
    peer = HookPeer()
    port = free_port()
    peer.fault("answer", "stall", times=None)
    with PeerThread(peer) as hook_port:
        opened.more = table(hook_port) + f'[metrics]\naddress = "127.0.0.1:{port}"\n'
        for number in range(5):
            opened.provider.put("info", mail(number))
        said = f"127.0.0.1:{hook_port} gave no answer within 1 s"
        with running(opened) as gateway:
            gateway.says(f"ERROR webhook crm: {said}")
            opened.home.wait_until(lambda: len(opened.arrived()) == 5)
            until(lambda: 'mailgate_webhook_up{webhook="crm"} 0.0' in ask(port, "/metrics")[1])
            assert 'mailgate_webhook_lag_events{webhook="crm"} 0.0' not in ask(port, "/metrics")[1]
            assert said in opened.run("db", "status").stdout
            peer.heal()
            gateway.says("WARNING webhook crm: events are taken again")
            until(lambda: 'mailgate_webhook_up{webhook="crm"} 1.0' in ask(port, "/metrics")[1])
            assert gateway.stop() == 0
        assert gateway.log.count("webhook crm") == 2
        assert opened.run("run", "--once").returncode == 0
    assert lag(opened) == 0


def until(true: Callable[[], bool]) -> None:
    """Ask again and again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
