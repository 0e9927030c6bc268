"""`mailgate check`: is the configuration right, what does it mean, and, with --connect, does it work.

Prints what was understood, so that a person sees a slip that is valid. With --connect every mailbox and next hop is tried at once;
nothing is fetched, nothing is delivered, nothing is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import context, render, times
from cli.context import EXIT_BAD_NEWS, EXIT_CONFIGURATION, EXIT_DONE, StoreFailure
from cli.run import unserved

if TYPE_CHECKING:
    from cli.trial import Trial
    from engine.settings import Mailbox, NextHopSettings, Route, Settings

INDENT = 12
TLS_WORDS = {
    "implicit": "TLS from the start",
    "starttls": "STLS required",
    "required": "STARTTLS required",
    "opportunistic": "STARTTLS if offered",
    "none": "no TLS",
}
REMOVE_WORDS = {
    "delivered": "deleted there once delivered",
    "downloaded": "deleted there once downloaded",
    "never": "never deleted there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing the configuration names: as it is understood, and what trying it out came to."""

    kind: str
    label: str
    name: str
    text: tuple[str, ...]
    facts: dict[str, Any]
    trial: Trial | None = None


def check(
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Also log in to every mailbox, greet every next hop, open the store."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one part of it a line.")] = False,
) -> int:
    """Validate the configuration and say what it means.

    Exit code 3 if it can't be used, 1 if something can't be connected to.
    """
    settings = context.settings()
    refusals = list(unserved(settings))
    trials = _tried(settings) if connect else {}
    parts = list(_parts(settings, trials))
    warnings = _warnings(settings)
    if json:
        _print_json(settings, parts, warnings, refusals)
    else:
        _print(settings, parts, warnings, refusals)
    if refusals:
        return EXIT_CONFIGURATION
    return EXIT_BAD_NEWS if any(not trial.ok for trial in trials.values()) else EXIT_DONE


def _warnings(settings: Settings) -> tuple[str, ...]:
    from engine.settings import warnings

    return warnings(settings)


# -- what was understood


def _parts(settings: Settings, trials: dict[tuple[str, str], Trial]) -> Iterable[Part]:
    yield _gateway(settings)
    yield _store(settings, trials.get(("store", "store")))
    for mailbox in settings.mailboxes:
        yield _mailbox(mailbox, trials.get(("mailbox", mailbox.name)))
    for hop in settings.next_hops.values():
        yield _next_hop(hop, trials.get(("next-hop", hop.name)))
    for number, route in enumerate(settings.routes, start=1):
        yield _route(number, route)
    if not settings.routes:
        yield _default_route(settings)


def _gateway(settings: Settings) -> Part:
    gateway = settings.gateway
    domains = ", ".join(gateway.domains)
    facts = {
        "hostname": gateway.hostname,
        "postmaster": gateway.postmaster,
        "domains": list(gateway.domains),
        "policy": settings.policy_version,
    }
    text = f"{gateway.hostname}; postmaster {gateway.postmaster}; domains {domains or 'none'}"
    return Part(kind="gateway", label="gateway", name=gateway.hostname, text=(text,), facts=facts)


def _store(settings: Settings, trial: Trial | None) -> Part:
    from sqlalchemy import make_url

    file = context.sqlite_file(settings)
    url = make_url(settings.store.url).set(password=None).render_as_string()
    facts = {"url": str(file) if file else url}
    return Part(kind="store", label="store", name="store", text=(facts["url"],), facts=facts, trial=trial)


def _mailbox(mailbox: Mailbox, trial: Trial | None) -> Part:
    drop = mailbox.multidrop
    facts = {
        "host": mailbox.host,
        "port": mailbox.port,
        "tls": mailbox.tls,
        "username": mailbox.username,
        "poll_every_seconds": mailbox.poll_every,
        "recipients": list(mailbox.recipients),
        "multidrop_headers": list(drop.headers) if drop else [],
        "fallback": mailbox.fallback,
        "remove": mailbox.remove.when,
        "oversize": mailbox.oversize,
    }
    where = f"{mailbox.username} at {mailbox.host}:{mailbox.port}, {TLS_WORDS[mailbox.tls]}"
    every = times.span(_seconds(mailbox.poll_every))
    text = (f"{mailbox.name}: {where}, every {every}", f"{_for(mailbox)}; {_removed(mailbox)}")
    return Part(kind="mailbox", label="mailbox", name=mailbox.name, text=text, facts=facts, trial=trial)


