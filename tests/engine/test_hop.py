"""A next hop's standing: open, resting, probed; and the largest message it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine import hop as hop_module
from engine.adapters.smtp_next_hop import NextHopAccess, SmtpNextHop
from engine.core.policy import HopPolicy, longest_backoff
from engine.hop import GREETING_KEPT, GREETING_RETRY, Hop
from engine.ports import NextHopTrouble
from tests.engine.core.lives import policy
from tests.engine.rig import Clock
from tests.peers.smtpd import HomePeer

POLICY = policy()
MIDDLE = 0.5
REPLY = "4.4.1 connect: refused"


def hop_at(port: int, clock: Clock, **changes: Any) -> Hop:
    adapter = SmtpNextHop(
        NextHopAccess(name="home", host="127.0.0.1", port=port, tls="none"), "gate.example.com"
    )
    return Hop(adapter, HopPolicy(**changes), 4, clock)


def resting(clock: Clock) -> Hop:
    """One that failed once just now."""
    hop = hop_at(9, clock)
    hop.failed(POLICY, REPLY, MIDDLE)
    return hop


@asynccontextmanager
async def listening(peer: HomePeer) -> AsyncIterator[tuple[HomePeer, int]]:
    port = await peer.start()
    try:
        yield peer, port
    finally:
        peer.heal()
        await peer.stop()


# -- the gate


def test_a_next_hop_nobody_complained_about_is_open() -> None:
    assert hop_at(9, Clock()).gate() == "open"


def test_after_a_failure_it_rests_then_is_probed_by_one() -> None:
    clock = Clock()
    hop = hop_at(9, clock)
    assert hop.failed(POLICY, REPLY, MIDDLE) == clock() + timedelta(minutes=5)
    assert hop.gate() == "closed"
    clock.later(minutes=5)
    assert hop.gate() == "probe"
    hop.probing = True
    assert hop.gate() == "closed"


def test_one_waits_longer_where_it_is_slow_then_where_nobody_is_free_then_where_it_rests() -> None:
    clock = Clock()
    quick, new, slow, busy, resting_one = (hop_at(9, clock) for _ in range(5))
    quick.took_seconds, slow.took_seconds = 0.1, 60.0
    busy.took_seconds, busy.under_way = 0.1, 4
    resting_one.failed(POLICY, REPLY, MIDDLE)
    waits = [hop.wait() for hop in (quick, new, slow, busy, resting_one)]
    assert waits == sorted(waits)
    assert len(set(waits)) == 5
    clock.later(minutes=5)
    assert busy.wait() < resting_one.wait() < waits[-1]  # it may be probed now


def test_a_rest_reckoned_by_a_clock_that_was_ahead_ends_when_it_is_set_right() -> None:
    clock = Clock()
    adapter = hop_at(9, clock).adapter
    hop = Hop(adapter, HopPolicy(), 4, clock, longest_backoff(POLICY))
    at = clock()
    clock.later(days=30)
    hop.failed(POLICY, REPLY, 1.0)
    assert hop.gate() == "closed"
    clock.at = at
    assert hop.gate() == "probe"
    hop.failed(POLICY, REPLY, 1.0)
    assert hop.gate() == "closed"


def test_an_answer_opens_it() -> None:
    hop = resting(Clock())
    hop.worked()
    assert hop.gate() == "open"
    assert hop.probe_at is None


def test_failures_of_one_rest_count_once() -> None:
    clock = Clock()
    hop = resting(clock)
    first = hop.probe_at
    clock.later(minutes=1)
    assert hop.failed(POLICY, "4.4.2 lost", MIDDLE) == first
    assert hop.failures == 1
    assert hop.reply == "4.4.2 lost"


def test_each_failed_probe_makes_the_rest_longer_up_to_the_cap() -> None:
    clock, rests = Clock(), []
    hop = hop_at(9, clock)
    for _ in range(6):
        probe_at = hop.failed(POLICY, REPLY, MIDDLE)
        rests.append((probe_at - clock()) // timedelta(minutes=1))
        clock.at = probe_at
    assert rests == [5, 10, 20, 40, 60, 60]


def test_it_goes_on_from_what_the_log_says() -> None:
    clock = Clock()
    hop = hop_at(9, clock)
    probe_at = clock() + timedelta(minutes=20)
    hop.remember({"failures": 3, "probe_at": probe_at, "reply": REPLY, "size_limit_octets": 5_000})
    assert (hop.gate(), hop.reply, hop.learnt_octets) == ("closed", REPLY, 5_000)
    clock.at = probe_at
    assert hop.failed(POLICY, REPLY, MIDDLE) == probe_at + timedelta(minutes=40)


def test_who_is_ordered_to_go_on_probes_it_while_it_rests_unless_it_was_found_down_since() -> None:
    clock = Clock()
    hop = resting(clock)
    assert hop.gate(clock()) == "closed"
    ordered_at = clock() + timedelta(minutes=1)
    assert (hop.gate(), hop.gate(ordered_at)) == ("closed", "probe")
    hop.probing = True
    assert hop.gate(ordered_at) == "closed"
    hop.probing = False
    clock.later(minutes=2)
    first = hop.probe_at
    assert hop.failed(POLICY, REPLY, MIDDLE) == first
    assert (hop.failures, hop.gate(ordered_at)) == (1, "closed")


def test_the_log_has_a_line_when_it_goes_down_and_one_when_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "mailgate")
    clock = Clock()
    hop = hop_at(9, clock)
    hop.worked()
    for minutes in (0, 1, 5):
        clock.later(minutes=minutes)
        hop.failed(POLICY, REPLY, MIDDLE)
    hop.worked()
    hop.worked()
    down = f"next hop home is down, tried again at 2026-03-01T12:05:00Z: {REPLY}"
    assert [record.getMessage() for record in caplog.records] == [down, "next hop home is up again"]
    caplog.clear()
    hop.remember({"failures": 3, "probe_at": clock(), "reply": REPLY, "size_limit_octets": None})
    hop.failed(POLICY, REPLY, MIDDLE)  # what a log of before our time told is told anew
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_of_the_domains_of_direct_delivery_the_log_has_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mailgate")
    hop = hop_at(9, Clock())
    hop.name = "mx:customer.example"
    hop.failed(POLICY, REPLY, MIDDLE)
    hop.worked()
    assert caplog.records == []


# -- the limit


async def test_the_limit_is_what_ehlo_says() -> None:
    async with listening(HomePeer(size_octets=4_000)) as (_, port):
        hop = hop_at(port, Clock())
        assert await hop.limit_octets() == 4_000
        assert not hop.configured(4_000)
        await hop.adapter.close()


async def test_the_lowest_of_ehlo_and_experience_counts() -> None:
    async with listening(HomePeer(size_octets=400_000)) as (_, port):
        hop = hop_at(port, Clock())
        assert await hop.limit_octets() == 400_000
        for refused in (200_000, 250_000, 64 * 1024 - 1):  # the last of which every server takes
            hop.learn(refused)
        assert await hop.limit_octets() == 200_000
        hop.learn(64 * 1024)
        assert await hop.limit_octets() == 64 * 1024
        await hop.adapter.close()


async def test_a_configured_limit_lowers_what_ehlo_says_and_undoes_what_a_refusal_taught() -> None:
    async with listening(HomePeer(size_octets=400_000)) as (_, port):
        hop = hop_at(port, Clock(), max_size_octets=300_000)
        assert await hop.limit_octets() == 300_000
        assert hop.configured(300_000)
        hop.learn(200_000)
        assert await hop.limit_octets() == 300_000
        await hop.adapter.close()


@pytest.mark.parametrize("size_octets", [None, 0, "bare"])
async def test_where_nobody_names_a_limit_there_is_none(size_octets: Any) -> None:
    async with listening(HomePeer(size_octets=size_octets)) as (_, port):
        hop = hop_at(port, Clock())
        assert await hop.limit_octets() is None
        await hop.adapter.close()


async def test_it_is_asked_once_an_hour_also_where_it_names_no_limit() -> None:
    async with listening(HomePeer(size_octets=None)) as (home, port):
        clock = Clock()
        hop = hop_at(port, clock)
        await hop.limit_octets()
        clock.later(seconds=GREETING_KEPT.total_seconds() - 1)
        await hop.limit_octets()
        assert len(home.sessions) == 1
        clock.later(seconds=1)
        home.size_octets = 7_000
        assert await hop.limit_octets() == 7_000
        await hop.adapter.close()


async def test_whoever_wants_it_anew_hears_what_it_says_now_or_why_not() -> None:
    async with listening(HomePeer(size_octets=4_000)) as (home, port):
        hop = hop_at(port, Clock())
        await hop.limit_octets()
        home.size_octets = 7_000
        assert await hop.limit_octets() == 4_000
        assert await hop.limit_octets(anew=True) == await hop.limit_octets() == 7_000
        home.fault("banner", "421")
        with pytest.raises(NextHopTrouble):
            await hop.limit_octets(anew=True)
        hop.failed(POLICY, REPLY, MIDDLE)
        with pytest.raises(NextHopTrouble, match=f"it is down: {REPLY}"):
            await hop.limit_octets(anew=True)
        await hop.adapter.close()


async def test_many_who_ask_at_once_make_one_session() -> None:
    async with listening(HomePeer()) as (home, port):
        hop = hop_at(port, Clock())
        limits = await asyncio.gather(*(hop.limit_octets() for _ in range(20)))
        assert set(limits) == {36_000_000}
        assert len(home.sessions) == 1
        await hop.adapter.close()


async def test_one_that_does_not_answer_is_asked_again_a_minute_later_and_its_old_word_stands() -> None:
    async with listening(HomePeer(size_octets=4_000)) as (home, port):
        clock = Clock()
        hop = hop_at(port, clock)
        await hop.limit_octets()
        home.fault("banner", "421", times=2)
        for seconds in (GREETING_KEPT.total_seconds(), 0, GREETING_RETRY.total_seconds()):
            clock.later(seconds=seconds)
            assert await hop.limit_octets() == 4_000
        assert len(home.sessions) == 3
        await hop.adapter.close()


async def test_a_silent_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_module, "GREETING_SECONDS", 0.01)
    async with listening(HomePeer()) as (home, port):
        silent = home.fault("banner", "stall")
        hop = hop_at(port, Clock())
        assert await hop.limit_octets() is None
        silent.release()
        await hop.adapter.close()


async def test_one_that_rests_is_not_asked() -> None:
    async with listening(HomePeer()) as (home, port):
        clock = Clock()
        hop = hop_at(port, clock)
        hop.failed(POLICY, REPLY, MIDDLE)
        assert await hop.limit_octets() is None
        assert home.sessions == []
        hop.worked()
        assert await hop.limit_octets() == 36_000_000
        await hop.adapter.close()


def test_times_are_those_of_the_clock_it_was_given() -> None:
    clock = Clock()
    clock.at = datetime(2031, 1, 1, tzinfo=UTC)
    assert hop_at(9, clock).failed(POLICY, REPLY, 0.0) == clock() + timedelta(minutes=5) * 0.9
