"""Carry out what a person decided, beside a running gateway or without one.

Optimistic, as the workers are: read, decide, append; who finds that a message has moved on reads it again. A lease is left
with its holder, who learns from the conflict that the message is another one now. What is just being handed over can't be
called back: it is waited for a little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from engine import notices
from engine.core import routing
from engine.core.orders import Answer, Decided, Order, Refused, UnderWay, carry_out
from engine.core.policy import Policy
from engine.core.routing import MailboxRule, Recipients
from engine.under_way import worked_on
from store import contents, log
from store.database import reading, writing
from store.errors import Damaged, UnknownEvent
from store.life import Message
from store.log import Append, Unit

BATCH = 100  # messages in one transaction: a gateway waits for some milliseconds
WAIT_SECONDS = 10.0  # for the answers to what is being handed over
LOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of an order on one message: it as it is now, None for no such message."""

    stream: str
    message: Message | None
    answer: Answer
    reports: tuple[str, ...] = ()  # the streams of the notices that this called for


class Orders:
    """Carries out one order on many messages."""

    def __init__(
        self,
        engine: Engine,
        order: Order,
        *,
        policy: Policy,
        rules: Mapping[str, MailboxRule],
        gateway_runs: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._order = order
        self._policy = policy
        self._rules = rules  # of the mailboxes, by name
        self._gateway_runs = gateway_runs
        self._now = now

    def foreseen(self, connection: Connection, streams: Sequence[str]) -> Iterator[Done]:
        """Yield what would come of it now for each message; nothing is appended."""
        for stream in streams:
            message, answer = self._answer(connection, stream)
            yield Done(stream=stream, message=message, answer=answer)

    def carry_out(self, streams: Sequence[str], waiting: Callable[[int], None]) -> Iterator[Done]:
        """Yield what came of it for each message; those that must be waited for come last.

        `waiting` is told how many are being handed over, once, before the wait.
        """
        flying: list[str] = []
        for done in self._batches(streams):
            if isinstance(done.answer, UnderWay):
                flying.append(done.stream)
            else:
                yield done
        if flying:
            waiting(len(flying))
            yield from self._waited(flying)

    def _waited(self, flying: list[str]) -> Iterator[Done]:
        give_up_at = time.monotonic() + WAIT_SECONDS
        while flying:
            time.sleep(LOOK_EVERY_SECONDS)
            last = time.monotonic() >= give_up_at
            left: list[str] = []
            for done in self._batches(flying):
                if isinstance(done.answer, UnderWay) and not last:
                    left.append(done.stream)
                else:
                    yield done
            flying = left

    def _batches(self, streams: Sequence[str]) -> Iterator[Done]:
        for start in range(0, len(streams), BATCH):
            yield from self._batch(streams[start : start + BATCH])

    def _batch(self, streams: Sequence[str]) -> Iterator[Done]:
        """Decide on each and append, until nobody else came between."""
        left = list(streams)
        while left:
            with reading(self._engine) as connection:
                decided = [self._decide(connection, stream) for stream in left]
            ready = [(done, unit) for done, unit in decided if unit is not None]
            refusals = self._append([unit for _, unit in ready])
            yield from (done for done, unit in decided if unit is None)
            left = []
            for (done, _), refusal in zip(ready, refusals, strict=True):
                if refusal is None:
                    yield done
                else:
                    left.append(done.stream)

    def _append(self, units: list[Unit]) -> list[log.Refusal | None]:
        if not units:
            return []
        with writing(self._engine) as connection:
            return log.append(connection, units)

    def _decide(self, connection: Connection, stream: str) -> tuple[Done, Unit | None]:
        message, answer = self._answer(connection, stream)
        if message is None or not isinstance(answer, Decided):
            return Done(stream=stream, message=message, answer=answer), None
        appends = self._appends(connection, message, answer)
        after = appends[0].after
        assert isinstance(after, Message)
        reports = tuple(append.stream for append in appends[1:])
        return Done(stream=stream, message=after, answer=answer, reports=reports), Unit(appends)

    def _answer(self, connection: Connection, stream: str) -> tuple[Message | None, Answer]:
        try:
            message = log.message(connection, stream)
            if message is None:
                return None, Refused("there is no such message")
            return message, carry_out(
                message,
                self._order,
                self._policy,
                worked_on=worked_on(connection, message, self._now(), self._gateway_runs),
                named=self._named(connection, message),
            )
        except (Damaged, UnknownEvent) as error:  # of this message; the others go on
            return None, Refused(str(error))

    def _appends(self, connection: Connection, message: Message, decided: Decided) -> tuple[Append, ...]:
        """The events, with the notices they call for."""
        now = self._now()
        append = Append(message.id, message, decided.events, now)
        after = append.after
        assert isinstance(after, Message)
        original: bytes | None = None
        if notices.quotes(after, decided.events, self._policy, now):
            original = contents.beginning(connection, after, notices.ORIGINAL_OCTETS)
        called_for = notices.called_for(after, decided.events, self._policy, now, original)
        return notices.together(append, called_for)

    def _named(self, connection: Connection, message: Message) -> Recipients | None:
        """Whom the current rules name, for a message that is to be released and names nobody."""
        rule = self._rules.get(message.mailbox or "")
        if message.recipients or rule is None or self._order.verb != "release":
            return None
        octets = contents.get(connection, message)
        return routing.recipients(octets, rule) if octets is not None else None
