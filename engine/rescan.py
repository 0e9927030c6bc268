"""Scan kept messages again, with today's signatures and today's policy, beside a running gateway or without one.

A verdict on what is open counts like any other: the message is kept back before it is handed over. On what has its fate, or is
in quarantine, it comes late: it is on record, the postmaster is told, nothing is recalled. What a scanner says again in the
same words is not recorded again, so that a run may be stopped at any time and begun anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from engine import intake
from engine.asking import milliseconds
from engine.core import rescan_report
from engine.core.policy import Policy
from engine.core.verdict import Dropped, Kept, Passed, Redirected, ScannerPolicy, judge
from engine.journal import Journal
from engine.opening import new_id
from engine.ports import Answered, Mail, Octets, ScannerTrouble
from engine.scanner_post import ScannerPost
from engine.scanner_standing import Resting
from engine.scanning import AHEAD, mail_of, too_large, verdict
from store import contents, log, queries
from store.database import reachable, reading
from store.errors import Conflict, Damaged, UnknownEvent
from store.events import Scanned
from store.life import Message, evolve, fold
from store.log import Append, Unit
from store.queries import Filter
from store.recipient import ACCEPTED

PAGE: Final = 500
PATIENCE: Final = timedelta(
    minutes=1
)  # with a scanner that is down; then the run ends, and may be begun anew

T = TypeVar("T")


class ScannerGone(Exception):
    """A scanner is down for so long that going on makes no sense; the text says which, and what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescanned:
    """What scanning one message again came to.

    `rule` says by what finding it would be kept back today, "" for none; `released_by` who let it go on in spite of that very
    finding, so that it would be delivered. Where it was not scanned, `skipped` says why; `failed` where it should have been.
    """

    message: Message
    verdicts: tuple[Scanned, ...] = ()
    rule: str = ""
    released_by: str | None = None
    skipped: str = ""
    failed: bool = False

    @property
    def has_it(self) -> tuple[str, ...]:
        """The recipients that have it already."""
        return tuple(r.address for r in self.message.recipients if r.state in ACCEPTED)


