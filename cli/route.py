"""`mailgate route FILE`: who would get a message with these headers, by which rule, and which next hop would take it.

Asks the configuration alone: no store, no server; nothing is sent or recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Misuse, nearest
from cli.render import Column
from engine.core import envelope, headers, holding, routing, trace
from engine.core.routing import Routed

if TYPE_CHECKING:
    from engine.core.policy import Policy
    from engine.settings import Mailbox, Settings

STDIN = "-"
COLUMNS = (
    Column(title="RECIPIENT", least=16),
    Column(title="NAMED BY", least=16, in_full=": named by "),
    Column(title="NEXT HOP"),
    Column(title="BY", least=16, in_full=": goes there by "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What would become of a message that came from this mailbox. `held` says why nobody would get it yet."""

    mailbox: str
    reverse_path: str
    recipients: tuple[tuple[str, str, Routed], ...]  # address, what named it, where it goes
    held: str | None


def route(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A message or its headers; - reads stdin.")],
    mailbox: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="As if it came from this mailbox; else from each catch-all, or from each."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a mailbox.")] = False,
) -> int:
    """Say who would get a message, by which rule, sent where. Nothing is sent. Exit code 1 where it would be held."""
    from engine.wiring import policy_of

    settings = context.settings()
    policy = policy_of(settings)
    octets = _read(file)
    verdicts = [_verdict(one, octets, policy) for one in _mailboxes(settings, mailbox)]
    for number, verdict in enumerate(verdicts):
        if as_json:
            _as_json(verdict)
        else:
            if number:
                render.line()
            _page(verdict)
    return EXIT_BAD_NEWS if any(verdict.held for verdict in verdicts) else EXIT_DONE


def _read(file: str) -> bytes:
    """The header section and what comes with it in one read; a message may be large, its headers are not."""
    if file == STDIN:
        if sys.stdin is None:
            raise Misuse("there is no stdin to read: it was closed")
        return sys.stdin.buffer.read(headers.HEADER_LIMIT_OCTETS)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(headers.HEADER_LIMIT_OCTETS)
    except OSError as error:
        raise Misuse(f"{file} can't be read: {error.strerror}") from None


def _mailboxes(settings: Settings, name: str | None) -> list[Mailbox]:
    names = [mailbox.name for mailbox in settings.mailboxes]
    if name is not None and name not in names:
        one_of = f" (one of {', '.join(names)})" if names else ": none is configured"
        raise Misuse(f"--mailbox: there is no mailbox {name!r}{nearest(name, names)}{one_of}")
    if not names:
        raise context.Failure(f"{settings.path}: no mailbox is configured", context.EXIT_CONFIGURATION)
    if name is not None:
        return [mailbox for mailbox in settings.mailboxes if mailbox.name == name]
    catch_all = [mailbox for mailbox in settings.mailboxes if mailbox.multidrop is not None]
    return catch_all or list(settings.mailboxes)


def _verdict(mailbox: Mailbox, octets: bytes, policy: Policy) -> Verdict:
    from engine.wiring import mailbox_rule

    named = routing.recipients(octets, mailbox_rule(mailbox))
    reverse_path = envelope.reverse_path(headers.facts(octets))
    recipients = tuple(
        (address, by, routing.next_hop(reverse_path, address, None, policy.routes, policy.domains))
        for address, by in zip(named.addresses, named.routed_by, strict=True)
    )
    loop = trace.loops(octets, policy.hostname)
    held = named.held or (f"a loop: {loop}" if loop else None) or next(_homeless(recipients, policy), None)
    held = held or next(_by_rule(reverse_path, recipients, policy), None)
    return Verdict(mailbox=mailbox.name, reverse_path=reverse_path, recipients=recipients, held=held)


def _homeless(recipients: tuple[tuple[str, str, Routed], ...], policy: Policy) -> Iterator[str]:
    for address, _, routed in recipients:
        if routed.next_hop is None:
            yield f"{address} has no next hop: {routed.by}"
        elif policy.hop(routed.next_hop) is None:
            yield f"{address} goes to {routed.next_hop}, which is not configured: {routed.by}"


def _by_rule(sender: str, recipients: tuple[tuple[str, str, Routed], ...], policy: Policy) -> Iterator[str]:
    for number, rule in enumerate(policy.holds, 1):
        if rule.until is None or rule.until > times.now():
            whom = [a for a, _, routed in recipients if holding.applies(rule, sender, a, None, routed)]
            if whom:
                yield f"by hold {number}, for {', '.join(whom)}"


def _page(verdict: Verdict) -> None:
    render.line((f"Mailbox {verdict.mailbox}", "bold"), f", reverse-path {verdict.reverse_path or '<>'}")
    if verdict.recipients:
        rows = ((address, by, to.next_hop or "(none)", to.by) for address, by, to in verdict.recipients)
        render.table(COLUMNS, rows)
    if verdict.held is not None:
        render.paragraph(("held", "bold red"), f": {verdict.held}")


def _as_json(verdict: Verdict) -> None:
    render.json_line(
        {
            "mailbox": verdict.mailbox,
            "reverse_path": verdict.reverse_path,
            "held": verdict.held,
            "recipients": [
                {"address": address, "routed_by": by, "next_hop": routed.next_hop, "by": routed.by}
                for address, by, routed in verdict.recipients
            ],
        }
    )
