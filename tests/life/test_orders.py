"""A person holds, releases, discards and fails messages while a gateway runs, and without one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import times
from tests.life.gateway import running
from tests.life.house import House, house, mail

MANY = 24  # more than a gateway has attempts ahead of


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


def put(opened: House, *numbers: int) -> None:
    for number in numbers:
        opened.provider.put("info", mail(number), uidl=f"uidl-{number}")


def row(opened: House, number: int) -> dict[str, Any]:
    """A message as it is listed."""
    (found,) = opened.json("list", "--message-id", f"{number}@elsewhere.example")
    return found


def give(opened: House, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = opened.run(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_held_it_is_not_delivered_while_a_gateway_runs_and_goes_on_after_release(opened: House) -> None:
    opened.home.fault("dot", "reply", code=451, text="4.3.0 later", times=None)
    opened.retry = {"first": "3s", "cap": "3s"}
    put(opened, 1)
    with running(opened) as gateway:
        opened.home.wait_until(lambda: opened.home.said("."))
        held = row(opened, 1)["id"]
        give(opened, "hold", held, "--reason", "a second look")
        assert row(opened, 1)["state"] == "held"
        opened.home.heal()
        # Deferred after the first was, twice, and tried again: the time of the first has come and gone.
        opened.home.fault("dot", "reply", code=451, text="4.3.0 later", times=2)
        put(opened, 2)
        give(opened, "mailbox", "poll", "info")
        opened.home.wait_until(lambda: mail(2) in opened.arrived())
        assert opened.arrived()[mail(1)] == 0
        give(opened, "release", held)
        opened.home.wait_until(lambda: mail(1) in opened.arrived())
        assert gateway.stop() == 0
    happened = [event["name"] for event in opened.json("show", held)[0]["events"]]
    assert happened[-4:] == ["held", "released", "attempted", "delivered"]
    assert opened.problems() == []


def test_what_waits_in_a_gateways_hands_can_be_held_discarded_and_failed(opened: House) -> None:
    opened.next_hop = {"connections": 1}
    stalled = opened.home.fault("mail", "stall")
    put(opened, *range(MANY))
    with running(opened) as gateway:
        opened.home.wait_until(lambda: stalled.fired)
        _until_all_are_here(opened)
        waiting = [one["id"] for one in opened.json("list", "--state", "received", "--limit", "0")]
        held, discarded, failed = waiting[:3]  # the newest: last in line
        give(opened, "hold", held)
        give(opened, "discard", discarded)
        give(opened, "fail", failed)
        stalled.release()
        opened.home.wait_until(lambda: sum(opened.arrived().values()) == MANY - 3)
        opened.home.wait_until(lambda: len(opened.notices()) == 1)  # of the one that failed
        assert gateway.stop() == 0
    states = {one["id"]: one["state"] for one in opened.json("list", "--direction", "inbound")}
    assert [states.pop(one) for one in (held, discarded, failed)] == ["held", "discarded", "failed"]
    assert set(states.values()) == {"delivered"}
    assert opened.problems() == []
    with running(opened) as gateway:
        give(opened, "release", held)
        opened.home.wait_until(lambda: sum(opened.arrived().values()) == MANY - 2)
        assert gateway.stop() == 0
    assert opened.problems() == []


def _until_all_are_here(opened: House) -> None:
    while len(opened.json("list", "--limit", "0")) < MANY:
        pass


def test_what_is_handed_over_is_waited_for_and_then_has_its_fate(opened: House) -> None:
    late = opened.home.fault("dot", "late")
    put(opened, 1)
    with running(opened) as gateway:
        opened.home.wait_until(lambda: opened.home.ledger)
        stream = row(opened, 1)["id"]
        with opened.start("discard", stream) as asked:
            assert asked.stderr is not None
            assert asked.stderr.readline() == "a message is being handed over: waiting for the answer\n"
            late.release()
            _, said = asked.communicate(timeout=60)
        assert asked.returncode == 1
        assert said == f"mailgate: {stream} can't be discarded: it is delivered\n"
        assert gateway.stop() == 0
    assert opened.arrived()[mail(1)] == 1
    assert opened.problems() == []


def test_what_is_deferred_in_the_end_is_held(opened: House) -> None:
    stalled = opened.home.fault("data", "stall")
    opened.home.fault("dot", "reply", code=451, text="4.3.0 later")
    put(opened, 1)
    with running(opened) as gateway:
        opened.home.wait_until(lambda: stalled.fired)
        stream = row(opened, 1)["id"]
        with opened.start("hold", stream) as asked:
            assert asked.stderr is not None
            assert "waiting" in asked.stderr.readline()
            stalled.release()
            out, _ = asked.communicate(timeout=60)
        assert (asked.returncode, out) == (0, f"{stream}: held until it is released\n")
        assert gateway.stop() == 0
    assert row(opened, 1)["state"] == "held"
    assert not opened.home.ledger
    assert opened.problems() == []


def test_without_a_gateway_all_of_it_works_too(opened: House) -> None:
    opened.home.fault("dot", "reply", code=451, text="4.3.0 later", times=4)
    opened.retry = {"first": "1h"}
    put(opened, 1, 2, 3, 4)
    opened.run("run", "--once")
    held, discarded, failed, released = (row(opened, number)["id"] for number in (1, 2, 3, 4))
    give(opened, "hold", held, released)
    give(opened, "discard", discarded, "--reason", "nobody wants it")
    give(opened, "fail", failed)
    give(opened, "release", released)
    opened.run("run", "--once")
    states = [row(opened, number)["state"] for number in (1, 2, 3, 4)]
    assert states == ["held", "discarded", "failed", "delivered"]
    left = {message.uidl for message in opened.provider.mailboxes["info"].messages}
    assert left == {"uidl-1", "uidl-3"}  # what was discarded may go from the mailbox, what failed stays
    assert len(opened.notices()) == 1
    assert opened.problems() == []


def test_what_a_rule_holds_waits_for_a_person_and_is_not_held_again(opened: House) -> None:
    opened.more = '[[hold]]\nsenders = ["sender1@*"]\n'
    put(opened, 1, 2)
    give(opened, "run", "--once", code=1)
    assert (row(opened, 1)["state"], row(opened, 2)["state"]) == ("held", "delivered")
    held = row(opened, 1)["id"]
    checked = " ".join(give(opened, "check").stdout.split())
    assert "hold 1: from sender1@*, until a person lets it go on" in checked
    (waits,) = opened.json("queue")
    assert [(one["why"], one["rule"], one["operator"]) for one in waits["holds"]] == [
        ("operator", "hold 1", None)
    ]
    assert "[[hold]]" in give(opened, "explain", held).stdout
    assert "held by the configuration: hold 1" in " ".join(give(opened, "show", held).stdout.split())
    (opened.folder / "letter.eml").write_bytes(mail(1))
    assert "held: by hold 1, for info@example.com" in give(opened, "route", "letter.eml", code=1).stdout
    refused = give(opened, "replay", held, code=1).stdout
    assert "'mailgate release' lets it go on" in " ".join(refused.split())
    give(opened, "release", held)
    give(opened, "run", "--once")
    assert row(opened, 1)["state"] == "delivered"
    assert opened.arrived() == {mail(1): 1, mail(2): 1}
    assert opened.problems() == []


def test_what_a_rule_holds_for_a_time_goes_on_at_that_time(opened: House) -> None:
    until = times.now() + timedelta(seconds=8)
    opened.more = f'[[hold]]\nnext_hop = "home"\nuntil = {until.isoformat()}\n'
    put(opened, 1)
    with running(opened) as gateway:
        while not opened.json("list", "--state", "held"):
            assert times.now() < until
        assert opened.arrived() == {}
        opened.home.wait_until(lambda: mail(1) in opened.arrived())
        assert times.now() >= until
        assert gateway.stop() == 0
    put(opened, 2)
    assert "which is past: it holds nothing any more" in " ".join(give(opened, "check").stdout.split())
    give(opened, "run", "--once")
    assert row(opened, 2)["state"] == "delivered"
