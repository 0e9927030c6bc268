"""The filters that find messages: `--from --to --subject …`, the same for every command that takes them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import times, words
from store.queries import Filter

_NAMES = "exact, or a pattern with *"

From = Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help=f"The reverse-path: {_NAMES}.")]
To = Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help=f"A recipient: {_NAMES}.")]
Subject = Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="Part of the subject.")]
MessageId = Annotated[
    str | None, typer.Option("--message-id", metavar="ID", help="The Message-ID, with or without <>.")
]
Mailbox = Annotated[str | None, typer.Option("--mailbox", metavar="NAME", help="Fetched from this mailbox.")]
State = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help=f"One of {', '.join(words.STATES)}.")
]
Direction = Annotated[
    str | None, typer.Option("--direction", metavar="WAY", help=f"One of {', '.join(words.DIRECTIONS)}.")
]
NextHop = Annotated[
    str | None, typer.Option("--next-hop", metavar="NAME", help="Last tried at this next hop.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Came in then or later: 2h, 3d, or a time (RFC 3339)."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Came in before then.")]
Event = Annotated[
    str | None, typer.Option("--event", metavar="NAME", help="This event happened to it, at any time.")
]


def wanted(
    *,
    sender: str | None,
    recipient: str | None,
    subject: str | None,
    message_id: str | None,
    mailbox: str | None,
    state: str | None,
    direction: str | None,
    next_hop: str | None,
    since: str | None,
    until: str | None,
    event: str | None,
) -> Filter:
    """Return the filter that these options mean together. Raises Misuse."""
    current = times.now()
    return Filter(
        sender=sender,
        recipient=recipient,
        subject=subject,
        message_id=message_id,
        mailbox=mailbox,
        state=words.state(state),
        direction=words.direction(direction),
        next_hop=next_hop,
        since=times.read_optional(since, "--since", current),
        until=times.read_optional(until, "--until", current),
        event=words.message_event(event),
    )
