"""What is on record of a mailbox: its own stream, and what its UIDLs look like there."""

from __future__ import annotations

from engine.core.listing import Difference
from engine.means import Means
from store import mailbox_queries
from store.agenda import Lease
from store.errors import Conflict
from store.events import MailboxEvent
from store.log import Append, Unit
from store.mailbox_events import UidlResetSuspected, mailbox_stream
from store.mailbox_life import Mailbox


async def record(
    means: Means, mailbox: str, events: tuple[MailboxEvent, ...], lease: Lease | None = None
) -> None:
    """Append to a mailbox's stream, whatever else is appended to it meanwhile. Raises LeaseLost for a lease that is lost."""
    now = means.now()
    while True:
        before = await means.read(lambda c: mailbox_queries.mailbox(c, mailbox))
        try:
            append = Append(mailbox_stream(mailbox), before, events, now)
            await means.journal.append(Unit((append,), lease=lease, keep=True))
        except Conflict:
            continue
        return


async def suspend(means: Means, standing: Mailbox, listed: int, difference: Difference, lease: Lease) -> None:
    """Record that a mailbox's UIDLs seem to be others, unless it is on record already."""
    if standing.health == "suspended":
        return
    event = UidlResetSuspected(
        mailbox=standing.name, listed=listed, vanished=difference.missing, alike=difference.alike
    )
    await record(means, standing.name, (event,), lease)


def uidl_text(uidl: bytes) -> str:
    """Return a UIDL as events have it: each octet as one character."""
    return uidl.decode("latin-1")
