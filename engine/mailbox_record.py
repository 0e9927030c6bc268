"""What is on record of a mailbox: its own stream, and what its UIDLs look like there."""

from __future__ import annotations

from engine.core.listing import Difference
from engine.means import Means
from store import mailbox_queries
from store.errors import Conflict
from store.events import MailboxEvent
from store.log import Append, Unit
from store.mailbox_events import UidlResetSuspected, mailbox_stream
from store.mailbox_life import Mailbox


async def record(means: Means, mailbox: str, events: tuple[MailboxEvent, ...]) -> None:
    """Append to a mailbox's stream, whatever else is appended to it meanwhile."""
    now = means.now()
    while True:
        before = await means.read(lambda c: mailbox_queries.mailbox(c, mailbox))
        try:
            await means.journal.append(Unit((Append(mailbox_stream(mailbox), before, events, now),)))
        except Conflict:
            continue
        return


async def suspend(means: Means, standing: Mailbox, listed: int, difference: Difference) -> None:
    """Record that a mailbox's UIDLs seem to be others, unless it is on record already."""
    if standing.health == "suspended":
        return
    event = UidlResetSuspected(
        mailbox=standing.name, listed=listed, vanished=difference.missing, alike=difference.alike
    )
    await record(means, standing.name, (event,))


def uidl_text(uidl: bytes) -> str:
    """Return a UIDL as events have it: each octet as one character."""
    return uidl.decode("latin-1")
