"""What is submitted is durable, in the worker's hands, or refused; never anything between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from engine import acceptance
from engine.acceptance import Acceptance
from engine.opening import opening_of
from engine.ports import NotKept, Octets, Submission
from engine.shares import Share
from store import conserve
from store.conserve import Count
from store.errors import StoreUnreachable
from store.events import Submitted
from store.log import Unit
from tests.engine.rig import Rig, without_trace

SUBMISSION = Submission(
    peer="127.0.0.1",
    helo="home.example",
    protocol="ESMTP",
    tls="none",
    user=None,
    reverse_path="anna@example.com",
    recipients=("bob@customer.example",),
)
LETTER = b"Subject: hello\r\n\r\nhello\r\n"


@asynccontextmanager
async def rigged(url: str, **options: Any) -> AsyncIterator[tuple[Rig, Acceptance]]:
    async with Rig(url, **options) as rig:
        yield rig, accepting(rig)


def accepting(rig: Rig) -> Acceptance:
    return Acceptance(
        journal=rig.journal,
        worker=rig.worker if rig.works else None,
    )


async def take(rig: Rig, accept: Acceptance, octets: Octets, submission: Submission = SUBMISSION) -> str:
    """Have a message kept; returns its id."""
    opening = await opening_of(submission, octets, rig.policy, rig.clock())
    await accept.keep(opening, octets, Share(rig.budget))
    return opening.stream


async def test_it_is_worked_on_from_memory(database_url: str) -> None:
    async with rigged(database_url) as (rig, accept):
        kept_as = await take(rig, accept, bytearray(LETTER))
        await rig.settled()
        (message,) = rig.messages()
        assert message.id == kept_as
        assert [without_trace(taken.octets) for taken in rig.home.ledger] == [LETTER]


async def test_without_a_worker_it_waits_for_another_process(database_url: str) -> None:
    async with rigged(database_url, works=False) as (rig, accept):
        await take(rig, accept, LETTER)
        assert rig.home.sessions == []
        await rig.restart(works=True)
        await rig.settled()
        assert len(rig.home.ledger) == 1


async def test_a_full_disk_is_said_and_the_next_message_is_taken_once_there_is_room(sqlite_url: str) -> None:
    async with rigged(sqlite_url, works=False) as (rig, _):
        await rig.stop()
        limit = {"pages": 0}

        @event.listens_for(rig.engine, "connect")
        def bound(connection: Any, _record: Any) -> None:
            if limit["pages"]:
                connection.execute(f"PRAGMA max_page_count={limit['pages']}")

        rig.engine.dispose()
        limit["pages"] = rig.read_now(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
        rig.engine.dispose()
        await rig.start()
        accept = accepting(rig)
        with pytest.raises(NotKept) as caught:
            await take(rig, accept, b"x" * 200_000)
        assert caught.value.full
        limit["pages"] = 1_000_000
        rig.engine.dispose()
        await take(rig, accept, LETTER)
        assert len(rig.messages()) == 1


class Forgetful:
    """A journal whose answer gets lost after the commit, as when the database goes away at that moment."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.losses = 1

    async def append(self, unit: Unit) -> None:
        await self._journal.append(unit)
        if self.losses:
            self.losses -= 1
            raise StoreUnreachable("the connection broke")


async def test_a_commit_nobody_heard_of_is_found_and_not_doubled(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "STORE_RETRY_SECONDS", 0.0)
    async with rigged(database_url) as (rig, accept):
        accept._journal = Forgetful(rig.journal)  # type: ignore[assignment]
        kept_as = await take(rig, accept, LETTER)
        await rig.settled()
        assert [message.id for message in rig.messages()] == [kept_as]
        assert len(rig.home.ledger) == 1
        assert rig.read_now(lambda c: list(conserve.check(c, Count(), rig.clock()))) == []


class Absent:
    """A journal whose database is away."""

    async def append(self, unit: Unit) -> None:
        raise StoreUnreachable("the store can't be used")


async def test_a_store_that_is_away_is_said_once_for_all_the_mail_it_keeps_out(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptance, "STORE_RETRY_SECONDS", 0.0)
    async with rigged(sqlite_url) as (rig, accept):
        accept._journal = Absent()  # type: ignore[assignment]
        for _ in range(20):
            with pytest.raises(NotKept):
                await take(rig, accept, LETTER)
        accept._journal = rig.journal
        await take(rig, accept, LETTER)
        await rig.settled()
    said = [one.getMessage() for one in caplog.records if one.name == "mailgate.listen"]
    assert said == [
        "new mail is refused for now: the store can't be used",
        "new mail is taken again; 20 refused for now meanwhile",
    ]


async def test_mail_to_ourselves_is_inbound(database_url: str) -> None:
    async with rigged(database_url) as (rig, accept):
        inbound = replace(SUBMISSION, recipients=("info@example.com", "sales@example.com"))
        await take(rig, accept, LETTER, inbound)
        await rig.settled()
        (opening,) = rig.events(Submitted)
        assert opening.direction == "inbound"
