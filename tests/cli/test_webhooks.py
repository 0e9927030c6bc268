"""Webhooks as an administrator meets them: what the configuration means, whether it works, how far they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from engine.core import webhook
from tests.cli.installation import ROOT, Installation, installed
from tests.life.test_webhook import SECRET, signed
from tests.peers.hook_peer import HookPeer
from tests.peers.thread import PeerThread


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


@pytest.fixture
def peer(house: Installation) -> Iterator[HookPeer]:
    peer = HookPeer()
    with PeerThread(peer) as port:
        house.configure(more=table(port))
        yield peer


def table(port: int, name: str = "crm") -> str:
    return f'[[webhook]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}/hook/token?t=token"\nsecret = "{SECRET}"\n'


def test_check_says_what_it_means_and_connect_sends_a_test_event(house: Installation, peer: HookPeer) -> None:
    said = house.mailgate("check")
    assert "crm: every event to http://127.0.0.1:" in said
    assert "token" not in said
    assert "token" not in house.mailgate("check", "--json")
    assert SECRET not in said
    assert peer.posted == []
    rows = {row["kind"]: row for row in house.rows("check", "--connect")}
    assert (
        rows["webhook"]["connect"] | {"ok": True, "status": 200, "text": "thanks"}
        == rows["webhook"]["connect"]
    )
    (posted,) = peer.posted
    assert posted.body["name"] == posted.headers["x-mailgate-event"] == "ping"
    assert posted.body["hash"] == posted.headers["x-mailgate-id"]
    assert signed(posted)


def test_the_script_of_the_readme_knows_what_is_genuine(house: Installation, peer: HookPeer) -> None:
    (script,) = re.findall(r"```python\n(import hashlib.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(script, names)
    house.mailgate("check", "--connect")
    (posted,) = peer.posted
    headers = Message()
    for name, value in posted.headers.items():
        headers[name] = value
    assert names["genuine"](SECRET, headers, posted.octets)
    assert not names["genuine"]("another secret", headers, posted.octets)
    assert not names["genuine"](SECRET, headers, posted.octets + b" ")
    later = str(int(headers["X-Mailgate-Timestamp"]) + 1)
    headers.replace_header("X-Mailgate-Timestamp", later)
    assert not names["genuine"](SECRET, headers, posted.octets)
    headers.replace_header("X-Mailgate-Timestamp", "1000000000")
    made = webhook.signature(SECRET, "1000000000", posted.octets)
    headers.replace_header("X-Mailgate-Signature", f"sha256={made}")
    assert not names["genuine"](SECRET, headers, posted.octets)  # true once, and old


def test_a_receiver_that_does_not_take_it_has_failed(house: Installation, peer: HookPeer) -> None:
    peer.fault("answer", "status", code=404, text="no such hook", times=None)
    said = " ".join(house.mailgate("check", "--connect", code=1).split())
    assert "failed: webhook crm" in said
    assert "was answered with 404 Not Found within" in said
    assert "no such hook" in said
    assert "only a status from 200 to 299" in said


def test_nobody_there_is_one_line(house: Installation) -> None:
    with PeerThread(HookPeer()) as port:
        pass
    house.configure(more=table(port))
    said = " ".join(house.mailgate("check", "--connect", code=1).split())
    assert f"FAILED: can't connect to 127.0.0.1:{port}: connection refused" in said
    assert "no proxy is used" in said


def test_status_says_how_far_each_is(house: Installation, peer: HookPeer) -> None:
    house.make_store()
    assert "crm: begins with the next start of the gateway" in house.mailgate("db", "status")
    house.put(1)
    house.mailgate("run", "--once")
    assert "crm: told of everything" in house.mailgate("db", "status")
    peer.fault("answer", "status", code=500, times=None)
    house.put(1)
    house.mailgate("run", "--once")  # whether it is told or not, the mail is delivered
    said = house.mailgate("db", "status")
    assert "events behind; 1 failure since " in said
    assert "answered 500 Internal Server Error; next try " in said
    (found,) = house.rows("db", "status")[0]["webhooks"]
    assert (found["name"], found["configured"], found["failures"]) == ("crm", True, 1)
    assert found["position"] + found["lag"] == len(house.rows("events", "--limit", "0"))
    house.mailgate("db", "rebuild")
    assert house.rows("db", "status")[0]["webhooks"] == [found]
    house.configure()
    assert "events behind, and not in the configuration any more" in house.mailgate("db", "status")


def test_one_with_a_new_name_is_told_what_happens_from_then_on(house: Installation, peer: HookPeer) -> None:
    house.put(1)
    house.mailgate("run", "--once")
    told = len(peer.taken)
    port = int(peer.taken[0].headers["host"].rpartition(":")[2])
    house.configure(more=table(port, "erp"))
    house.mailgate("run", "--once")
    assert len(peer.taken) == told
    house.put(1)
    house.mailgate("run", "--once")
    assert {one.headers["x-mailgate-webhook"] for one in peer.taken[told:]} == {"erp"}
    assert {one.body["revision"] for one in peer.taken[told:] if one.body["name"] == "downloaded"} == {0}


def test_what_was_erased_is_told_without_it(house: Installation, peer: HookPeer) -> None:
    peer.fault("answer", "status", code=500, times=1)
    house.put(1)
    house.mailgate("run", "--once")
    assert peer.taken == []
    (message,) = house.rows("list")
    house.mailgate("audit", "erase", message["id"], "--reason", "asked for it", "--yes")
    house.mailgate("run", "--once")
    opened = next(one for one in peer.taken if one.body["name"] == "downloaded")
    assert opened.body["personal"] is None
    assert peer.posted[0].body["personal"] is not None
    assert opened.headers["x-mailgate-id"] == peer.posted[0].headers["x-mailgate-id"]
    assert peer.taken[-1].body["name"] == "erased"
