"""Random histories, such as the engine could have written: every kind of event, in an order that can happen.

Give it a `random.Random`, or hypothesis' own, and it yields units until it is enough. What a stream adds up to is
kept along, so that a later unit may follow an earlier one within the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Engine

from store import contents, log
from store.database import writing
from store.events import (
    ContentsPurged,
    Discarded,
    Event,
    Generated,
    Held,
    Imported,
    Kept,
    KeptNoLonger,
    MailboxEvent,
    RedeliveryRequested,
    RejectedOversize,
    Released,
    RemovedFromSource,
    Reported,
    Scanned,
)
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import (
    Adopted,
    Adoption,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    UidlResetSuspected,
    Undeleted,
    Withheld,
    mailbox_stream,
)
from store.mailbox_life import Mailbox
from tests.store.build import (
    NOW,
    POLICY,
    attempted,
    deferred,
    delivered,
    downloaded,
    failed,
    generated,
    oversize,
    quarantined,
    relayed,
    scanned,
    submitted,
)

HOPS = ("home", "branch", "provider", "mx:customer.example")
MAILBOXES = ("info", "sales", "büro")
PEOPLE = ("anna@customer.example", "Bob@Customer.example", "jürgen@straße.example", "", "x_y%z@odd.example")
OURS = ("info@example.com", "Sales@example.com", "straße@example.com", "o'hara@example.com")
SCANNERS = ("clamd", "spamd")
SUBJECTS = ("Invoice 4711", "ÜBER uns", "100% off_now", "nul \0 in it", "日本語 \U0001f4e8", "", None)
UIDLS = ("with a space", "\xff\xfe\x80", "nul\0", "", "a" * 70)


class History:
    """A growing history. `alive` is what each message adds up to now."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.at = NOW
        self.alive: dict[str, Message] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.adopted: list[tuple[str, str]] = []
        self.copies: list[tuple[str, str, str]] = []  # message, mailbox, and another UIDL it is there under
        self._number = 0

    def units(self, count: int) -> Iterator[Unit]:
        """Yield at least `count` units, and the rest of what began with the last."""
        steps: list[Callable[[], Iterator[Unit]]] = [
            *(self.download,) * 4,
            self.submit,
            self.take_in,
            self.ask_again,
            *(self.work,) * 8,
            self.too_large,
            self.remove,
            self.poll,
            self.adopt,
            self.hold,
            self.release,
            self.give_up,
            self.postpone,
            self.scan,
            self.quarantine,
            self.purge,
            self.exempt,
            self.tell,
        ]
        while count > 0:
            pause = self.random.choice((timedelta(0), timedelta(microseconds=1), timedelta(minutes=7)))
            self.at += pause * self.random.randrange(1, 4)
            for unit in self.random.choice(steps)():
                count -= 1
                yield unit

    # -- what begins

    def download(self) -> Iterator[Unit]:
        recipients = tuple(self.random.sample(OURS, self.random.choice((0, 1, 1, 1, 2, 3))))
        octets = f"Subject: {self._next()}\r\n\r\n".encode()
        opening = downloaded(
            octets,
            mailbox=self.random.choice(MAILBOXES),
            uidl=self._uidl(),
            recipients=recipients,
            reverse_path=self.random.choice(PEOPLE),
            subject=self.random.choice(SUBJECTS),
            message_id=f"<{self._number}@customer.example>" if self.random.random() < 0.8 else None,
            from_=self.random.choice((None, "Anna <anna@customer.example>")),
            bare_newlines=self.random.random() < 0.1,
        )
        held = Held(why="unroutable", rule="nobody is named", policy=POLICY)
        loop = Held(why="loop", rule="seen twice", policy=POLICY)
        events: tuple[Event, ...] = (opening,) if recipients else (opening, held)
        if recipients and self.random.random() < 0.1:
            events = (opening, loop)
        yield Unit((self._append(self._stream(), *events, octets=octets),))

    def submit(self) -> Iterator[Unit]:
        """A client hands something in; it may name somebody twice, in capitals."""
        whom = tuple(self.random.sample((*OURS, "bob@customer.example"), self.random.choice((1, 1, 2))))
        if self.random.random() < 0.3:
            whom = (*whom, whom[0].swapcase())
        octets = f"Subject: {self._next()}\r\n\r\n".encode()
        opening = submitted(
            octets,
            direction=self.random.choice(("outbound", "inbound")),
            recipients=whom,
            recipient_count=len(whom),
            reverse_path=self.random.choice(PEOPLE),
            subject=self.random.choice(SUBJECTS),
        )
        yield Unit((self._append(self._stream(), opening, octets=octets),))

    def take_in(self) -> Iterator[Unit]:
        """A person gives a message in a file."""
        octets = f"Subject: {self._next()}\r\n\r\n".encode()
        whom = tuple(self.random.sample((*OURS, "bob@customer.example"), self.random.choice((1, 2))))
        opening = Imported(
            direction=self.random.choice(("outbound", "inbound")),
            size_octets=len(octets),
            content=sha256(octets).hexdigest(),
            bare_newlines=False,
            recipient_count=len(whom),
            operator="anna",
            policy=POLICY,
            file="found.eml",
            reverse_path=self.random.choice(PEOPLE),
            recipients=whom,
            subject=self.random.choice(SUBJECTS),
        )
        yield Unit((self._append(self._stream(), opening, octets=octets),))

    def too_large(self) -> Iterator[Unit]:
        stream = self._stream()
        recipients = tuple(self.random.sample(OURS, self.random.choice((0, 1, 2))))
        opening = oversize(
            mailbox=self.random.choice(MAILBOXES),
            uidl=self._uidl(),
            recipients=recipients,
            recipient_count=len(recipients),
            limit_from="next-hop",
            next_hop="home",
            subject=self.random.choice(SUBJECTS),
        )
        yield Unit(self._told(stream, None, (opening,), "oversize", len(recipients)))

    # -- what becomes of it

    def work(self) -> Iterator[Unit]:
        """One attempt of one message and its answer; or the answer never comes."""
        message = self._some(lambda m: m.due_at is not None and m.content is not None)
        if message is None:
            return
        awaited = [r for r in message.recipients if r.open and not r.held]
        cut_off = [r.number for r in awaited if r.state == "outcome-unknown" and r.retry_at is None]
        if cut_off:
            yield self._unknown(message, cut_off)
            return
        if not awaited:
            return
        numbers = sorted(self._part([r.number for r in awaited]))
        hop = self.random.choice(HOPS)
        attempt = attempted(
            *numbers,
            next_hop=hop,
            attempt=message.attempts + 1,
            recipients=tuple(message.recipients[n].address for n in numbers),
        )
        yield Unit((self._append(message.id, attempt),))
        if self.random.random() < 0.1:
            return  # killed
        self.at += timedelta(milliseconds=self.random.randrange(1, 2000))
        yield self._answered(self.alive[message.id], numbers, hop)

    def _answered(self, message: Message, numbers: list[int], hop: str) -> Unit:
        fact: dict[str, Any] = {"next_hop": hop, "attempt": message.attempts}
        later = self.at + timedelta(minutes=self.random.choice((5, 5, 10, 60)))
        kind = self.random.choice(
            ("taken", "taken", "taken", "later", "resting", "unknown", "refused", "mixed", "large")
        )
        match kind:
            case "taken":
                take = self.random.choice((delivered, delivered, relayed))
                return Unit((self._append(message.id, take(*numbers, **fact)),))
            case "later":
                return Unit((self._append(message.id, deferred(*numbers, retry_at=later, **fact)),))
            case "resting":
                event = deferred(*numbers, retry_at=later, scope="next-hop", reply="no \0 route", **fact)
                return Unit((self._append(message.id, event),))
            case "unknown":
                return self._unknown(message, numbers)
            case "refused":
                return Unit(self._told(message.id, message, (failed(*numbers, **fact),), "failure", 1))
            case "mixed":
                yes, no = (*numbers[:1],), (*numbers[1:],)
                events: tuple[Event, ...] = (delivered(*yes, **fact),)
                if no:
                    events += (deferred(*no, retry_at=later, scope="recipient", **fact),)
                return Unit((self._append(message.id, *events),))
            case _:
                return self._refused_for_its_size(message, hop)

    def _refused_for_its_size(self, message: Message, hop: str) -> Unit:
        event = RejectedOversize(
            size_octets=message.size_octets,
            limit_octets=self.random.randrange(1_000_000, 9_000_000),
            limit_from="next-hop",
            next_hop=hop,
            policy=POLICY,
            reply="552 5.3.4 too large",
        )
        return Unit(self._told(message.id, message, (event,), "oversize", 1))

    def _unknown(self, message: Message, numbers: list[int]) -> Unit:
        hop = next(r.next_hop for r in message.recipients if r.number in numbers) or "home"
        event: Event = Held(
            why="outcome-unknown", rule=f"{hop}: no answer", numbers=tuple(numbers), policy=POLICY
        )
        if self.random.random() < 0.7:
            event = deferred(
                *numbers, next_hop=hop, unknown=True, code=None, retry_at=self.at, reply="no answer"
            )
        return Unit((self._append(message.id, event),))

    def postpone(self) -> Iterator[Unit]:
        """Its next hop is known to be down."""
        message = self._some(lambda m: m.due_at is not None and bool(m.recipients))
        numbers = (
            [r.number for r in message.recipients if r.state in ("received", "deferred")] if message else []
        )
        if message is None or not numbers:
            return
        event = deferred(
            *numbers,
            next_hop=self.random.choice(HOPS),
            scope="next-hop",
            tried=False,
            code=None,
            retry_at=self.at + timedelta(minutes=3),
        )
        yield Unit((self._append(message.id, event),))

    def scan(self) -> Iterator[Unit]:
        """A scanner says something, or can't be asked; sometimes when it is too late."""
        message = self._some(lambda m: m.content is not None)
        if message is None:
            return
        verdict = self.random.choice(("clean", "infected", "spam", "unscannable", "error"))
        later = self.at + timedelta(minutes=3)
        event = Scanned(
            scanner=self.random.choice(SCANNERS),
            verdict=verdict,  # type: ignore[arg-type]
            score=self.random.choice((None, 7.5)),
            duration_ms=self.random.randrange(9_000),
            retry_at=self.random.choice((None, later)) if verdict == "error" else None,
            blame=self.random.choice(("scanner", "message")) if verdict == "error" else None,
            late=not message.open or self.random.random() < 0.1,
            policy=POLICY,
            detail=self.random.choice(("", "a \0 detail")),
        )
        yield Unit((self._append(message.id, event),))

    def hold(self) -> Iterator[Unit]:
        message = self._some(lambda m: m.open)
        if message is None:
            return
        until = self.at + timedelta(days=1) if self.random.random() < 0.5 else None
        held = Held(
            why="operator", rule="by hand", until=until, operator="anna", reason="a \0 reason", policy=POLICY
        )
        received = [r.number for r in message.recipients if r.state == "received"]
        if received and self.random.random() < 0.5:
            numbers = tuple(self._part(received))
            held = Held(why="unroutable", rule="no route", numbers=numbers, policy=POLICY)
        yield Unit((self._append(message.id, held),))

    def quarantine(self) -> Iterator[Unit]:
        """A scanner found something before it was tried."""
        message = self._some(lambda m: m.state == "received" and m.attempts == 0 and bool(m.recipients))
        if message is None:
            return
        found = scanned("infected", signature="Eicar")
        kept = quarantined(numbers=tuple(r.number for r in message.recipients if r.open))
        yield Unit((self._append(message.id, found, kept),))

    def purge(self) -> Iterator[Unit]:
        """The octets of what is closed are dropped."""
        message = self._some(lambda m: not m.open and m.kept)
        if message is not None:
            purged = ContentsPurged(reason="retention.contents: 30d", policy=POLICY)
            yield Unit((self._append(message.id, purged),))

    def tell(self) -> Iterator[Unit]:
        """The postmaster is told of trouble, or of its end."""
        kind, concerns = self.random.choice(
            (("next-hop-down", "home"), ("next-hop-up", "home"), ("scanner-down", "clamd"), ("daily", None))
        )
        octets = f"Subject: news {self._next()}\r\n\r\n".encode()
        notice = generated(octets, kind=kind, about="", concerns=concerns, subject="News")
        yield Unit((self._append(self._stream(), notice, octets=octets),))

    def exempt(self) -> Iterator[Unit]:
        """A person says that it is to be kept, or no longer."""
        message = self._some(lambda m: m.exempt_since is not None or self.random.random() < 0.5)
        if message is not None:
            kind = Kept if message.exempt_since is None else KeptNoLonger
            event = kind(operator="anna", policy=POLICY, reason="a \0 reason")
            yield Unit((self._append(message.id, event),))

    def release(self) -> Iterator[Unit]:
        """What is held goes on; for nobody: somebody is named now."""
        message = self._some(lambda m: m.open and (not m.recipients or any(r.held for r in m.recipients)))
        if message is None:
            return
        event = Released(operator="anna", policy=POLICY, reason="it may go")
        if not message.recipients:
            named = tuple(self.random.sample(OURS, 2))
            by = ("fallback: nobody", "a \0 rule")
            event = Released(numbers=(0, 1), operator="anna", policy=POLICY, recipients=named, routed_by=by)
        event = replace(event, bound_for=self.random.choice((None, *HOPS)))
        yield Unit((self._append(message.id, event),))

    def ask_again(self) -> Iterator[Unit]:
        """A person wants it delivered again, to some of its recipients, to others, or to the same ones once more."""
        message = self._some(lambda m: m.kept and bool(m.recipients))
        if message is None:
            return
        numbers = tuple(sorted(self._part([r.number for r in message.recipients])))
        others = tuple(self.random.sample(OURS, self.random.choice((0, 0, 1, 2))))
        event = RedeliveryRequested(
            numbers=numbers,
            added=len(others),
            bound_for=self.random.choice((None, *HOPS)),
            force=self.random.random() < 0.5,
            replay=f"replay {self._next()}",
            operator="anna",
            policy=POLICY,
            recipients=(*(message.recipients[n].address for n in numbers), *others),
        )
        yield Unit((self._append(message.id, event),))

    def give_up(self) -> Iterator[Unit]:
        """A person discards or fails what is left, or a part of it."""
        message = self._some(lambda m: m.open and self.random.random() < 0.3)
        if message is None:
            return
        left = [r.number for r in message.recipients if r.open]
        numbers = tuple(sorted(self._part(left))) if left else ()
        event: Event = Discarded(numbers=numbers, operator="anna", policy=POLICY, reason="nobody wants it")
        if self.random.random() < 0.5:
            event = failed(*numbers, next_hop=None, reason="operator", code=None, operator="anna", reply=None)
            event = replace(event, numbers=numbers)
        yield Unit((self._append(message.id, event),))

    def remove(self) -> Iterator[Unit]:
        if self.copies and self.random.random() < 0.3:
            stream, mailbox, uidl = self.copies.pop(self.random.randrange(len(self.copies)))
            copy = RemovedFromSource(mailbox=mailbox, uidl=uidl, confirmed_by="listing")
            yield Unit((self._append(stream, copy),))
            return
        message = self._some(lambda m: m.mailbox is not None and not m.removed)
        if message is None or message.uidl is None or message.mailbox is None:
            return
        how = self.random.choice(("quit", "listing"))
        event = RemovedFromSource(mailbox=message.mailbox, uidl=message.uidl, confirmed_by=how)  # type: ignore[arg-type]
        yield Unit((self._append(message.id, event),))

    # -- mailboxes

    def poll(self) -> Iterator[Unit]:
        name = self.random.choice(MAILBOXES)
        kind = self.random.choice(("connect", "auth", "tls"))
        event: MailboxEvent = self.random.choice(
            (
                PollFailed(mailbox=name, kind=kind, permanent=kind == "auth", text="-ERR \0 no"),  # type: ignore[arg-type]
                PollRecovered(mailbox=name),
                PollFinished(
                    mailbox=name,
                    listed=9,
                    downloaded=3,
                    oversize=1,
                    refused=0,
                    downloaded_octets=77,
                    duration_ms=5,
                    withheld=self._withheld(),
                    more_withheld=self.random.randrange(2),
                ),
                MarkedAsDeleted(
                    mailbox=name,
                    marked=tuple(f"m{n}" for n in range(self.random.randrange(3))),
                    refused=tuple(
                        Undeleted(message=f"m{n}", uidl="u", size_octets=n, text="\0 no", since=self.at)
                        for n in range(self.random.randrange(3))
                    ),
                    more_refused=self.random.randrange(2),
                ),
                UidlResetSuspected(mailbox=name, listed=9, vanished=8, alike=7),
            )
        )
        yield Unit((self._on_mailbox(name, event),))

    def _withheld(self) -> tuple[Withheld, ...]:
        return tuple(
            Withheld(uidl=self._uidl(), size_octets=n, breaks=n > 0, text="-ERR \0 no", since=self.at)
            for n in range(self.random.randrange(3))
        )

    def adopt(self) -> Iterator[Unit]:
        """By a person, or because the octets were recognised; and what was adopted leaves again."""
        name = self.random.choice(MAILBOXES)
        if self.adopted and self.random.random() < 0.4:
            mailbox, uidl = self.adopted.pop(self.random.randrange(len(self.adopted)))
            gone = RemovedFromSource(mailbox=mailbox, uidl=uidl, confirmed_by="listing")
            yield Unit((self._on_mailbox(mailbox, gone),))
            return
        known = self._some(lambda m: m.mailbox == name)
        if known is not None and self.random.random() < 0.5:
            uidl = self.random.choice((self._uidl(), known.uidl or ""))  # the same: listed with another size
            again = Adoption(uidl=uidl, size_octets=known.listed_octets + 1, message=known.id)
            event = Adopted(mailbox=name, uidls=(again,), operator="mailgate", reason="the same octets")
            self.copies.append((known.id, name, again.uidl))
        else:
            taken = tuple(
                Adoption(uidl=self._uidl(), size_octets=n) for n in range(self.random.randrange(1, 4))
            )
            self.adopted += [(name, one.uidl) for one in taken]
            event = Adopted(mailbox=name, uidls=taken, operator="anna", reason="old mail")
        yield Unit((self._on_mailbox(name, event),))

    # -- appending

    def _told(
        self, stream: str, before: Message | None, events: tuple[Event, ...], kind: Any, notices: int
    ) -> tuple[Append, ...]:
        """Events and the notices they call for: several streams in one unit."""
        if before is not None and before.direction == "internal":
            notices = 0  # never about a notice
        opened: list[Append] = []
        told: tuple[Event, ...] = ()
        for _ in range(notices):
            octets = f"Subject: notice {self._next()}\r\n\r\n".encode()
            notice: Generated = generated(octets, kind=kind, about=stream, subject="Not delivered")
            opened.append(self._append(self._stream(), notice, octets=octets))
            told += (Reported(kind=kind, report=opened[-1].stream),)
        return (self._append(stream, *events, *told), *opened)

    def _append(self, stream: str, *events: Event, octets: bytes | None = None) -> Append:
        append = Append(stream, self.alive.get(stream), events, self.at, octets)
        assert isinstance(append.after, Message)
        self.alive[stream] = append.after
        return append

    def _on_mailbox(self, name: str, event: MailboxEvent) -> Append:
        append = Append(mailbox_stream(name), self.mailboxes.get(name), (event,), self.at)
        assert isinstance(append.after, Mailbox)
        self.mailboxes[name] = append.after
        return append

    def _some(self, fits: Callable[[Message], bool]) -> Message | None:
        fitting = [message for message in self.alive.values() if fits(message)]
        return self.random.choice(fitting) if fitting else None

    def _part(self, numbers: list[int]) -> list[int]:
        return self.random.sample(numbers, self.random.randrange(1, len(numbers) + 1))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _stream(self) -> str:
        """Ids sort by anything but the order in which they came."""
        return sha256(f"{self._next()}".encode()).hexdigest()[:16]

    def _uidl(self) -> str:
        return self.random.choice(UIDLS) if self.random.random() < 0.3 else f"uidl-{self._next()}"


def write(engine: Engine, history: History, count: int) -> None:
    """Append a history in batches of random size."""
    units = list(history.units(count))
    while units:
        size = history.random.choice((1, 2, 5, 12, 150))  # a quiet gateway, and one with much to do
        batch, units = units[:size], units[size:]
        with writing(engine) as connection:
            answers = log.append(connection, batch)
            appends = [append for unit in batch for append in unit.appends]
            purged = [a.stream for a in appends if any(isinstance(e, ContentsPurged) for e in a.events)]
            contents.drop(connection, purged)
        assert answers == [None] * len(batch)
