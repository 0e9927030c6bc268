"""`mailgate check`: is the configuration right, what does it mean, and, with --connect, does it work.

Prints what was understood, so that a person sees a slip that is valid. With --connect every mailbox, next hop, scanner and
webhook is tried at once; nothing is fetched, nothing is delivered, nothing is deleted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import context, listening, render, times
from cli.context import EXIT_BAD_NEWS, EXIT_CONFIGURATION, EXIT_DONE, Failure, StoreFailure
from cli.stale import stale
from engine.core import direct, envelope

if TYPE_CHECKING:
    from cli.trial import Trial
    from cli.understood import Part
    from engine.settings import NextHopSettings, Settings

INDENT = 12


def check(
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Also log in to every mailbox, greet every next hop and scanner, send every webhook a test event,"
            " open the store.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one part of it a line.")] = False,
) -> int:
    """Validate the configuration and say what it means.

    Exit code 3 if it can't be used, 1 if something can't be connected to or new mail is refused for want of room.
    """
    settings = context.settings()
    refusals = list(listening.refusals(settings))
    trials = _tried(settings) if connect else {}
    from cli.understood import parts as understood

    parts = list(understood(settings, trials))
    shortage = listening.shortage(settings)
    found = (shortage, listening.expiry(settings, times.now()), _stale(settings, trials))
    warnings = (*_warnings(settings), *(one for one in found if one is not None))
    if json:
        _print_json(settings, parts, warnings, refusals)
    else:
        _print(settings, parts, warnings, runs=not refusals)
    if refusals:
        sys.stdout.flush()
        raise Failure(f"{settings.path}: {'; '.join(refusals)}", EXIT_CONFIGURATION)
    failed = any(not trial.ok for trial in trials.values())
    return EXIT_BAD_NEWS if failed or shortage else EXIT_DONE


def _warnings(settings: Settings) -> tuple[str, ...]:
    from engine.settings import warnings

    return warnings(settings)


def _stale(settings: Settings, trials: Mapping[tuple[str, str], Trial]) -> str | None:
    """Say that a gateway runs with another configuration; a server is asked where it was tried out and answers."""
    file, tried = context.sqlite_file(settings), trials.get(("store", "store"))
    if not (tried.ok if tried is not None else file is not None and file.exists()):
        return None
    from sqlalchemy.exc import SQLAlchemyError

    from store.database import open_store

    engine = open_store(settings.store.url)
    try:
        return stale(settings, engine)
    except SQLAlchemyError:  # gone since it was tried out
        return None
    finally:
        engine.dispose()


# -- trying it out


def _tried(settings: Settings) -> dict[tuple[str, str], Trial]:
    """Try everything at once; returns what came of it by kind and name."""
    import asyncio

    from cli.trial import Doors
    from cli.try_mailbox import try_mailbox
    from cli.try_scanner import try_scanner
    from cli.try_webhook import try_webhook
    from engine.loops import start

    scanners = [s for s in settings.scanners if s.address is not None]

    async def all_of_it() -> list[Trial]:
        doors = Doors(settings.gateway.connections_per_host)
        trials = [doors.through(m.host, try_mailbox(m)) for m in settings.mailboxes]
        trials += [doors.through(h.host, _try_next_hop(h, settings)) for h in settings.next_hops.values()]
        trials += [try_scanner(s) for s in scanners]
        trials += [try_webhook(w, settings.gateway.hostname, times.now()) for w in settings.webhooks]
        return list(await asyncio.gather(*trials))

    names = [("mailbox", m.name) for m in settings.mailboxes]
    names += [("next-hop", name) for name in settings.next_hops]
    names += [("scanner", s.name) for s in scanners]
    names += [("webhook", w.name) for w in settings.webhooks]
    return {("store", "store"): _try_store(settings)} | dict(zip(names, start(all_of_it()), strict=True))


def _try_next_hop(hop: NextHopSettings, settings: Settings) -> Coroutine[Any, Any, Trial]:
    if hop.name == direct.MX:
        from cli.try_mx import try_mx

        return try_mx(hop, settings.gateway.hostname, envelope.domain(settings.gateway.postmaster))
    from cli.try_next_hop import try_next_hop

    return try_next_hop(hop, settings.gateway.hostname)


def _try_store(settings: Settings) -> Trial:
    """Open the store as the gateway would; a file that is missing is no fault if it can be made."""
    from cli.trial import Trial
    from store.errors import StoreError

    file = context.sqlite_file(settings)
    if file is not None and not file.exists():
        if os.access(file.parent, os.W_OK | os.X_OK):
            return Trial(ok=True, found=("is not there yet: 'mailgate run' makes it",))
        return Trial(ok=False, found=(f"can't be made: the folder {file.parent} can't be written to",))
    try:
        with context.opened(settings) as engine:
            from engine.presence import gateway_runs

            runs = "a gateway runs on it" if gateway_runs(engine) else "no gateway runs on it now"
            return Trial(ok=True, found=(f"opened, up to date; {runs}",))
    except (StoreFailure, StoreError) as failure:
        return Trial(ok=False, found=(str(failure),))


# -- printing


def _print(settings: Settings, parts: Sequence[Part], warnings: Sequence[str], *, runs: bool) -> None:
    verdict = _verdict(parts, warnings) if runs else ("can't be run", "bold red")
    render.line((f"{settings.path}", "bold"), ": ", verdict)
    label = ""
    for part in parts:
        first = part.label if part.label != label else ""
        label = part.label
        for number, text in enumerate(part.text):
            render.paragraph(text, first=first if number == 0 else "", indent=INDENT)
        if part.trial is not None:
            _print_trial(part.trial)
    for text in warnings:
        render.paragraph(("warning:", "yellow"), f" {text}", indent=INDENT)


def _verdict(parts: Sequence[Part], warnings: Sequence[str]) -> render.Part:
    failed = [part for part in parts if part.trial is not None and not part.trial.ok]
    if failed:
        names = [part.label if part.kind == "store" else f"{part.label} {part.name}" for part in failed]
        return (f"valid, but failed: {', '.join(names)}", "bold red")
    warned = f", {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else ""
    worked = ", everything answered" if any(part.trial for part in parts) else ""
    return (f"valid{worked}{warned}", "green")


def _print_trial(trial: Trial) -> None:
    mark = ("ok:", "green") if trial.ok else ("FAILED:", "bold red")
    for number, text in enumerate(trial.found):
        lead = (mark, f" {text}") if number == 0 else (text,)
        render.paragraph(*lead, first=" " * INDENT, indent=INDENT + 2)
    for text in trial.advice:
        render.paragraph(("note:", "yellow"), f" {text}", indent=INDENT + 2)


def _print_json(
    settings: Settings, parts: Sequence[Part], warnings: Sequence[str], refusals: Sequence[str]
) -> None:
    for part in parts:
        tried = {"connect": part.trial.as_json()} if part.trial is not None else {}
        render.json_line({"kind": part.kind, "name": part.name, **part.facts, **tried})
    for text in warnings:
        render.json_line({"kind": "warning", "text": text})
    for text in refusals:
        render.json_line({"kind": "error", "text": text})
