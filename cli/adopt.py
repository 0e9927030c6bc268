"""Adopting: what a mailbox holds is taken as seen, on a person's word.

Owns the order: list under the mailbox's lease, ask, then record in one transaction what was shown, less what became
known meanwhile. What is on record and no longer listed is recorded as gone, so that a change of all UIDLs is not
suspected again.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import typer
from sqlalchemy import Connection, Engine

from cli import render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure, Misuse
from cli.person import can_be_asked, operator
from engine import loops, wiring
from engine.core import listing
from engine.core.listing import Offer
from engine.ports import SourceTrouble
from engine.settings import Mailbox
from store import agenda, log, mailbox_queries
from store.agenda import Claim, Lease
from store.database import reading, writing
from store.events import Event, RemovedFromSource
from store.log import Append, Unit
from store.mailbox_events import Adopted, Adoption, mailbox_stream
from store.mailbox_life import Known

LEASE_TERM = timedelta(minutes=10)  # listing a mailbox of a hundred thousand messages takes minutes
WAIT_SECONDS = 120.0  # for somebody else's poll to end
LOOK_EVERY_SECONDS = 0.5
ADOPTED_AT_ONCE = 1_000  # UIDLs in one event: some ten kilobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the mailbox held when the person was asked."""

    offers: tuple[Offer, ...]
    unknown: tuple[Offer, ...]
    vanished: tuple[Known, ...]


def adopt(engine: Engine, mailbox: Mailbox, reason: str, *, yes: bool) -> int:
    """Take a mailbox's listing as seen; returns the exit code. Raises Failure."""
    if not yes and not can_be_asked():
        raise Misuse("there is nobody to ask: add --yes")
    with leased(engine, mailbox.name):
        shown = _look(engine, mailbox)
    with reading(engine) as connection:
        suspended = mailbox_queries.mailbox(connection, mailbox.name).health == "suspended"
    _say(mailbox.name, shown, suspended=suspended)
    if not shown.unknown and not shown.vanished and not suspended:
        return EXIT_DONE
    if not yes and not typer.confirm("Go on?"):
        render.line("nothing was changed")
        return EXIT_BAD_NEWS
    with leased(engine, mailbox.name, then_due=True) as lease, writing(engine) as connection:
        taken, gone = _record(connection, mailbox.name, shown, reason, lease)
    render.line(f"{mailbox.name}: {taken:,} adopted" + (f", {gone:,} recorded as gone" if gone else ""))
    return EXIT_DONE


# -- looking


def _look(engine: Engine, mailbox: Mailbox) -> Shown:
    offers, whole = loops.start(offered(mailbox))
    if any(offer.uidl is None for offer in offers):
        raise Failure(
            f"mailbox {mailbox.name}: the server has no UIDL, so there is nothing to remember its messages by"
        )
    with reading(engine) as connection:
        present = mailbox_queries.present(connection, mailbox.name)
    difference = listing.compare(offers, present)
    return Shown(
        offers=offers,
        unknown=tuple(unknown(offers, present)),
        vanished=difference.vanished if whole else (),
    )


async def offered(mailbox: Mailbox) -> tuple[tuple[Offer, ...], bool]:
    """Return what a mailbox offers now, and whether that is all of the listing. Raises Failure."""
    try:
        session = await wiring.open_mailbox(mailbox)
        try:
            offers = await session.listing()
            await session.quit()
        finally:
            await session.abort()
    except SourceTrouble as trouble:
        raise Failure(f"mailbox {mailbox.name}: {trouble}") from None
    return offers, getattr(session, "passed_over", 0) == 0


def unknown(offers: Iterable[Offer], present: Iterable[Known]) -> Iterator[Offer]:
    """Yield the offers that no record stands for. Of those that share a UIDL, first the sizes tell which."""
    sizes: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for one in present:
        sizes[one.uidl][one.size_octets] += 1
    left: list[Offer] = []
    for offer in offers:
        records = sizes[offer.uidl or b""]
        if records[offer.size_octets]:
            records[offer.size_octets] -= 1
        else:
            left.append(offer)
    spare = {uidl: records.total() for uidl, records in sizes.items()}
    for offer in left:
        if spare[offer.uidl or b""]:
            spare[offer.uidl or b""] -= 1
        else:
            yield offer