def _for(mailbox: Mailbox) -> str:
    """Who gets its mail."""
    fallback = f", else {mailbox.fallback}" if mailbox.fallback else ", else held"
    if mailbox.recipients:
        return f"for {', '.join(mailbox.recipients)}"
    if mailbox.multidrop:
        return f"for whom {' or '.join(mailbox.multidrop.headers)} names{fallback}"
    return f"for {mailbox.fallback}"


def _removed(mailbox: Mailbox) -> str:
    if mailbox.remove.when == "after":
        return f"deleted there {times.span(_seconds(mailbox.remove.after_seconds or 0))} after download"
    return REMOVE_WORDS[mailbox.remove.when]


def _next_hop(hop: NextHopSettings, trial: Trial | None) -> Part:
    facts = {
        "host": hop.host,
        "port": hop.port,
        "tls": hop.tls,
        "username": hop.username,
        "connections": hop.connections,
        "max_size_octets": hop.max_size,
        "on_unknown": hop.on_unknown,
    }
    login = f", as {hop.username}" if hop.username else ""
    limit = f", at most {times.size(hop.max_size)}" if hop.max_size else ""
    text = f"{hop.name}: {hop.host}:{hop.port}, {TLS_WORDS[hop.tls]}{login}{limit}"
    return Part(kind="next-hop", label="next hop", name=hop.name, text=(text,), facts=facts, trial=trial)


def _route(number: int, route: Route) -> Part:
    facts = {
        "recipients": list(route.recipients),
        "senders": list(route.senders),
        "users": list(route.users),
        "next_hop": route.next_hop,
    }
    asked = [
        f"{word} {', '.join(patterns)}"
        for word, patterns in (("to", route.recipients), ("from", route.senders), ("by user", route.users))
        if patterns
    ]
    text = f"{number}: {' and '.join(asked) or 'everything'} to next hop {route.next_hop}"
    return Part(kind="route", label="route", name=str(number), text=(text,), facts=facts)


def _default_route(settings: Settings) -> Part:
    domains = settings.gateway.domains
    facts = {
        "recipients": [f"*@{domain}" for domain in domains],
        "senders": [],
        "users": [],
        "next_hop": "home",
    }
    text = f"to {', '.join(facts['recipients']) or 'none'} to next hop home (there is no [[route]])"
    return Part(kind="route", label="route", name="default", text=(text,), facts=facts)


def _seconds(seconds: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=seconds)


# -- trying it out


def _tried(settings: Settings) -> dict[tuple[str, str], Trial]:
    """Try everything at once; returns what came of it by kind and name."""
    import asyncio

    from cli.trial import Doors
    from cli.try_mailbox import try_mailbox
    from cli.try_next_hop import try_next_hop
    from engine.service import start

    async def all_of_it() -> list[Trial]:
        doors = Doors(settings.gateway.connections_per_host)
        trials = [doors.through(m.host, try_mailbox(m)) for m in settings.mailboxes]
        trials += [
            doors.through(h.host, try_next_hop(h, settings.gateway.hostname))
            for h in settings.next_hops.values()
        ]
        return list(await asyncio.gather(*trials))

    names = [("mailbox", m.name) for m in settings.mailboxes]
    names += [("next-hop", name) for name in settings.next_hops]
    return {("store", "store"): _try_store(settings)} | dict(zip(names, start(all_of_it()), strict=True))


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


def _print(
    settings: Settings, parts: Sequence[Part], warnings: Sequence[str], refusals: Sequence[str]
) -> None:
    render.line((f"{settings.path}", "bold"), ": ", _verdict(parts, warnings, refusals))
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
    for text in refusals:
        render.paragraph(("error:", "bold red"), f" {text}", indent=INDENT)


def _verdict(parts: Sequence[Part], warnings: Sequence[str], refusals: Sequence[str]) -> render.Part:
    failed = [part for part in parts if part.trial is not None and not part.trial.ok]
    if refusals:
        return ("can't be run", "bold red")
    if failed:
        return (
            f"valid, but {', '.join(f'{p.label} {p.name}'.replace('store store', 'the store') for p in failed)} failed",
            "bold red",
        )
    warned = f", {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else ""
    worked = ", everything answered" if any(part.trial for part in parts) else ""
    return (f"valid{worked}{warned}", "green")


def _print_trial(trial: Trial) -> None:
    mark = ("ok:", "green") if trial.ok else ("FAILED:", "bold red")
    for number, text in enumerate(trial.found):
        lead = (mark, f" {text}") if number == 0 else (text,)
        render.paragraph(*lead, first=" " * INDENT, indent=INDENT + 2)
    for text in trial.advice:
        render.paragraph(("note:" if trial.ok else "try:", "yellow"), f" {text}", indent=INDENT + 2)


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
