"""Erase what is personal of messages, beside a running gateway or without one.

What is asked for by address is looked for in the whole log: a message is found wherever its facts name the person. With each
message go the notices and reports about it, for they quote it. Each is done whole or not at all, some in one transaction; given
again, an erasure goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from engine.core.erasing import Answer, Going, Request, Staying, ask
from engine.core.policy import Policy
from engine.under_way import worked_on
from store import erasing, log
from store.database import writing
from store.errors import Damaged, UnknownEvent
from store.events import Delivered, Discarded, Failed, KeptNoLonger, MessageEvent, Reported
from store.life import Message
from store.mailbox_events import MAILBOX_PREFIX
from store.mentions import mentions

BATCH = 20  # messages in one transaction: their octets are overwritten, and a gateway waits

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
    """A message to be erased; `about` is the one that it is a notice or a report about."""

    stream: str
    facts: tuple[str, ...] = ()  # that name the person
    about: str | None = None


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
    """Look through the log for these addresses."""
    found = Found({})
    for address in addresses:
        for one in mentions(connection, address):
            found.kept += bool(one.others or (one.personal and one.event == "erased"))
            if one.personal and one.event != "erased" and not one.stream.startswith(MAILBOX_PREFIX):
                found.add(one.stream, one.personal)
    return found


def targets(connection: Connection, asked: Facts) -> Iterator[Target]:
    """Yield the messages asked for, each with the notices and reports about it behind it, and none twice."""
    seen = set(asked)
    for stream, facts in asked.items():
        yield Target(stream=stream, facts=facts)
        for report in _reports(connection, stream):
            if report not in seen:
                seen.add(report)
                yield Target(stream=report, about=stream)


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
        left: set[str] = set()
        for target in those:
            yield self._asked(connection, target, left)

    def carry_out(self, those: Sequence[Target]) -> Iterator[Erasing]:
        """Yield what came of it for each message, once it is on record."""
        left: set[str] = set()
        for start in range(0, len(those), BATCH):
            with writing(self._engine) as connection:
                erasing.overwrite(connection)
                done = [self._erased(connection, target, left) for target in those[start : start + BATCH]]
            yield from done

    def _erased(self, connection: Connection, target: Target, left: set[str]) -> Erasing:
        one = self._asked(connection, target, left)
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

    def _asked(self, connection: Connection, target: Target, left: set[str]) -> Erasing:
        """Decide on one; `left` gathers those that are left as they are, and what is about them with them."""
        one = self._judged(connection, target)
        if target.about in left:
            one = Erasing(
                target=target, message=one.message, answer=Staying(text=f"{target.about} is left, too")
            )
        if isinstance(one.answer, Staying) and not one.answer.done:
            left.add(target.stream)
        return one

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


def _reports(connection: Connection, stream: str) -> Iterator[str]:
    for recorded in log.read(connection, stream):
        if isinstance(recorded.event, Reported | Delivered | Failed) and recorded.event.report is not None:
            yield recorded.event.report
