"""Messages put into a house's store as the listener puts them there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import migrations
from engine import clock, settings
from engine.journal import Journal
from engine.ports import Submission
from engine.wiring import policy_of
from store.database import open_store
from store.log import Unit
from tests.engine.situations import opened_by
from tests.life.house import House

CONTENT = (
    b"From: Anna <anna@example.com>\r\nSubject: outgoing\r\nMessage-ID: <1@example.com>\r\n\r\nHello\r\n"
)


def submission(
    *recipients: str, sender: str = "anna@example.com", user: str | None = None, **more: Any
) -> Submission:
    """The envelope of one message."""
    wanted = {
        "peer": "127.0.0.1",
        "helo": "exchange.example.local",
        "protocol": "ESMTP",
        "tls": "none",
    } | more
    return Submission(user=user, reverse_path=sender, recipients=recipients, **wanted)


def submit(house: House, *submissions: Submission) -> list[str]:
    """Take these in; returns the ids of the messages."""
    house.write()
    return asyncio.run(_submit(house, submissions))


async def _submit(house: House, submissions: Iterable[Submission]) -> list[str]:
    engine = open_store(house.store_url)
    migrations.upgrade(engine)
    journal = Journal(engine)
    try:
        policy = policy_of(settings.load(house.config))
        appends = [await opened_by(one, CONTENT, policy, clock.now()) for one in submissions]
        await asyncio.gather(*(journal.append(Unit((append,))) for append in appends))
        return [append.stream for append in appends]
    finally:
        await journal.close()
        engine.dispose()
