"""Mailboxes in their time: how often, how many at once, and what trouble changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from engine import fetch
from engine.fetch import JITTER
from store import agenda, log
from store.agenda import Claim
from store.database import writing
from store.errors import StoreError
from store.events import Downloaded, RemovedFromSource
from store.mailbox_events import PollFailed, PollRecovered, mailbox_stream
from tests.engine.rig import PATIENCE_SECONDS, Rig, mail

MINUTE = timedelta(minutes=1)
MANY: dict[str, dict[str, Any]] = {f"box{n}": {} for n in range(5)}


def next_poll(rig: Rig, name: str = "info") -> timedelta:
    """How long until the next poll of a mailbox that nobody holds."""
    row = rig.agenda(mailbox_stream(name))
    assert row["holder"] is None
    wait: timedelta = row["wake_at"] - rig.clock()
    return wait


async def held(rig: Rig, holder: str) -> None:
    """Somebody holds the mailbox."""
    claim, now = Claim(holder, rig.clock() + agenda.LEASE_TERM), rig.clock()
    stream = mailbox_stream("info")
    lease = await rig.journal.call(lambda c: agenda.claim_stream(c, stream, agenda.POLL, claim, now))
    assert lease is not None


def about(wanted: timedelta) -> Any:
    """Within the jitter."""
    return pytest.approx(wanted.total_seconds(), rel=JITTER)


@asynccontextmanager
async def fetching(rig: Rig) -> AsyncIterator[None]:
    """The fetcher runs by itself."""
    task = asyncio.create_task(rig.fetcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are not a second apart."""
    monkeypatch.setattr(fetch, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(fetch, "STORE_RETRY_SECONDS", 0.01)


@contextmanager
def agenda_refused(rig: Rig) -> Iterator[None]:
    """The store changes no row of the agenda."""
    with writing(rig.engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER refusing BEFORE UPDATE ON agenda BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        else:
            connection.exec_driver_sql("ALTER TABLE agenda ADD CONSTRAINT refusing CHECK (false) NOT VALID")
    yield
    with writing(rig.engine) as connection:
        drop = "DROP TRIGGER refusing"
        if connection.dialect.name != "sqlite":
            drop = "ALTER TABLE agenda DROP CONSTRAINT refusing"
        connection.exec_driver_sql(drop)


@contextmanager
def contents_refused(rig: Rig, of_octets: int | None = None) -> Iterator[None]:
    """The store takes no octets, or not those of messages of one size."""
    with writing(rig.engine) as connection:
        if connection.dialect.name == "sqlite":
            those = "" if of_octets is None else f"WHEN length(NEW.octets) = {of_octets}"
            connection.exec_driver_sql(
                f"CREATE TRIGGER refusing BEFORE INSERT ON contents {those}"
                " BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        else:
            others = "false" if of_octets is None else f"length(octets) <> {of_octets}"
            connection.exec_driver_sql(
                f"ALTER TABLE contents ADD CONSTRAINT refusing CHECK ({others}) NOT VALID"
            )
    yield
    with writing(rig.engine) as connection:
        drop = "DROP TRIGGER refusing"
        if connection.dialect.name != "sqlite":
            drop = "ALTER TABLE contents DROP CONSTRAINT refusing"
        connection.exec_driver_sql(drop)


# -- trouble


async def test_trouble_is_recorded_when_it_begins_and_when_it_ends_and_not_at_each_poll(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        trouble = rig.provider.fault("list", "err", text="disk is busy", times=None)
        for _ in range(3):
            assert not await rig.poll()
        (event,) = rig.events(PollFailed)
        assert (event.kind, event.permanent) == ("protocol", False)
        assert "disk is busy" in event.text
        assert rig.mailbox().health == "failing"
        trouble.times = 0
        for _ in range(3):
            assert await rig.poll()
        assert len(rig.events(PollRecovered)) == 1
        assert len(rig.events(PollFailed)) == 1
        assert rig.mailbox().health == "ok"


async def test_trouble_of_another_kind_is_news(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.provider.fault("list", "err", text="disk is busy", times=2)
        rig.provider.fault("pass", "err", text="[AUTH] wrong password", after=2, times=2)
        for _ in range(4):
            await rig.poll()
        assert [event.kind for event in rig.events(PollFailed)] == ["protocol", "auth"]


async def test_after_a_restart_the_same_trouble_is_no_news(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.provider.fault("list", "err", times=None)
        await rig.poll()
        await rig.restart()
        await rig.poll()
        assert len(rig.events(PollFailed)) == 1


async def test_what_nobody_foresaw_is_on_record_as_this_mailbox_s_trouble_without_its_words(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    async with Rig(database_url) as rig:
        with monkeypatch.context() as patched:
            patched.setattr("engine.core.listing.compare", broken)
            await rig.poll()
        [failed] = rig.events(PollFailed)
        assert (failed.kind, failed.text) == ("protocol", "an error in mailgate itself: RuntimeError")
        assert "hunter2" not in "".join(record.getMessage() for record in caplog.records)
        await rig.poll()
        assert len(rig.events(PollRecovered)) == 1


async def test_a_mailbox_that_works_is_polled_at_its_interval(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await rig.poll()
        assert next_poll(rig).total_seconds() == about(MINUTE)


async def test_trouble_makes_polls_rarer_up_to_half_an_hour_and_its_end_makes_them_usual(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        trouble = rig.provider.fault("greeting", "err", times=None)
        waits = []
        for _ in range(7):
            await rig.poll()
            waits.append(next_poll(rig).total_seconds())
        assert waits == [about(MINUTE * minutes) for minutes in (1, 2, 4, 8, 16, 30, 30)]
        trouble.times = 0
        await rig.poll()
        assert next_poll(rig).total_seconds() == about(MINUTE)


async def test_a_wrong_password_is_not_tried_every_minute(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.provider.mailboxes["info"].password = "another"
        assert not await rig.poll()
        (event,) = rig.events(PollFailed)
        assert (event.kind, event.permanent) == ("auth", True)
        assert next_poll(rig).total_seconds() == about(10 * MINUTE)
        assert "open sesame" not in event.text


async def test_a_mailbox_somebody_else_has_open_is_no_wrong_password(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.provider.mailboxes["info"].in_use = True
        assert not await rig.poll()
        (event,) = rig.events(PollFailed)
        assert (event.kind, event.permanent) == ("in-use", False)
        assert next_poll(rig).total_seconds() == about(MINUTE)


async def test_a_server_that_is_not_there_is_trouble_of_its_own_kind(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await rig.provider.stop()
        assert not await rig.poll()
        assert [event.kind for event in rig.events(PollFailed)] == ["connect"]


async def test_a_suspended_mailbox_is_looked_at_hourly(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=451, times=None)
        rig.put(*(mail(n, 400 + n) for n in range(6)))
        await rig.poll()
        rig.provider.fault("uidl", "uidl-changes", times=None)
        assert not await rig.poll()
        assert next_poll(rig).total_seconds() == about(60 * MINUTE)
        await rig.settled()


async def test_a_store_that_fails_is_not_the_mailboxs_trouble(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        with contents_refused(rig):
            with pytest.raises(Exception, match=r"can't be stored|can't be used"):
                await rig.poll()
            assert rig.events(PollFailed) == []
            assert rig.events(Downloaded) == []
        assert await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 1


# -- many mailboxes


async def test_a_host_gets_no_more_sessions_at_once_than_allowed(database_url: str) -> None:
    async with Rig(database_url, mailboxes=MANY, connections_per_host=2) as rig:
        silent = rig.provider.fault("list", "stall", times=2)
        polling = asyncio.create_task(rig.fetcher.once())
        await rig.provider.until(lambda: silent.fired == 2)
        assert len(rig.provider.sessions) == 2
        silent.release()
        assert await polling
        assert len(rig.provider.sessions) == 5


async def test_hosts_don_t_wait_for_each_other(database_url: str) -> None:
    boxes = {"slow": {"host": "slow.example"}, "quick": {"host": "quick.example"}}
    async with Rig(database_url, mailboxes=boxes, connections_per_host=1) as rig:
        silent = rig.provider.fault("list", "stall", matching="slow")
        rig.put(mail(1), user="quick")
        polling = asyncio.create_task(rig.fetcher.once())
        await rig.home.until(lambda: rig.home.ledger)
        assert not polling.done()
        silent.release()
        assert await polling
        await rig.settled()


async def test_a_mailbox_that_fails_delays_no_other(database_url: str) -> None:
    async with Rig(database_url, mailboxes=MANY, connections_per_host=5) as rig:
        for name in MANY:
            rig.put(mail(1), user=name)
        rig.provider.fault("pass", "drop", matching="box2", times=None)
        assert not await rig.fetcher.once()
        await rig.settled()
        assert len(rig.home.ledger) == 4
        assert [event.mailbox for event in rig.events(PollFailed)] == ["box2"]


async def test_a_mailbox_that_another_gateway_polls_is_left_alone(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await held(rig, "another gateway")
        assert await rig.poll()
        assert rig.provider.sessions == []


async def test_a_mailbox_that_we_poll_ourselves_is_not_polled_besides_when_its_lease_ran_out(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        silent = rig.provider.fault("list", "stall")
        polling = asyncio.create_task(rig.poll())
        await rig.provider.until(lambda: silent.fired)
        rig.clock.later(seconds=61)
        assert await rig.poll()
        assert len(rig.provider.sessions) == 1
        silent.release()
        assert await polling


async def test_a_claim_that_took_effect_unheard_keeps_a_mailbox_from_being_polled_for_its_term_only(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        await held(rig, rig.holder)
        rig.clock.later(seconds=45)
        await rig.leases.renew()
        rig.clock.later(seconds=15)
        assert await rig.poll()
        assert len(rig.provider.sessions) == 1


async def test_a_poll_that_lost_its_lease_meanwhile_ends_and_adds_nothing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(*(mail(n) for n in range(5)))
        await rig.through()
        rig.put(mail(7), mail(8))
        silent = rig.provider.fault("retr", "stall", number=1)
        polling = asyncio.create_task(rig.poll())
        await rig.provider.until(lambda: silent.fired)
        position = rig.read_now(log.last_position)
        rig.clock.later(seconds=61)
        await held(rig, "another gateway")
        silent.release()
        assert await polling
        assert rig.read_now(log.last_position) == position
        assert rig.agenda(mailbox_stream("info"))["holder"] == "another gateway"
        assert len(rig.provider.uidls("info")) == 2


async def test_a_poll_that_lost_its_lease_meanwhile_says_of_nothing_that_it_has_left(
    database_url: str,
) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(mail(1))
        await rig.poll()
        rig.provider.mailboxes["info"].messages.clear()
        silent = rig.provider.fault("list", "stall")
        polling = asyncio.create_task(rig.poll())
        await rig.provider.until(lambda: silent.fired)
        rig.clock.later(seconds=61)
        await held(rig, "another gateway")
        silent.release()
        assert await polling
        assert rig.events(RemovedFromSource) == []


async def test_trouble_of_a_poll_that_lost_its_lease_is_no_news(database_url: str) -> None:
    async with Rig(database_url) as rig:
        silent = rig.provider.fault("list", "stall")
        polling = asyncio.create_task(rig.poll())
        await rig.provider.until(lambda: silent.fired)
        rig.clock.later(seconds=61)
        await held(rig, "another gateway")
        await rig.provider.stop()
        assert await polling
        assert rig.events(PollFailed) == []


async def test_a_mailbox_is_free_again_when_all_that_was_retrieved_is_on_record_and_not_before(
    database_url: str,
) -> None:
    written = threading.Event()
    async with Rig(database_url, works=False) as rig:
        rig.put(*(mail(n, (3 << 20) + n) for n in range(6)))  # a commit each
        first = rig.provider.fault("retr", "stall")
        polling = asyncio.create_task(rig.poll())
        await rig.until(lambda: first.stalled)
        with contents_refused(rig, of_octets=3 << 20):
            blocked = rig.journal.call(lambda _: written.wait(PATIENCE_SECONDS))
            first.release()
            await rig.until(lambda: rig.journal.submitted == 6)
            written.set()
            with pytest.raises(StoreError):
                await polling
            assert len(rig.events(Downloaded)) == 5
            assert await blocked
        assert await rig.poll()
        assert len(rig.provider.said("RETR")) == 7


async def test_trouble_with_one_mailbox_is_raised_when_the_polls_of_all_have_ended() -> None:
    ended: list[str] = []

    async def broken() -> bool:
        raise StoreError("full")

    async def slow() -> bool:
        await asyncio.sleep(0.01)
        ended.append("slow")
        return True

    with pytest.raises(StoreError):
        await fetch._all([broken(), slow()])
    assert ended == ["slow"]


# -- running by itself


@pytest.mark.usefixtures("impatient")
async def test_running_every_mailbox_is_polled_at_once_and_then_in_its_time(database_url: str) -> None:
    async with Rig(database_url, mailboxes=MANY) as rig, fetching(rig):
        await rig.provider.until(lambda: len(rig.provider.said("QUIT")) == 5)
        await rig.until(lambda: not rig.fetcher._tasks)
        sessions = len(rig.provider.sessions)
        rig.clock.later(minutes=1.2)
        await rig.provider.until(lambda: len(rig.provider.sessions) == sessions + 5)


@pytest.mark.usefixtures("impatient")
async def test_when_the_clock_is_set_back_mailboxes_do_not_wait_for_the_old_time(database_url: str) -> None:
    async with Rig(database_url, mailboxes=MANY) as rig, fetching(rig):
        await rig.provider.until(lambda: len(rig.provider.said("QUIT")) == 5)
        await rig.until(lambda: not rig.fetcher._tasks)
        rig.clock.later(hours=-1)
        await rig.provider.until(lambda: len(rig.provider.sessions) == 10)


@pytest.mark.usefixtures("impatient")
async def test_a_time_moved_by_a_person_is_heard(database_url: str) -> None:
    async with Rig(database_url) as rig, fetching(rig):
        await rig.provider.until(lambda: len(rig.provider.said("QUIT")) == 1)
        await rig.until(lambda: not rig.fetcher._tasks)
        now = rig.clock()
        await rig.journal.call(lambda c: agenda.put(c, mailbox_stream("info"), agenda.POLL, now))
        await rig.provider.until(lambda: len(rig.provider.sessions) == 2)


@pytest.mark.usefixtures("impatient")
async def test_a_long_poll_keeps_its_lease_without_a_worker_too(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        silent = rig.provider.fault("list", "stall")
        async with fetching(rig):
            await rig.provider.until(lambda: silent.fired)
            rig.clock.later(seconds=45)
            await rig.leases.renew()
            wanted: datetime = rig.clock() + agenda.LEASE_TERM
            assert rig.agenda(mailbox_stream("info"))["lease_until"] == wanted
            silent.release()
            await rig.provider.until(lambda: rig.provider.said("QUIT"))


@pytest.mark.usefixtures("impatient")
async def test_stopping_in_a_session_loses_nothing_and_leaves_the_mailbox_free(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(*(mail(n) for n in range(5)))
        silent = rig.provider.fault("retr", "stall", number=3)
        async with fetching(rig):
            await rig.provider.until(lambda: silent.fired)
        assert rig.agenda(mailbox_stream("info"))["holder"] is None
        assert rig.provider.said("DELE") == []
        await rig.settled()
        await rig.restart()
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 5
        assert len(rig.provider.retrievals()) == 5


@pytest.mark.usefixtures("impatient")
async def test_who_was_stopped_begins_no_more_polls(database_url: str) -> None:
    async with Rig(database_url) as rig:
        running = asyncio.create_task(rig.fetcher.run())
        await rig.provider.until(lambda: rig.provider.said("QUIT"))
        await rig.until(lambda: not rig.fetcher._tasks)
        await rig.fetcher.stop()
        rig.clock.later(minutes=2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running
        assert await rig.poll()
        assert len(rig.provider.sessions) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_lease_that_the_store_did_not_take_back_is_given_back_later(database_url: str) -> None:
    async with Rig(database_url) as rig:
        silent = rig.provider.fault("list", "stall")
        polling = asyncio.create_task(rig.poll())
        await rig.provider.until(lambda: silent.fired)
        with agenda_refused(rig):
            silent.release()
            await rig.provider.until(lambda: rig.provider.said("QUIT"))
            await asyncio.wait([polling], timeout=0.05)
            assert not polling.done()
        assert await polling
        assert next_poll(rig) > timedelta(0)


# -- once


async def test_to_remove_opens_only_the_mailboxes_from_which_something_may_go(database_url: str) -> None:
    async with Rig(database_url, mailboxes=MANY) as rig:
        rig.put(mail(1), user="box3")
        assert await rig.fetcher.once()
        await rig.settled()
        sessions = len(rig.provider.sessions)
        assert await rig.fetcher.remove()
        assert [session.user for session in rig.provider.sessions[sessions:]] == ["box3"]
        assert rig.provider.uidls("box3") == []


async def test_once_gets_past_a_message_that_breaks_the_session(database_url: str) -> None:
    async with Rig(database_url) as rig:
        bad, *others = rig.put(*(mail(n) for n in range(4)))
        rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert not await rig.fetcher.once()
        assert sorted(rig.provider.retrievals()) == sorted(others)
        await rig.settled()
