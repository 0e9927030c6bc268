"""Group commit: what shares a transaction, what fails alone, what a failing store leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from types import NoneType
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from engine import seams
from engine.core import ids
from engine.journal import ARRIVALS_BESIDE, BATCH_OCTETS, BATCH_UNITS, Journal
from store import agenda, log
from store.agenda import Claim, Lease
from store.database import open_store, reading, writing
from store.errors import Conflict, LeaseLost, StoreError, StoreFull, StoreUnreachable
from store.events import Downloaded, Held
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import PollFailed, PollRecovered, mailbox_stream
from store.mailbox_life import Mailbox
from tests import schema

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OCTETS = b"Subject: one\r\n\r\n"


@asynccontextmanager
async def writing_to(url: str, commits: list[int] | None = None) -> AsyncIterator[tuple[Journal, Engine]]:
    """A journal on a fresh store; of each commit it notes how many units it had."""
    schema.make(url)
    engine = open_store(url, checkpoints=True)
    noted = commits if commits is not None else []
    journal = Journal(engine, watch=lambda units, _seconds: noted.append(len(units)))
    try:
        yield journal, engine
    finally:
        await journal.close()
        engine.dispose()


def opening(number: int, octets: bytes = OCTETS, **changes: Any) -> Append:
    """A message that comes in; the same number makes the same stream."""
    facts: dict[str, Any] = {
        "mailbox": "info",
        "uidl": f"uidl-{number}",
        "size_octets": len(octets),
        "listed_octets": len(octets),
        "content": "00" * 32,
        "bare_newlines": False,
        "recipient_count": 1,
        "policy": "3f2a91c04b7d",
        "recipients": ("info@example.com",),
    }
    return Append(ids.message_id(NOON, number), None, (Downloaded(**(facts | changes)),), NOON, octets)


def unit(number: int, **changes: Any) -> Unit:
    return Unit((opening(number, **changes),))


def holding(append: Append) -> Append:
    """The next event of a message that was just opened."""
    assert isinstance(append.after, Message)
    return Append(
        append.stream,
        append.after,
        (Held(why="operator", rule="by hand", policy="3f2a91c04b7d"),),
        NOON,
    )


def streams(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return sorted({recorded.stream for recorded in log.walk(connection)})


async def busy(journal: Journal, release: asyncio.Event) -> asyncio.Future[None]:
    """Keep the writer busy, so that what is submitted meanwhile makes one batch."""
    loop, began = asyncio.get_running_loop(), asyncio.Event()

    def wait(_connection: Connection) -> None:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)

    future = journal.call(wait)
    await began.wait()
    return future


async def together(journal: Journal, *submit: Callable[[], asyncio.Future[Any]]) -> list[Any]:
    """What becomes of entries that share a batch: results and errors."""
    release = asyncio.Event()
    first = await busy(journal, release)
    futures = [one() for one in submit]
    release.set()
    await first
    return await asyncio.gather(*futures, return_exceptions=True)


# -- what is done is durable


async def test_a_unit_whose_future_is_done_is_in_the_store(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        await journal.append(unit(1))
        assert streams(engine) == [ids.message_id(NOON, 1)]


async def test_what_gathers_during_a_commit_shares_the_next(database_url: str) -> None:
    commits: list[int] = []
    async with writing_to(database_url, commits) as (journal, engine):
        await together(journal, *(lambda n=n: journal.append(unit(n)) for n in range(20)))
        assert len(commits) == 2
        assert len(streams(engine)) == 20


async def test_a_batch_has_a_limit_of_units(database_url: str) -> None:
    commits: list[int] = []
    async with writing_to(database_url, commits) as (journal, engine):
        await together(journal, *(lambda n=n: journal.append(unit(n)) for n in range(BATCH_UNITS + 1)))
        assert len(commits) == 3
        assert len(streams(engine)) == BATCH_UNITS + 1


async def test_a_batch_has_a_limit_of_octets_and_one_larger_unit_goes_alone(database_url: str) -> None:
    commits: list[int] = []
    async with writing_to(database_url, commits) as (journal, engine):
        half, large = bytes(BATCH_OCTETS // 2), bytes(BATCH_OCTETS + 1)
        sizes = [half, half, half, large, OCTETS]
        await together(
            journal, *(lambda n=n, o=o: journal.append(unit(n, octets=o)) for n, o in enumerate(sizes))
        )
        assert len(commits) == 1 + 4
        assert len(streams(engine)) == 5


async def test_closing_writes_what_is_queued(database_url: str) -> None:
    schema.make(database_url)
    engine = open_store(database_url, checkpoints=True)
    journal = Journal(engine)
    futures = [journal.append(unit(n)) for n in range(BATCH_UNITS + 10)]
    await journal.close()
    await asyncio.gather(*futures)
    assert len(streams(engine)) == BATCH_UNITS + 10
    engine.dispose()


async def test_what_somebody_waits_for_goes_before_arrivals_and_each_kind_keeps_its_order(
    database_url: str,
) -> None:
    async with writing_to(database_url) as (journal, engine):
        count = "SELECT count(*) FROM events"
        seen: list[str] = []
        results = await together(
            journal,
            lambda: journal.append(unit(2)),
            lambda: journal.call(lambda c: (seen.append("first"), c.exec_driver_sql(count).scalar())[1]),
            lambda: journal.append(unit(1)),
            lambda: journal.append(unit(3)),
            lambda: journal.call(lambda c: (seen.append("second"), c.exec_driver_sql(count).scalar())[1]),
        )
        assert results == [None, 0, None, None, 0]
        assert seen == ["first", "second"]
        with reading(engine) as connection:
            order = [recorded.stream for recorded in log.walk(connection)]
        assert order == [ids.message_id(NOON, number) for number in (2, 1, 3)]


async def test_arrivals_share_every_batch_however_many_steps_there_are(database_url: str) -> None:
    commits: list[int] = []
    async with writing_to(database_url, commits) as (journal, engine):
        large = unit(0, octets=bytes(BATCH_OCTETS + 1))
        await together(
            journal,
            *(lambda: journal.call(lambda c: None) for _ in range(BATCH_UNITS)),
            lambda: journal.append(large),
            *(lambda n=n: journal.append(unit(n)) for n in range(1, ARRIVALS_BESIDE + 2)),
            lambda: journal.call(lambda c: None),
        )
        # Behind what kept the writer busy: the steps with the large one; the last step with as many as go beside; the rest.
        assert len(commits) == 4
        assert len(streams(engine)) == ARRIVALS_BESIDE + 2


async def test_a_later_unit_of_a_batch_builds_on_an_earlier_one(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        first = opening(1)
        results = await together(
            journal,
            lambda: journal.append(Unit((first,))),
            lambda: journal.append(Unit((holding(first),))),
        )
        assert results == [None, None]
        with reading(engine) as connection:
            message = log.message(connection, first.stream)
        assert message is not None
        assert message.state == "held"


# -- what fails fails alone


async def test_of_two_that_believe_the_same_one_gets_a_conflict_and_the_rest_commits(
    database_url: str,
) -> None:
    async with writing_to(database_url) as (journal, engine):
        first = opening(1)
        await journal.append(Unit((first,)))
        results = await together(
            journal,
            lambda: journal.append(Unit((holding(first),))),
            lambda: journal.append(Unit((holding(first),))),
            lambda: journal.append(unit(2)),
        )
        assert results[0] is None
        assert isinstance(results[1], Conflict)
        assert results[2] is None
        assert len(streams(engine)) == 2


async def test_a_lost_lease_changes_nothing(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        first = opening(1)
        await journal.append(Unit((first,)))
        results = await together(
            journal,
            lambda: journal.append(Unit((holding(first),), lease=Lease(first.stream, 1))),
            lambda: journal.append(unit(2)),
        )
        assert isinstance(results[0], LeaseLost)
        assert results[1] is None
        with reading(engine) as connection:
            assert len(log.read(connection, first.stream)) == 1


async def test_a_unit_that_can_t_be_stored_fails_alone(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        results = await together(
            journal,
            lambda: journal.append(unit(1)),
            lambda: journal.append(unit(2, subject="\udc80")),
            lambda: journal.append(unit(3)),
        )
        assert results[0] is None
        assert isinstance(results[1], StoreError)
        assert not isinstance(results[1], StoreUnreachable)
        assert results[2] is None
        assert streams(engine) == [ids.message_id(NOON, 1), ids.message_id(NOON, 3)]


async def test_an_id_used_twice_is_refused_and_hurts_nobody_else(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        results = await together(
            journal,
            lambda: journal.append(unit(1)),
            lambda: journal.append(unit(1)),
            lambda: journal.append(unit(2)),
        )
        assert results[0] is None
        assert isinstance(results[1], StoreError)
        assert results[2] is None
        assert len(streams(engine)) == 2


async def test_a_call_that_breaks_fails_alone_and_leaves_nothing_behind(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):

        def breaking(connection: Connection) -> None:
            agenda.put(connection, "stream", "lane", NOON)
            raise ZeroDivisionError("a fault of ours")

        results = await together(
            journal,
            lambda: journal.append(unit(1)),
            lambda: journal.call(breaking),
            lambda: journal.append(unit(2)),
        )
        assert isinstance(results[1], StoreError)
        assert (results[0], results[2]) == (None, None)
        with reading(engine) as connection:
            assert "lane" not in agenda.lanes(connection)


# -- the store itself fails


async def test_a_full_disk_fails_the_batch_and_changes_nothing_and_all_works_again_after(
    sqlite_url: str,
) -> None:
    async with writing_to(sqlite_url) as (journal, engine):
        await journal.append(unit(1))
        with full_disk(engine):
            await journal.call(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1"))
            results = await together(
                journal,
                lambda: journal.append(unit(2)),
                lambda: journal.append(unit(3, octets=bytes(1 << 20))),
            )
            assert all(isinstance(result, StoreUnreachable) for result in results)
            assert "disk is full" in str(results[0])
            assert len(streams(engine)) == 1
            with pytest.raises(StoreUnreachable):
                await journal.append(unit(4, octets=bytes(1 << 20)))
        await journal.append(unit(2))
        await journal.append(unit(3, octets=bytes(1 << 20)))
        assert len(streams(engine)) == 3


async def test_how_commits_end_is_told_and_one_of_nothing_proves_nothing(sqlite_url: str) -> None:
    told: list[StoreUnreachable | None] = []
    schema.make(sqlite_url)
    engine = open_store(sqlite_url, checkpoints=True)
    journal = Journal(engine, ended=told.append)
    try:
        await journal.append(unit(1))
        assert told == [None]
        with full_disk(engine):
            await journal.call(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1"))
            with pytest.raises(StoreFull):
                await journal.append(unit(2, octets=bytes(1 << 20)))
            await journal.call(agenda.lanes)
            assert [type(one) for one in told[1:]] == [StoreFull]
        await journal.append(unit(2))
        assert told[2:] == [None]
    finally:
        await journal.close()
        engine.dispose()


async def test_all_that_went_into_the_log_is_told_whoever_appended_it(database_url: str) -> None:
    told: list[str] = []

    def tell(units: Sequence[Unit], _seconds: float) -> None:
        told.extend(append.stream for unit in units for append in unit.appends)

    def appends(connection: Connection, number: int) -> tuple[str, Sequence[Unit]]:
        units = [unit(number)]
        assert log.append(connection, units) == [None]
        if number == 3:
            raise ValueError("in the end it is not to be")
        return "done", units

    async with writing_to(database_url) as (journal, engine):
        journal._watch = tell
        await journal.append(unit(1))
        assert await journal.append_by(partial(appends, number=2)) == "done"
        with pytest.raises(StoreError):
            await journal.append_by(partial(appends, number=3))
        with pytest.raises(Conflict):
            await journal.append(unit(1))
        answers = await together(
            journal,
            partial(journal.append_by, partial(appends, number=4)),
            partial(journal.append_by, partial(appends, number=3)),
            partial(journal.append, unit(5)),
        )
        assert [type(answer) for answer in answers] == [str, StoreError, NoneType]
        assert sorted(told) == streams(engine)


@contextmanager
def full_disk(engine: Engine) -> Iterator[None]:
    """No connection that is made from now on can make the file larger."""

    def limit(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    event.listen(engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(engine, "connect", limit)
        engine.dispose()  # what was made meanwhile is still limited


async def test_a_database_that_goes_away_fails_what_is_under_way_and_is_used_again_when_it_is_back(
    postgres_url: str,
) -> None:
    async with writing_to(postgres_url) as (journal, engine):
        await journal.append(unit(1))
        backend = await journal.call(lambda c: c.exec_driver_sql("SELECT pg_backend_pid()").scalar())
        with writing(engine) as connection:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({backend})")
        with pytest.raises(StoreUnreachable):
            await journal.append(unit(2))
        await journal.append(unit(2))
        assert len(streams(engine)) == 2


async def test_a_transaction_lost_while_the_process_was_stopped_fails_whole_and_the_next_goes_through(
    postgres_url: str,
) -> None:
    other = open_store(postgres_url, silent_seconds=0.1)

    def stopped(_connection: Connection) -> None:
        with writing(other):
            pass  # it has waited for the lock that we hold, and ended our session

    async with writing_to(postgres_url) as (journal, engine):
        answers = await together(journal, lambda: journal.append(unit(1)), lambda: journal.call(stopped))
        assert [type(answer) for answer in answers] == [StoreUnreachable, StoreUnreachable]
        assert streams(engine) == []
        await journal.append(unit(1))
        assert len(streams(engine)) == 1
    other.dispose()


async def test_an_error_names_no_statement_and_no_content(database_url: str) -> None:
    async with writing_to(database_url) as (journal, _):
        await journal.append(unit(1))
        with pytest.raises(StoreError) as refused:
            await journal.append(unit(1, subject="nobody's business"))
        assert "nobody's business" not in str(refused.value)
        assert "\n" not in str(refused.value)


# -- waiting


async def test_who_stops_waiting_does_not_undo_the_append(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        release = asyncio.Event()
        first = await busy(journal, release)
        future = journal.append(unit(1))
        future.cancel()
        release.set()
        await first
        await journal.append(unit(2))
        assert len(streams(engine)) == 2


async def test_a_failure_nobody_waits_for_is_not_swallowed_by_another(database_url: str) -> None:
    async with writing_to(database_url) as (journal, _):
        first = opening(1)
        await journal.append(Unit((first,)))
        results = await together(
            journal,
            lambda: journal.append(Unit((holding(first),), lease=Lease("elsewhere", 7))),
            lambda: journal.call(lambda c: "an answer"),
        )
        assert isinstance(results[0], LeaseLost)
        assert results[1] == "an answer"
        gc.collect()


async def test_a_claim_from_the_start_holds_the_stream(database_url: str) -> None:
    async with writing_to(database_url) as (journal, engine):
        first = opening(1)
        await journal.append(Unit((first,), claim=Claim("we", NOON + agenda.LEASE_TERM)))
        with reading(engine) as connection:
            assert agenda.holders(connection) == ["we"]
        assert isinstance(first.after, Message)
        lease = Lease(first.stream, agenda.first_fence(first.after))
        await journal.append(Unit((holding(first),), lease=lease))


async def test_the_seams_are_passed_around_each_commit(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    async with writing_to(sqlite_url) as (journal, _):
        monkeypatch.setattr(seams, "reached", passed.append)
        before = Mailbox(name="info")
        failed = PollFailed(mailbox="info", kind="auth", permanent=True, text="wrong password")
        await journal.append(Unit((Append(mailbox_stream("info"), before, (failed,), NOON),)))
        assert passed == ["before-commit poll-failed", "after-commit poll-failed"]
        passed.clear()
        append = Append(mailbox_stream("info"), before, (PollRecovered(mailbox="info"),), NOON)
        with pytest.raises(Conflict):
            await journal.append(Unit((append,)))
