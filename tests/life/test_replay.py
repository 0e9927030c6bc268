"""Delivered again: by one command, through the same door as the first time, to exactly those who are meant."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.life.gateway import running
from tests.life.house import House, house, mail
from tests.real.process import wait_until

MANY = 300


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened
        assert opened.problems() == []


def put(opened: House, *numbers: int) -> None:
    for number in numbers:
        opened.provider.put("info", mail(number), uidl=f"uidl-{number}")


def test_what_the_home_server_refused_is_delivered_with_one_command(opened: House) -> None:
    opened.home.fault("rcpt", "reply", code=550, text="5.1.1 no such user", times=3)
    put(opened, 1, 2, 3)
    assert opened.run("run", "--once").returncode == 0
    assert opened.arrived() == Counter()
    done = opened.run(
        "replay", "--subject", "number", "--state", "failed", "--yes", "--reason", "user is back"
    )
    assert done.returncode == 0, done.stderr
    assert "3 messages are to be delivered again:\n  3 through home\n" in done.stdout
    assert opened.run("run", "--once").returncode == 0
    assert opened.arrived() == Counter([mail(1), mail(2), mail(3)])
    again = opened.run("replay", "--subject", "number", "--direction", "inbound", "--yes")
    assert again.returncode == 1
    assert "left out: 3 recipients that have it already" in again.stdout


def test_a_delivered_one_goes_to_somebody_else_beside_a_running_gateway(opened: House) -> None:
    put(opened, 1)
    with running(opened) as gateway:
        opened.home.wait_until(lambda: mail(1) in opened.arrived())
        wait_until(lambda: opened.json("list", "--state", "delivered") != [], "its delivery to be on record")
        (row,) = opened.json("list", "--state", "delivered")
        done = opened.run("replay", row["id"], "--recipients", "audit@example.com")
        assert done.returncode == 0, done.stderr
        opened.home.wait_until(lambda: opened.arrived()[mail(1)] == 2)
        assert gateway.stop() == 0
    assert [taken.recipients for taken in opened.home.ledger] == [
        ("info@example.com",),
        ("audit@example.com",),
    ]
    (row,) = opened.json("list", "--to", "audit@example.com")
    assert [(r["address"], r["state"]) for r in row["recipients"]] == [
        ("info@example.com", "delivered"),
        ("audit@example.com", "delivered"),
    ]


def test_what_was_too_large_comes_after_the_limit_was_raised(opened: House) -> None:
    opened.next_hop = {"max_size": "1kB"}
    opened.provider.put("info", large := mail(1, 4_000), uidl="uidl-1")
    opened.run("run", "--once")
    (row,) = opened.json("list", "--state", "rejected-oversize")
    opened.next_hop = {"max_size": "1MB"}
    opened.run("run", "--once")
    assert opened.arrived() == Counter()  # nobody asked for it
    assert opened.run("replay", row["id"]).returncode == 0
    assert opened.run("run", "--once").returncode == 0
    assert opened.arrived() == Counter([large])
    (now,) = opened.json("list", "--direction", "inbound", "--state", "delivered")
    assert (now["uidl"], now["message_id"]) == (row["uidl"], row["message_id"])
    again = opened.run("replay", "--state", "rejected-oversize", "--yes", "--id", "another")
    assert again.returncode == 1
    assert f"nothing to do for {row['id']}: it came as message {now['id']} (delivered)" in again.stdout
    for command in ("explain", "show"):
        told = " ".join(opened.run(command, row["id"]).stdout.split())
        assert f"it was fetched later, as message {now['id']}, and mailbox info no longer holds it." in told
        assert f"mailgate replay {row['id']}" not in told
    before = " ".join(opened.run("show", row["id"], "--at", row["opened_at"]).stdout.split())
    assert "would come next: Nothing more: it is too large." in before


def test_what_is_too_large_still_is_asked_for_once_by_the_same_id(opened: House) -> None:
    opened.next_hop = {"max_size": "1kB"}
    opened.provider.put("info", mail(1, 4_000), uidl="uidl-1")
    opened.run("run", "--once")
    command = ("replay", "--state", "rejected-oversize", "--id", "big", "--yes")
    for _ in range(3):
        assert opened.run(*command).returncode == 0
        opened.run("run", "--once")
    assert len(opened.json("list", "--state", "rejected-oversize")) == 2  # it came in, and was asked for once
    again = opened.run(*command)
    assert again.returncode == 0
    assert "it is what came of replay big, which asked for" in again.stdout


def test_nobody_is_told_twice_of_what_is_asked_for_again_and_too_large_still(opened: House) -> None:
    opened.next_hop = {"max_size": "1kB"}
    opened.provider.put("info", mail(1, 4_000), uidl="uidl-1")
    opened.run("run", "--once")
    command = ("replay", "--state", "rejected-oversize", "--yes")
    for number in range(2):
        done = opened.run(*command, "--id", f"try-{number}")
        assert done.returncode == 0
        assert f"replay try-{number}: 1 to be delivered again" in done.stdout
        opened.run("run", "--once")
    last, _, first = opened.json("list", "--state", "rejected-oversize")
    assert len(opened.notices()) == 1
    plan = opened.run(*command, "--dry-run").stdout
    assert "1 of 3 messages are to be delivered again" in plan
    assert f"{first['id']}: it was found too large again, as message {last['id']}: replay that one" in plan


def test_interrupted_and_given_again_everything_is_delivered_once(opened: House) -> None:
    opened.home.fault("rcpt", "reply", code=550, text="5.1.1 no such user", times=MANY)
    put(opened, *range(MANY))
    assert opened.run("run", "--once").returncode == 0
    command = ("replay", "--state", "failed", "--direction", "inbound", "--yes", "--id", "again")
    process = opened.start(*command, "--rate", "50/s")
    time.sleep(2.5)  # in the middle of it, or so: whatever it came to, the rest follows
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = opened.run("replay", "--direction", "inbound", "--yes", "--id", "again")
    assert done.returncode == 0, done.stderr
    assert opened.run("run", "--once").returncode == 0
    assert opened.arrived() == Counter(mail(n) for n in range(MANY))


def test_directly_it_goes_to_each_domain_and_nothing_of_our_own(opened: House) -> None:
    """A next hop "mx" stands for one of each domain: a message that asks for it must not end the gateway."""
    opened.more = '\n[[route]]\nsenders = ["*@example.com"]\nnext_hop = "mx"\n'
    put(opened, 1)
    assert opened.run("run", "--once").returncode == 0
    (row,) = opened.json("list")
    to_own = opened.run("replay", row["id"], "--to", "mx", "--force", "--yes")
    assert "1 has no route and would be held" in to_own.stdout
    assert opened.run("run", "--once").returncode == 1
    (held,) = opened.json("list")
    assert held["state"] == "held"
    away = opened.run(
        "replay", row["id"], "--to", "mx", "--recipients", "anna@nowhere.invalid", "--force", "--dry-run"
    )
    assert "1 through mx:nowhere.invalid" in away.stdout
    assert not opened.problems()
