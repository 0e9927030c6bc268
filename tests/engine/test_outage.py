"""A store that is down is said once, trouble with one stream each time."""

from __future__ import annotations

import pytest

from engine import outage
from engine.outage import QUIET_SECONDS, Outage, Refusals
from store.errors import LeaseLost, StoreError, StoreFull, StoreUnreachable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds on the clock; set the only entry."""
    seconds = [1_000.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_store_that_is_down_is_said_once_until_it_was_quiet(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    store = Outage()
    for whose in ("m1", "m2", ""):
        store.say(StoreUnreachable("the store can't be used: refused"), whose)
    clock[0] += QUIET_SECONDS - 1
    store.say(StoreUnreachable("the store can't be used: starting up"))
    clock[0] += QUIET_SECONDS - 1  # since the last failure, not since the first
    store.say(StoreUnreachable("the store can't be used: starting up"))
    assert caplog.messages == ["the store can't be used: refused; waiting for it"]
    clock[0] += QUIET_SECONDS
    store.say(StoreUnreachable("the store can't be used: refused"))
    assert len(caplog.messages) == 2


def test_what_the_store_says_of_one_stream_is_never_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    store = Outage()
    store.say(StoreUnreachable("gone"))
    store.say(StoreError("can't be stored"), "m1")
    store.say(LeaseLost("m2", 3))
    assert caplog.messages[1:] == ["m1: can't be stored", "stream m2: lease 3 is no longer held"]


def test_refused_mail_is_said_when_it_begins_and_counted_when_it_is_over(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals()
    refusals.taken()
    for _ in range(500):
        refusals.refused(StoreUnreachable("the store can't be used"))
    assert caplog.messages == ["new mail is refused for now: the store can't be used"]
    for _ in range(500):
        refusals.taken()
    assert caplog.messages[1:] == ["new mail is taken again; 500 refused for now meanwhile"]


def test_refusals_that_come_and_go_are_said_once_a_minute_and_all_of_them_counted(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals()
    for _ in range(5):
        refusals.refused(StoreError("full"))
        refusals.taken()
    assert caplog.messages == [
        "new mail is refused for now: full",
        "new mail is taken again; 1 refused for now meanwhile",
    ]
    clock[0] += QUIET_SECONDS
    refusals.taken()
    assert caplog.messages[2:] == ["new mail is taken again; 4 refused for now meanwhile"]


def test_that_the_store_works_again_is_said_once_and_coming_and_going_once_a_minute(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    store = Outage()
    store.committed(None)
    assert caplog.messages == []
    for _ in range(3):  # small commits go through on a disk that is nearly full
        store.say(StoreFull("the store can't be used: full"))
        store.committed(None)
        store.committed(None)
    first = ["the store can't be used: full; waiting for it", "the store works again"]
    assert caplog.messages == first
    for passed in (QUIET_SECONDS, QUIET_SECONDS - 1):
        clock[0] += passed
        store.say(StoreFull("the store can't be used: full"))
    store.committed(None)
    assert caplog.messages[2:] == first


def test_how_the_store_is_is_known_by_the_last_commit_unless_it_was_long_ago(clock: list[float]) -> None:
    store = Outage()
    assert store.trouble() is None
    store.committed(StoreFull("full"))
    assert store.trouble() == "full"
    clock[0] += QUIET_SECONDS
    assert store.trouble() is None
    store.committed(StoreFull("full"))
    store.committed(None)
    assert store.trouble() is None
