"""Erase what is personal of messages, beside a running gateway or without one.

What is asked for by address is looked for in the whole log: a message is found wherever its facts name the person, and a notice
of our own also where its text does. With each message go the notices and reports that quote it, and before it, for by it they
are found. Each is done whole or not at all, some in one transaction; given again, an erasure goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from engine import quoting
from engine.core.erasing import Answer, Going, Request, Staying, ask
from engine.core.policy import Policy
from engine.quoting import Quotable
from engine.under_way import worked_on
from store import erasing, log
from store.errors import Damaged, UnknownEvent
from store.events import Delivered, Discarded, Event, Failed, KeptNoLonger, MessageEvent, Reported
from store.life import Message
from store.mailbox_events import MAILBOX_PREFIX
from store.mentions import Named, mentions
from store.turns import writing_in_turn

BATCH = 20  # messages in one transaction: their octets are overwritten, and a gateway waits

TEXT = "text"  # of a notice, where its facts don't name the person

Facts = Mapping[str, tuple[str, ...]]  # the names of the facts that name somebody, by stream


@dataclass(slots=True)
class Found:
    """Where addresses stand: in which facts of which messages, and in how many events that are never redacted."""

    facts: dict[str, tuple[str, ...]]
    kept: int = 0

    def add(self, stream: str, names: Iterable[str]) -> None:
        """Take note of more facts of a message."""
        self.facts[stream] = tuple(dict.fromkeys((*self.facts.get(stream, ()), *names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A message to be erased; `about` are those asked for that it quotes, as a notice or a report."""

    stream: str
    facts: tuple[str, ...] = ()  # that name the person
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """What comes of it for one message; `message` is None where there is none, or it can't be read."""

    target: Target
    message: Message | None
    answer: Answer

    @property
    def discarded(self) -> bool:
        """Whether it is discarded first."""
        return self._comes_first(Discarded)

    @property
    def kept(self) -> bool:
        """Whether it was to be kept."""
        return self._comes_first(KeptNoLonger)

    def _comes_first(self, kind: type[MessageEvent]) -> bool:
        return isinstance(self.answer, Going) and any(isinstance(one, kind) for one in self.answer.first)


def find(connection: Connection, addresses: Sequence[str]) -> Found:
    """Look for these addresses: through the log, and through the text of what we wrote ourselves."""
    found = Found({})
    for address in addresses:
        for one in mentions(connection, address):
            found.kept += bool(one.others or (one.personal and one.event == "erased"))
            if one.personal and one.event != "erased" and not one.stream.startswith(MAILBOX_PREFIX):
                found.add(one.stream, one.personal)
    named = [Named(address) for address in addresses]
    for notice, text in quoting.notices(connection):
        if any(one.in_prose(text) for one in named):
            found.add(notice, (TEXT,))
    return found


def targets(connection: Connection, asked: Facts) -> Iterator[Target]:
    """Yield the notices and reports that quote the messages asked for, then these, and none twice."""
    about: dict[str, dict[str, None]] = {}
    quotable = Quotable()
    for stream in asked:
        for event in _readable(connection, stream):
            quotable.add(stream, event)
            if isinstance(event, Reported | Delivered | Failed) and event.report is not None:
                about.setdefault(event.report, {})[stream] = None
    for notice, text in quoting.notices(connection):
        for stream in quotable.quoted(text):
            about.setdefault(notice, {})[stream] = None
    yield from (Target(stream=one, about=tuple(its)) for one, its in about.items() if one not in asked)
    yield from (Target(stream=stream, facts=facts) for stream, facts in asked.items())


class Erasure:
    """One request, for many messages."""

    def __init__(
        self,
        engine: Engine,
        request: Request,
        *,
        policy: Policy,
        gateway_runs: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._request = request
        self._policy = policy
        self._gateway_runs = gateway_runs
        self._now = now

    def foreseen(self, connection: Connection, those: Iterable[Target]) -> Iterator[Erasing]:
        """Yield what would come of it now for each message; nothing is changed."""
        stay: dict[str, bool] = {}
        for target in those:
            yield self._asked(connection, target, stay)

    def carry_out(self, those: Sequence[Target]) -> Iterator[Erasing]:
        """Yield what came of it for each message, once it is on record."""
        stay: dict[str, bool] = {}
        for start in range(0, len(those), BATCH):
            with writing_in_turn(self._engine) as connection:
                erasing.overwrite(connection)
                done = [self._erased(connection, target, stay) for target in those[start : start + BATCH]]
            yield from done

    def _erased(self, connection: Connection, target: Target, stay: dict[str, bool]) -> Erasing:
        one = self._asked(connection, target, stay)
        if not isinstance(one.answer, Going):
            return one
        after = erasing.erase(
            connection,
            target.stream,
            operator=self._request.operator,
            reason=self._request.reason,
            at=self._now(),
            first=one.answer.first,
        )
        return Erasing(target=target, message=after, answer=one.answer)

    def _asked(self, connection: Connection, target: Target, stay: dict[str, bool]) -> Erasing:
        """Decide on one; what only quotes messages that are left as they are is left with them. `stay` gathers these."""
        one = self._judged(connection, target)
        about = target.about if isinstance(one.answer, Going) else ()
        if about and all(self._stays(connection, its, stay) for its in about):
            answer = Staying(text=f"{about[0]} is left, too")
            one = Erasing(target=target, message=one.message, answer=answer)
        stay[target.stream] = _left(one.answer)
        return one

    def _stays(self, connection: Connection, stream: str, stay: dict[str, bool]) -> bool:
        if stream not in stay:
            stay[stream] = _left(self._judged(connection, Target(stream=stream)).answer)
        return stay[stream]

    def _judged(self, connection: Connection, target: Target) -> Erasing:
        try:
            message = log.message(connection, target.stream)
        except (Damaged, UnknownEvent) as error:  # of this message; the others go on
            return Erasing(target=target, message=None, answer=Staying(text=str(error)))
        if message is None:
            return Erasing(target=target, message=None, answer=Staying(text="there is no such message"))
        answer = ask(
            message,
            self._request,
            self._policy,
            worked_on=worked_on(connection, message, self._now(), self._gateway_runs),
            facts=len(erasing.left(connection, target.stream)),
            octets=erasing.has_octets(connection, target.stream),
        )
        return Erasing(target=target, message=message, answer=answer)


def _left(answer: Answer) -> bool:
    return isinstance(answer, Staying) and not answer.done


def _readable(connection: Connection, stream: str) -> Iterator[Event]:
    """Yield what happened to a message; nothing where that can't be read, which is said where it is judged."""
    try:
        recorded = log.read(connection, stream)
    except (Damaged, UnknownEvent):
        return
    yield from (one.event for one in recorded)
