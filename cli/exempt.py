"""`mailgate audit retention`: exempt messages from retention and erasure (a legal hold), or leave them to it again."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import filters
from cli.context import Misuse
from cli.message import AsJson
from store.queries import Filter

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", show_default=False, help="Messages, by id or any unique beginning."),
]
Keep = Annotated[
    bool | None,
    typer.Option(
        "--keep/--no-keep",
        show_default=False,
        help="Keep them, octets and record, whatever their age; or no longer.",
    ),
]


@filters.taken
def retention(
    ids: Ids = None,
    *,
    keep: Keep = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; goes on record with your name.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Exempt messages from retention and erasure: a legal hold.

    It lasts until --no-keep; 'mailgate list --kept' lists them.

    Open or closed, by ids or by the filters of 'list'; nothing else about them changes. Exit code 1 if something could not
    be done.
    """
    from cli import orders  # with what most commands here don't need

    if keep is None:
        raise Misuse("say --keep or --no-keep; 'mailgate list --kept' lists what is kept")
    if not reason.strip():
        raise Misuse("--reason is missing: it goes on record, with your name")
    which = orders.Wanted(ids=tuple(ids or ()), filter=wanted, recipients=())
    return orders.give("keep" if keep else "unkeep", which, reason, yes=yes, as_json=as_json)
