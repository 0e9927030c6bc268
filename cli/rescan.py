"""`mailgate rescan`: kept messages are scanned again with today's signatures.

What had been delivered and would not be today is named; nothing is recalled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, filters, render, words
from cli.context import EXIT_BAD_NEWS, EXIT_CONFIGURATION, EXIT_DONE, Failure, Misuse, nearest
from cli.message import AsJson
from cli.operator import Ids
from cli.person import is_terminal
from store.database import reading
from store.queries import Filter

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from engine.rescan import Rescan, Rescanned
    from engine.settings import Settings

PROGRESS_EVERY_SECONDS = 0.5

Scanner = Annotated[
    list[str] | None,
    typer.Option(
        "--scanner", metavar="NAME", show_default=False, help="Ask only this one. May be given again."
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="Every message whose octets are kept.")]


@filters.taken
def rescan(
    ids: Ids = None,
    *,
    scanner: Scanner = None,
    everything: Everything = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Scan kept messages again, with today's signatures.

    Verdicts go on record; what is still open is kept back by them. What had been delivered and would not be today is listed,
    and the postmaster is told: nothing is recalled. What a person released in spite of the same finding is listed as that. May
    be stopped and begun anew. Exit code 1 if something bad was found.
    """
    if sum((bool(ids), wanted != Filter(), everything)) != 1:
        raise Misuse("name the messages, or give filters, or --all")
    settings = context.settings()
    names = _names(settings, scanner or [])
    with context.opened(settings) as engine:
        streams = _streams(engine, ids or [])
        from engine.loops import start

        said = _Said(as_json=as_json)
        try:
            start(_rescan(settings, engine, names, streams, wanted, said))
        finally:
            said.end()
    return EXIT_BAD_NEWS if said.bad or said.released or said.failed else EXIT_DONE


def _names(settings: Settings, asked: list[str]) -> tuple[str, ...]:
    known = [one.name for one in settings.scanners]
    if not known:
        raise Failure(f"{settings.path}: there is no [[scanner]]", EXIT_CONFIGURATION)
    for name in asked:
        if name not in known:
            raise Misuse(f"there is no scanner {name!r}{nearest(name, known)}")
    return tuple(asked)


def _streams(engine: Engine, ids: list[str]) -> list[str]:
    with reading(engine) as connection:
        return list(dict.fromkeys(words.message_id(connection, one) for one in ids))


async def _rescan(
    settings: Settings,
    engine: Engine,
    names: tuple[str, ...],
    streams: list[str],
    wanted: Filter,
    said: _Said,
) -> None:
    from engine import clock
    from engine.rescan import Rescan, ScannerGone, chosen
    from engine.scanners import posts_of
    from engine.wiring import policy_of

    policy = policy_of(settings)
    posts = chosen(posts_of(settings.scanners, policy.scanners, clock.now), policy.scanners, names)
    run = Rescan(engine, posts, policy, clock.now)
    try:
        async with aclosing(run.run(_these(streams) if streams else run.matching(wanted))) as found:
            async for one in found:
                said.say(one)
    except ScannerGone as gone:
        raise Failure(f"{gone}; what was found so far is on record, begin again when it is up") from None
    finally:
        await _told(run, said)
        await run.close()


async def _told(run: Rescan, said: _Said) -> None:
    """Also where the run was cut off: what was found by then is told."""
    said.notice = await run.tell()


async def _these(streams: list[str]) -> AsyncIterator[str]:
    for stream in streams:
        yield stream


class _Said:
    """Says what was found as it is found, and in the end what it came to."""

    def __init__(self, *, as_json: bool) -> None:
        self.scanned = self.passed_over = self.failed = self.bad = self.released = self.delivered = 0
        self.notice: str | None = None
        self._as_json = as_json
        self._progress_at = 0.0
        self._shown = False

    def say(self, one: Rescanned) -> None:
        self.scanned += not one.skipped
        self.failed += one.failed
        self.passed_over += bool(one.skipped) and not one.failed
        if one.rule and one.released_by is not None:
            self.released += 1
        elif one.rule:
            self.bad += 1
            self.delivered += bool(one.has_it)
        if one.rule or one.failed:
            self._clear()
            self._print(one)
        self._progress()

    def end(self) -> None:
        self._clear()
        if self._as_json:
            return
        parts = [f"{_messages(self.scanned)} scanned"]
        if self.passed_over:
            parts.append(f"{self.passed_over:,} passed over (no octets kept, or no scanner for them)")
        if self.failed:
            parts.append(f"{self.failed:,} could not be")
        if self.bad:
            parts.append(f"{self.bad:,} would not be delivered today")
        if self.released:
            parts.append(f"{self.released:,} with what a person let go on")
        if not self.bad and not self.released:
            parts.append("nothing found")
        render.line(", ".join(parts))
        if self.delivered:
            had = "1 of them has been" if self.delivered == 1 else f"{self.delivered:,} of them have been"
            render.line(f"{had} delivered: nothing is recalled, the postmaster is told")

    def _print(self, one: Rescanned) -> None:
        message = one.message
        if self._as_json:
            render.json_line(
                {
                    "id": message.id,
                    "state": message.state,
                    "rule": one.rule or None,
                    "released_by": one.released_by,
                    "skipped": one.skipped or None,
                    "has_it": list(one.has_it),
                    "verdicts": [
                        {
                            "scanner": v.scanner,
                            "verdict": v.verdict,
                            "signature": v.signature,
                            "score": v.score,
                            "engine": v.engine,
                        }
                        for v in one.verdicts
                    ],
                }
            )
        elif one.skipped:
            render.line(f"{message.id}  not scanned: {one.skipped}")
        else:
            had = f"; delivered to {', '.join(one.has_it)}" if one.has_it else ""
            found = f"released by {one.released_by}, still: {one.rule}" if one.released_by else one.rule
            render.line(f"{message.id}  {message.state}  {found}{had}")

    def _progress(self) -> None:
        now = time.monotonic()
        if is_terminal(sys.stderr) and now - self._progress_at >= PROGRESS_EVERY_SECONDS:
            self._progress_at, self._shown = now, True
            text = f"\r{self.scanned + self.passed_over + self.failed:,} looked at, {self.bad + self.released:,} found\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)  # noqa: T201

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201
            self._shown = False


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