class Rescan:
    """One run over many messages. For one event loop; `close` it."""

    def __init__(
        self,
        engine: Engine,
        posts: Mapping[str, ScannerPost],
        policy: Policy,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._posts = posts  # those to be asked
        self._policy = policy
        self._now = now
        self._journal = Journal(engine)
        self._told: list[tuple[Message, str]] = []
        self._found = 0  # that had been delivered

    async def run(self, streams: AsyncIterator[str]) -> AsyncGenerator[Rescanned, None]:
        """Yield what came of each message, in the order in which they are done. Raises ScannerGone, StoreError."""
        most = AHEAD * max((post.connections for post in self._posts.values()), default=1)
        under_way: set[asyncio.Task[Rescanned | None]] = set()
        try:
            async for stream in streams:
                under_way.add(asyncio.create_task(self._one(stream)))
                if len(under_way) >= most:
                    done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    for one in _came_of(done):
                        yield self._noted(one)
            while under_way:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for one in _came_of(done):
                    yield self._noted(one)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def matching(self, wanted: Filter) -> AsyncIterator[str]:
        """Yield the messages that a filter means, the newest first; page by page, for a run may take hours."""
        before: int | None = None
        while rows := await self._read(partial(queries.page, wanted=wanted, before=before, limit=PAGE)):
            for row in rows:
                yield row["id"]
            before = rows[-1]["position"]

    async def tell(self) -> str | None:
        """Tell the postmaster of what had been delivered and would not be today; returns the notice, None for nothing."""
        if not self._found:
            return None
        now = self._now()
        written = rescan_report.rescan(self._told, self._found, self._policy, new_id(now), now)
        opened = intake.generated("rescan", self._told[0][0].id, written, now)
        await self._journal.append(Unit((opened,)))
        return opened.stream

    async def close(self) -> None:
        """Close the scanners and the store's writer."""
        await asyncio.gather(*(post.close() for post in self._posts.values()))
        await self._journal.close()

    # -- one message

    async def _one(self, stream: str) -> Rescanned | None:
        try:
            found = await self._read(partial(_message_and_octets, stream=stream))
        except (Damaged, UnknownEvent) as error:
            message: Message | None = await self._read(partial(_as_far_as_readable, stream=stream))
            return None if message is None else Rescanned(message=message, skipped=str(error), failed=True)
        if found is None:
            return None
        message, said, octets = found
        asked = [post for post in self._posts.values() if message.direction in post.policy.directions]
        if not asked or octets is None:
            why = "no scanner is for such mail" if octets is not None else "its octets are no longer kept"
            return Rescanned(message=message, skipped=why)
        try:
            answers = await asyncio.gather(*(self._ask(post, message, octets) for post in asked))
        except ScannerTrouble as trouble:
            return Rescanned(message=message, skipped=trouble.text, failed=True)
        news = tuple(one for one in answers if not _again(one, said))
        after = await self._record(message, news)
        rule, released_by = self._rule(after, answers)
        return Rescanned(message=after, verdicts=tuple(answers), rule=rule, released_by=released_by)

    async def _ask(self, post: ScannerPost, message: Message, octets: Octets) -> Scanned:
        began = time.monotonic()
        answered = too_large(post.policy, message.size_octets)
        if answered is None:
            answered = await self._answer(post, mail_of(message, octets))
        return verdict(post.policy, answered, milliseconds(began), self._policy.version)

    async def _answer(self, post: ScannerPost, mail: Mail) -> Answered:
        """Ask, and wait for a scanner that is down. Raises ScannerTrouble for this message, ScannerGone for them all."""
        while True:
            try:
                return await post.ask(mail, killed=0)
            except ScannerTrouble as trouble:
                if trouble.blame == "message" and not isinstance(trouble, Resting):
                    raise
                now = self._now()
                if post.down_since is not None and now - post.down_since >= PATIENCE:
                    raise ScannerGone(f"scanner {post.name} is down: {post.trouble}") from None
                pause = (post.probe_at or now) - now
                await asyncio.sleep(max(pause.total_seconds(), 0.1))

    async def _record(self, message: Message, news: tuple[Scanned, ...]) -> Message:
        while news:
            late = not message.open or message.state == "quarantined"
            events = tuple(_late(one) if late else one for one in news)
            append = Append(message.id, message, events, self._now())
            try:
                await self._journal.append(Unit((append,)))
            except Conflict:
                moved = await self._read(partial(log.message, stream=message.id))
                message = moved or message
                continue
            assert isinstance(append.after, Message)
            return append.after
        return message

    def _rule(self, message: Message, answers: list[Scanned]) -> tuple[str, str | None]:
        """Why it would not be delivered today, "" where it would be; and who let it go on in spite of that."""
        today = message
        for answer in answers:
            today = evolve(today, today.id, answer, message.changed_at)
        if rule := _kept_by(today, self._policy.scanners):
            return rule, None
        rule = _kept_by(_as_if_not_released(today, answers), self._policy.scanners)
        return rule, (message.released_by or "somebody") if rule else None

    def _noted(self, one: Rescanned) -> Rescanned:
        if one.rule and one.has_it and one.released_by is None:  # whoever released it knows
            self._found += 1
            if len(self._told) < rescan_report.TOLD:
                self._told.append((one.message, one.rule))
        return one

    async def _read(self, function: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self._read_now, function)

    def _read_now(self, function: Callable[[Connection], T]) -> T:
        with reachable(self._engine), reading(self._engine) as connection:
            return function(connection)


def chosen(
    posts: Mapping[str, ScannerPost], scanners: tuple[ScannerPolicy, ...], names: tuple[str, ...]
) -> dict[str, ScannerPost]:
    """Return the scanners to ask, in the order of the configuration: these, or all where none is named."""
    return {one.name: posts[one.name] for one in scanners if not names or one.name in names}


def _came_of(done: set[asyncio.Task[Rescanned | None]]) -> Iterator[Rescanned]:
    for task in done:
        if (one := task.result()) is not None:
            yield one


def _message_and_octets(
    connection: Connection, stream: str
) -> tuple[Message, dict[str, Scanned], bytes | None] | None:
    """Return a message, the last word of each scanner, late or not, and its octets."""
    recorded = log.read(connection, stream)
    message = fold(stream, ((one.event, one.at) for one in recorded))
    if message is None or message.content is None:
        return None
    said = {one.event.scanner: one.event for one in recorded if isinstance(one.event, Scanned)}
    return message, said, contents.get(connection, message)


def _as_far_as_readable(connection: Connection, stream: str) -> Message | None:
    try:
        return log.message(connection, stream)
    except (Damaged, UnknownEvent):
        return None


def _again(event: Scanned, said: Mapping[str, Scanned]) -> bool:
    """Whether a scanner says what it said last, with the same signatures."""
    last = said.get(event.scanner)
    return last is not None and _words(last) == _words(event)


def _words(event: Scanned) -> tuple[Any, ...]:
    return event.verdict, event.signature, event.score, event.symbols, event.engine


def _kept_by(message: Message, scanners: tuple[ScannerPolicy, ...]) -> str:
    """Return the rule by which it is not delivered, "" for none."""
    match judge(message, scanners):
        case Passed():
            return ""
        case Kept(rule=rule) | Dropped(rule=rule) | Redirected(rule=rule):
            return rule


def _as_if_not_released(message: Message, answers: list[Scanned]) -> Message:
    """Return it with what these answers say counted, also where a person has seen it and let the message go on."""
    asked = {one.scanner for one in answers}
    findings = tuple(replace(f, forgiven=False) if f.scanner in asked else f for f in message.findings)
    return replace(message, findings=findings)


def _late(event: Scanned) -> Scanned:
    return replace(event, late=True)
