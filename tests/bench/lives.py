"""Lives of messages for the benchmarks: what a year of mail leaves in the log, made up in no time.

Skewed as real mail is: half of it goes to one mailbox and one recipient, few senders write most of it, nearly all of it is
delivered at the first attempt. `RARE` names what hardly anybody has, `BUSY` what half of all messages have, so that a
query can be asked for either. The same seed gives the same lives; only ids and salts differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

from engine.core import ids
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Downloaded,
    Event,
    Failed,
    Generated,
    Held,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
    Reported,
    Scanned,
)
from store.log import Append, Entity

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=90)
POLICY = "3f2a91c04b7d"
TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"
ACCEPTED = "2.6.0 <{}> [InternalId=47111] Queued mail for delivery"

BUSY = {"mailbox": "info", "recipient": "info@example.com", "sender": "news@shop.example"}
RARE = {"mailbox": "attic", "recipient": "attic@example.com", "sender": "hermit@hut.example"}
MAILBOXES = ("sales", "support", "jobs", "orders", *(f"box{number}" for number in range(15)))
WORDS = (
    "invoice",
    "order",
    "meeting",
    "report",
    "offer",
    "reply",
    "question",
    "delivery",
    "notice",
    "update",
    "plan",
)

# What becomes of a message, in how many of a million.
FATES = {
    "delivered": 912_700,
    "postponed": 40_000,  # deferred once, then delivered
    "replayed": 5_000,  # delivered, and an hour later once more
    "failed": 20_000,  # a notice goes out as well
    "oversize": 10_000,
    "several": 10_000,  # three recipients, two delivered and one refused
    "held": 1_000,
    "deferred": 1_000,
    "relayed": 200,
    "unknown": 80,
    "received": 20,
}  # fmt: skip

REPLAY = "after-the-move"

UNSCANNED = ("held", "received")  # not come so far

Step = tuple[timedelta, tuple[Event, ...]]


@dataclass(slots=True)
class Life:
    """One stream: how it began, and what is still to come, each so long after the step before."""

    stream: str
    at: datetime
    steps: list[Step]
    octets: bytes | None
    entity: Entity | None = None

    def go_on(self) -> tuple[Event, ...]:
        """Return the events of the next step, and let time go by."""
        wait, happened = self.steps.pop(0)
        self.at += wait
        return happened

    def next(self) -> Append:
        """Return the append of the next step."""
        happened = self.go_on()
        append = Append(
            self.stream, self.entity, happened, self.at, self.octets if self.entity is None else None
        )
        self.entity = append.after
        return append


def batches(count: int, *, seed: int = 1, together: int = 256, octets: int = 0) -> Iterator[list[Life]]:
    """Yield the lives of `count` messages in the order in which they begin, as many at a time as are `together` alive."""
    author = _Author(Random(seed), count, octets)
    for start in range(0, count, together):
        yield [life for number in range(start, min(start + together, count)) for life in author.lives(number)]


class _Author:
    def __init__(self, random: Random, count: int, octets: int) -> None:
        self.random = random
        self.every = SPAN / count
        self.octets = octets
        self.fates = list(FATES)
        self.weights = list(FATES.values())
        self.rare_every = max(1, count // 20)  # twenty of each rare thing, however large the store

    def lives(self, number: int) -> list[Life]:
        """Return the message's life, and that of the notice about it."""
        at = BEGIN + number * self.every
        fate = self.random.choices(self.fates, self.weights)[0]
        stream, facts = ids.message_id(at, self.random.getrandbits(32)), self._facts(number, fate)
        mailbox, uidl = facts["mailbox"], facts["uidl"]
        if fate == "oversize":
            facts |= {"size_octets": 48_300_000, "limit_octets": 10_000_000, "limit_from": "next-hop"}
            return [Life(stream, at, [(timedelta(0), (RejectedOversize(next_hop="home", **facts),))], None)]
        octets = b"Subject: x\r\n\r\n%d" % number + b"x" * self.octets
        opening = Downloaded(
            size_octets=len(octets),
            listed_octets=len(octets),
            content=sha256(octets).hexdigest(),
            bare_newlines=False,
            **facts,
        )
        steps: list[Step] = [(timedelta(0), (opening,))]
        if fate not in UNSCANNED:
            steps.append((timedelta(milliseconds=40), (self._verdict(),)))
        steps += _course(fate, at, len(facts["recipients"]))
        if fate in ("delivered", "postponed", "replayed", "several", "relayed"):
            removed = RemovedFromSource(mailbox=mailbox, uidl=uidl, confirmed_by="quit")
            steps.append((timedelta(seconds=4), (removed,)))
        life = Life(stream, at, steps, octets)
        return [life, self._notice(life)] if fate == "failed" else [life]

    def _facts(self, number: int, fate: str) -> dict[str, Any]:
        random, rare = self.random, number % self.rare_every == self.rare_every // 2
        whose = RARE if rare else BUSY if random.random() < 0.5 else self._usual()
        sender = RARE["sender"] if rare else BUSY["sender"] if random.random() < 0.1 else self._sender()
        recipients = (
            (whose["recipient"],) if fate != "several" else (whose["recipient"], *_colleagues(number))
        )
        words = " ".join(random.choices(WORDS, k=3))
        return {
            "mailbox": whose["mailbox"],
            "uidl": f"{number:08x}{random.getrandbits(32):08x}",
            "recipient_count": len(recipients),
            "policy": POLICY,
            "reverse_path": sender,
            "recipients": recipients,
            "routed_by": ("mailbox recipients",) * len(recipients),
            "message_id": f"<{number}.{random.getrandbits(48):012x}@{sender.partition('@')[2]}>",
            "subject": f"{words} {number}",
            "from_": f"Somebody <{sender}>",
            "date": "Thu, 01 Jan 2026 12:00:00 +0000",
        }

    def _verdict(self) -> Scanned:
        took = int(self.random.lognormvariate(3, 0.5))
        return Scanned(
            scanner="clamd", verdict="clean", engine="ClamAV 1.0.9/27830", duration_ms=took, policy=POLICY
        )

    def _usual(self) -> dict[str, str]:
        mailbox = self.random.choice(MAILBOXES)
        return {"mailbox": mailbox, "recipient": f"{mailbox}.{self.random.randrange(25)}@example.com"}

    def _sender(self) -> str:
        place = int(self.random.paretovariate(0.5)) % 20_000  # few write much, many write once
        return f"person{place}@customer{place % 500}.example"

    def _notice(self, about: Life) -> Life:
        octets = b"Subject: not delivered\r\n\r\n"
        event = Generated(
            kind="failure",
            about=about.stream,
            size_octets=len(octets),
            content=sha256(octets).hexdigest(),
            recipient_count=1,
            recipients=("postmaster@example.com",),
            message_id=f"<{about.stream}@gate.example.com>",
            subject="A message was not delivered",
            from_="mailgate@gate.example.com",
        )
        at = about.at + timedelta(seconds=3)
        stream = ids.message_id(at, self.random.getrandbits(32))
        about.steps.append((timedelta(seconds=1), (Reported(kind="failure", report=stream),)))
        return Life(stream, at, [(timedelta(0), (event,)), *_course("delivered", at, 1)], octets)