def _say(name: str, shown: Shown, *, suspended: bool) -> None:
    octets = sum(offer.size_octets for offer in shown.unknown)
    known = len(shown.offers) - len(shown.unknown)
    render.line(f"{name}: {len(shown.offers):,} listed, {known:,} of them known")
    if shown.unknown:
        render.line(
            f"to be taken as seen: {len(shown.unknown):,} ({times.size(octets)});"
            " they will be neither fetched nor deleted"
        )
    if shown.vanished:
        render.line(f"to be recorded as gone: {len(shown.vanished):,} that are no longer listed")
    if suspended:
        render.line("then the mailbox is polled again")
    elif not shown.unknown and not shown.vanished:
        render.line("there is nothing to adopt")


# -- recording


def _record(connection: Connection, name: str, shown: Shown, reason: str, lease: Lease) -> tuple[int, int]:
    """Append it all in one unit; returns how many were adopted, and how many are gone."""
    present = mailbox_queries.present(connection, name)
    still_unknown = set(unknown(shown.offers, present))
    offers = [offer for offer in shown.unknown if offer in still_unknown]
    here = Counter((one.uidl, one.stream) for one in present)
    gone = [one for one in shown.vanished if here[one.uidl, one.stream]]
    now = times.now()
    events: list[Event] = [
        Adopted(mailbox=name, uidls=chunk, operator=operator(), reason=reason) for chunk in _chunks(offers)
    ]
    removed = [
        RemovedFromSource(mailbox=name, uidl=_text(one.uidl), confirmed_by="listing")
        for one in gone
        if one.stream is None
    ]
    before = mailbox_queries.mailbox(connection, name)
    appends = [Append(mailbox_stream(name), before, (*removed, *events), now)]
    for start in range(0, len(gone), log.READ_BATCH):
        streams = [one.stream for one in gone[start : start + log.READ_BATCH] if one.stream is not None]
        for stream, message in log.messages(connection, streams).items():
            uidl = message.uidl or ""
            event = RemovedFromSource(mailbox=name, uidl=uidl, confirmed_by="listing")
            appends.append(Append(stream, message, (event,), now))
    (refusal,) = log.append(connection, [Unit(tuple(appends), lease=lease, keep=True)])
    if refusal is not None:
        raise Failure(f"mailbox {name}: somebody else has taken it meanwhile: try again")
    return len(offers), len(gone)


def _chunks(offers: Sequence[Offer]) -> Iterator[tuple[Adoption, ...]]:
    """Yield the UIDLs by event; one event at least, for it is what ends a suspension."""
    for start in range(0, max(len(offers), 1), ADOPTED_AT_ONCE):
        some = offers[start : start + ADOPTED_AT_ONCE]
        yield tuple(Adoption(uidl=_text(o.uidl or b""), size_octets=o.size_octets) for o in some)


def _text(uidl: bytes) -> str:
    """Return a UIDL as events have it: each octet as one character."""
    return uidl.decode("latin-1")


# -- the lease


@contextmanager
def leased(engine: Engine, name: str, *, then_due: bool = False) -> Iterator[Lease]:
    """Hold the mailbox so that nobody polls it; afterwards it may be due at once."""
    lease = _claimed(engine, name)
    try:
        yield lease
    finally:
        with writing(engine) as connection:
            agenda.give_back(connection, lease, times.now() if then_due else None)


def _claimed(engine: Engine, name: str) -> Lease:
    holder = f"{socket.gethostname()}:{os.getpid()}:adopt"
    give_up_at = time.monotonic() + WAIT_SECONDS
    told = False
    while True:
        now = times.now()
        with writing(engine) as connection:
            claim = Claim(holder, now + LEASE_TERM)
            lease = agenda.claim_stream(connection, mailbox_stream(name), agenda.POLL, claim, now)
        if lease is not None:
            return lease
        if time.monotonic() > give_up_at:
            raise Failure(f"mailbox {name}: is still being polled: try again later")
        if not told:
            print(f"mailbox {name} is being polled: waiting", file=sys.stderr)  # noqa: T201
            told = True
        time.sleep(LOOK_EVERY_SECONDS)
