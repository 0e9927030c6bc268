"""Does everything add up, for a person: what is on record, and what the mailboxes hold right now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from cli import adopt, render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure
from cli.progress import progress
from cli.proof import tell
from cli.render import counted
from engine import loops, settings
from engine.core.listing import Offer, compare
from store import conserve, mailbox_queries
from store.conserve import Count
from store.database import reading
from store.mailbox_life import Mailbox
from store.mailbox_queries import Withholds
from store.read_tables import messages
from store.recipient import ATTENTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that does not add up, about a message or a mailbox."""

    what: str
    message: str | None = None
    mailbox: str | None = None

    def __str__(self) -> str:
        return f"{self.message or f'mailbox {self.mailbox}'}: {self.what}"


def conserved(engine: Engine, mailboxes: Sequence[settings.Mailbox], *, as_json: bool) -> int:
    """Check the whole store, and these mailboxes with it; says what does not add up, and returns the exit code."""
    count = Count()
    on_record = _on_record(engine, count, bars=not as_json)
    bad = tell(chain(on_record, _in_mailboxes(engine, mailboxes, count)), as_json=as_json)
    with reading(engine) as connection:
        oldest = _oldest_open(connection)
        withheld = mailbox_queries.withholding(connection)
    if as_json:
        render.json_line(_as_json(count, oldest, withheld) | {"mailboxes": len(mailboxes)})
    elif not bad:
        _praise(count, oldest, withheld, len(mailboxes))
    return EXIT_BAD_NEWS if bad else EXIT_DONE


def _on_record(engine: Engine, count: Count, *, bars: bool) -> Iterator[Problem]:
    with progress(wanted=bars) as show, reading(engine) as connection:
        for line in conserve.check(connection, count, times.now(), show):
            stream, _, what = line.partition(": ")
            yield Problem(message=stream, what=what)


def _in_mailboxes(engine: Engine, mailboxes: Sequence[settings.Mailbox], count: Count) -> Iterator[Problem]:
    for mailbox in mailboxes:
        for what in _in_mailbox(engine, mailbox):
            count.problems += 1
            yield Problem(mailbox=mailbox.name, what=what)


def _in_mailbox(engine: Engine, mailbox: settings.Mailbox) -> Iterator[str]:
    """Compare what is listed with what is on record, while nobody else has the mailbox."""
    prefix = f"mailbox {mailbox.name}: "
    try:
        with adopt.leased(engine, mailbox.name):
            offers, whole = loops.start(adopt.offered(mailbox))
            with reading(engine) as connection:
                present = mailbox_queries.present(connection, mailbox.name)
                standing = mailbox_queries.mailbox(connection, mailbox.name)
    except Failure as failure:
        yield f"can't be compared: {str(failure).removeprefix(prefix)}"
        return
    if any(offer.uidl is None for offer in offers):
        yield f"can't be compared: its server has no UIDL ({len(offers):,} listed)"
        return
    withheld = {one.uidl for one in standing.withheld}
    for offer in adopt.unknown(offers, present):
        if (offer.uidl or b"").decode("latin-1") not in withheld:  # else it is open
            yield f"{offer.named}: listed, and not on record: {_why(standing)}"
    if not whole:
        yield "a part of its listing can't be read, so what has left it can't be told"
        return
    for one in compare(offers, present).vanished:
        shown = Offer(0, one.size_octets, one.uidl).named
        yield f"{shown}: on record as there, and not listed ({one.stream or 'adopted'})"


def _why(standing: Mailbox) -> str:
    if standing.more_withheld:
        return "the next poll fetches it, or the server does not give it (see 'mailgate mailbox list')"
    return "the next poll fetches it"


def _oldest_open(connection: Connection) -> Any:
    """Return when the oldest open message came in, by the index on states; None for none."""
    first = [
        connection.scalar(select(func.min(messages.c.position)).where(messages.c.state == state))
        for state in ATTENTION
    ]
    positions = [position for position in first if position is not None]
    if not positions:
        return None
    return connection.scalar(select(messages.c.opened_at).where(messages.c.position == min(positions)))


def _as_json(count: Count, oldest: Any, withheld: Sequence[Withholds]) -> dict[str, Any]:
    """Return what was counted; what mailboxes list and do not give is open, too."""
    more = sum(one.number for one in withheld)
    since = [at for at in (oldest, *(one.since for one in withheld)) if at is not None]
    return asdict(count) | {
        "open": count.open + more,
        "withheld": more,
        "oldest_open_at": min(since, default=None),
    }


def _praise(count: Count, oldest: Any, withheld: Sequence[Withholds], mailboxes: int) -> None:
    whole = f"{counted(count.messages, 'message')} for {counted(count.recipients, 'recipient')}"
    render.line(f"{whole}: each recipient has one fate on record, or its message is open")
    if count.open:
        age = times.span(times.now() - oldest) if oldest else "?"
        render.line(f"open: {count.open:,}, the oldest for {age}; 'mailgate queue' shows them")
    for one in withheld:
        listed = f"mailbox {one.mailbox} lists {counted(one.number, 'message')} not to be had"
        render.line(
            f"open: {listed}, for {times.span(times.now() - one.since)}; 'mailgate mailbox list' says why"
        )
    if count.unknown_attempts:
        again = counted(count.unknown_attempts, "attempt")
        render.line(
            f"possible duplicates: {again} got no answer to the final dot; each is on its message's record"
        )
    if mailboxes:
        noun = "mailbox lists" if mailboxes == 1 else "mailboxes list"
        but = " but what is not to be had" if withheld else ""
        render.line(f"{mailboxes:,} {noun} what is on record, and nothing else{but}")