def _course(fate: str, at: datetime, recipients: int) -> list[Step]:
    everybody = tuple(range(recipients))
    soon, attempted = timedelta(milliseconds=200), (timedelta(milliseconds=20), (_attempted(everybody, 1),))
    taken = (soon, (_taken(Delivered, everybody, 1),))
    later = Deferred(
        numbers=everybody,
        next_hop="home",
        attempt=1,
        retry_at=at + timedelta(minutes=5),
        scope="message",
        code=451,
        policy=POLICY,
        reply="4.3.2 try again later",
    )
    again = RedeliveryRequested(
        numbers=everybody, bound_for="home", force=True, replay=REPLAY, operator="ann", policy=POLICY
    )
    courses: dict[str, list[Step]] = {
        "delivered": [attempted, taken],
        "postponed": [
            attempted,
            (soon, (later,)),
            (timedelta(minutes=5), (_attempted(everybody, 2),)),
            (soon, (_taken(Delivered, everybody, 2),)),
        ],
        "replayed": [
            attempted,
            taken,
            (timedelta(hours=1), (again,)),
            (soon, (_attempted(everybody, 2),)),
            (soon, (_taken(Delivered, everybody, 2),)),
        ],
        "failed": [attempted, (soon, (_refused(everybody),))],
        "several": [attempted, (soon, (_taken(Delivered, everybody[1:], 1), _refused((0,))))],
        "held": [(timedelta(0), (Held(why="unroutable", rule="no recipient", policy=POLICY),))],
        "deferred": [attempted, (soon, (later,))],
        "relayed": [attempted, (soon, (_taken(Relayed, everybody, 1, "provider"),))],
        "unknown": [attempted],
        "received": [],
    }
    return courses[fate]


def _attempted(numbers: tuple[int, ...], attempt: int) -> Attempted:
    return Attempted(numbers=numbers, next_hop="home", attempt=attempt, rule="own domain", policy=POLICY)


def _taken(
    kind: type[Delivered] | type[Relayed], numbers: tuple[int, ...], attempt: int, next_hop: str = "home"
) -> Event:
    return kind(
        numbers=numbers,
        next_hop=next_hop,
        attempt=attempt,
        address="192.0.2.25:25",
        tls=TLS,
        code=250,
        duration_ms=212,
        reply=ACCEPTED.format(attempt),
    )


def _refused(numbers: tuple[int, ...]) -> Failed:
    return Failed(
        numbers=numbers,
        reason="rejected",
        next_hop="home",
        attempt=1,
        code=550,
        policy=POLICY,
        reply="5.1.1 no such recipient here",
    )


def _colleagues(number: int) -> Sequence[str]:
    return [f"colleague{number % 97}@example.com", f"colleague{number % 89 + 97}@example.com"]
