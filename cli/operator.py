"""`mailgate hold`, `release`, `discard` and `fail`: what a person decides about messages.

Each takes ids, or the filters of `list`; what filters mean is shown first, and asked about. Each message is done whole or
not at all.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli import filters, orders, times
from cli.message import AsJson
from cli.orders import Wanted
from store.queries import Filter

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", show_default=False, help="Messages, by id or any unique beginning."),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes on record with your name.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--recipients",
        metavar="ADDRESS",
        show_default=False,
        help="Only for these recipients: exact, or a pattern with *. May be given again.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Go on then by itself: 2h, 3d, or a time (RFC 3339)."),
]


@filters.taken
def hold(
    ids: Ids = None,
    *,
    reason: Reason = "",
    until: Until = None,
    recipients: Only = None,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Keep messages back, until --until or 'mailgate release'.

    What is just being handed over can't be held. Exit code 1 if something could not be done.
    """
    then = None if until is None else times.read_ahead(until, "--until", times.now())
    which = Wanted(ids=tuple(ids or ()), filter=wanted, recipients=tuple(recipients or ()))
    return orders.give("hold", which, reason, until=then, yes=yes, as_json=as_json)


@filters.taken
def release(
    ids: Ids = None,
    *,
    reason: Reason = "",
    recipients: Only = None,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Let go on what is held: its next step is due now, as the current configuration decides.

    What was held because nobody knows whether the next hop has it is sent again, and that may make a duplicate: for whom is
    said. Exit code 1 if something could not be done.
    """
    which = Wanted(ids=tuple(ids or ()), filter=wanted, recipients=tuple(recipients or ()))
    return orders.give("release", which, reason, yes=yes, as_json=as_json)


@filters.taken
def discard(
    ids: Ids = None,
    *,
    reason: Reason = "",
    recipients: Only = None,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Decide that messages go nowhere. Nobody is told; the octets are kept here, and its mailbox may be cleared of it.

    Exit code 1 if something could not be done.
    """
    which = Wanted(ids=tuple(ids or ()), filter=wanted, recipients=tuple(recipients or ()))
    return orders.give("discard", which, reason, yes=yes, as_json=as_json)


@filters.taken
def fail(
    ids: Ids = None,
    *,
    reason: Reason = "",
    recipients: Only = None,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Give messages up: no further try. The sender of outgoing mail is told, of incoming mail the postmaster.

    The octets are kept. Exit code 1 if something could not be done.
    """
    which = Wanted(ids=tuple(ids or ()), filter=wanted, recipients=tuple(recipients or ()))
    return orders.give("fail", which, reason, yes=yes, as_json=as_json)
