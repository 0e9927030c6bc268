"""Deliver messages again, beside a running gateway or without one.

A replay goes through its messages in bounded batches, each a transaction of its own, no faster than it was asked to. It may be
interrupted at any time and given again: what was done is on the messages, and is not done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from engine.core.policy import Policy
from engine.core.replaying import Again, Answer, Nothing, Request, ask
from engine.under_way import worked_on
from store import log, mailbox_queries
from store.database import reading, writing
from store.errors import Damaged, UnknownEvent
from store.life import Message
from store.log import Append, Unit
from store.read_tables import messages
from store.schema import contents

BATCH = 100  # messages in one transaction: a gateway waits for some milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of it for one message; None for no such message, or one that can't be read."""

    stream: str
    message: Message | None
    answer: Answer


class Replay:
    """One request, for many messages. `per_second` None is as fast as the store takes it."""

    def __init__(
        self,
        engine: Engine,
        request: Request,
        *,
        policy: Policy,
        gateway_runs: Callable[[], bool],
        now: Callable[[], datetime],
        per_second: float | None = None,
    ) -> None:
        self._engine = engine
        self._request = request
        self._policy = policy
        self._gateway_runs = gateway_runs
        self._now = now
        self._per_second = per_second

    def foreseen(self, connection: Connection, streams: Sequence[str]) -> Iterator[Replayed]:
        """Yield what would come of it now for each message; nothing is appended."""
        for start in range(0, len(streams), BATCH):
            some = streams[start : start + BATCH]
            kept = _kept(connection, some)
            for stream in some:
                yield self._asked(connection, stream, kept=stream in kept)

    def carry_out(self, streams: Sequence[str]) -> Iterator[Replayed]:
        """Yield what came of it for each message, once it is on record."""
        size = BATCH if self._per_second is None else max(1, min(BATCH, int(self._per_second)))
        began, done = time.monotonic(), 0
        for start in range(0, len(streams), size):
            for one in self._batch(streams[start : start + size]):
                done += isinstance(one.answer, Again)
                yield one
            if self._per_second is not None and start + size < len(streams):
                time.sleep(max(0.0, began + done / self._per_second - time.monotonic()))

    def _batch(self, streams: Sequence[str]) -> Iterator[Replayed]:
        """Decide on each and append, until nobody else came between."""
        left: Sequence[str] = streams
        while left:
            with reading(self._engine) as connection:
                found = list(self.foreseen(connection, left))
            going = [one for one in found if isinstance(one.answer, Again)]
            refusals = self._append([self._unit(one) for one in going])
            yield from (one for one in found if not isinstance(one.answer, Again))
            moved = {one.stream for one, refusal in zip(going, refusals, strict=True) if refusal is not None}
            yield from (one for one in going if one.stream not in moved)
            left = [one.stream for one in going if one.stream in moved]

    def _append(self, units: list[Unit]) -> list[log.Refusal | None]:
        if not units:
            return []
        with writing(self._engine) as connection:
            return log.append(connection, units)

    def _unit(self, one: Replayed) -> Unit:
        assert isinstance(one.answer, Again)
        return Unit((Append(one.stream, one.message, (one.answer.event,), self._now()),))

    def _asked(self, connection: Connection, stream: str, *, kept: bool) -> Replayed:
        try:
            message = log.message(connection, stream)
        except (Damaged, UnknownEvent) as error:  # of this message; the others go on
            return Replayed(stream=stream, message=None, answer=Nothing(text=str(error)))
        if message is None:
            return Replayed(stream=stream, message=None, answer=Nothing(text="there is no such message"))
        busy = worked_on(connection, message, self._now(), self._gateway_runs)
        before = self._before(connection, message) if message.content is None else None
        later = mailbox_queries.came_as(connection, message)
        answer = ask(
            message, self._request, self._policy, worked_on=busy, kept=kept, before=before, later=later
        )
        return Replayed(stream=stream, message=message, answer=answer)

    def _before(self, connection: Connection, message: Message) -> str | None:
        """Return the message by which the same replay asked for what this UIDL names: it may have been too large again."""
        streams = [one.stream for one in mailbox_queries.alike(connection, message)[0] if one.stream]
        earlier = log.messages(connection, streams)
        return next((s for s in streams if s in earlier and self._request.replay in earlier[s].replays), None)


def _kept(connection: Connection, streams: Sequence[str]) -> set[str]:
    """Return those whose octets are kept."""
    found = (
        select(messages.c.id)
        .join(contents, contents.c.position == messages.c.position)
        .where(messages.c.id.in_(streams))
    )
    return set(connection.scalars(found))
