"""The filters that find messages: `--from --to --subject …`, the same for every command that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated, Any

import typer

from cli import times, words
from store.queries import Filter

_NAMES = "exact, or a pattern with *"

From = Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help=f"The reverse-path: {_NAMES}.")]
To = Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help=f"A recipient: {_NAMES}.")]
Subject = Annotated[
    str | None, typer.Option("--subject", metavar="TEXT", help="Part of the subject, also inside a word.")
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="WORDS",
        help="Whole words of subject and addresses, in any order; inv* for those that begin so.",
    ),
]
MessageId = Annotated[
    str | None, typer.Option("--message-id", metavar="ID", help="The Message-ID, with or without <>.")
]
For = Annotated[
    str | None, typer.Option("--for", metavar="ADDRESS", help="Recipient: exact, or a pattern with *.")
]  # where --to means something else
Mailbox = Annotated[str | None, typer.Option("--mailbox", metavar="NAME", help="Fetched from this mailbox.")]
State = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help=f"One of {', '.join(words.STATES)}.")
]
Direction = Annotated[
    str | None, typer.Option("--direction", metavar="WAY", help=f"One of {', '.join(words.DIRECTIONS)}.")
]
NextHop = Annotated[
    str | None,
    typer.Option("--next-hop", metavar="NAME", help="Was to go or was tried there; mx for any mx:DOMAIN."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Came in then or later: 2h, 3d, or a time (RFC 3339)."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Came in before then.")]
Before = Annotated[
    str | None, typer.Option("--before", metavar="TIME", help="Came in before then.")
]  # where --until means something else
Event = Annotated[
    str | None, typer.Option("--event", metavar="NAME", help="This event happened to it, at any time.")
]
Reply = Annotated[
    str | None,
    typer.Option("--reply", metavar="TEXT", help=f"The last reply to a recipient: {_NAMES}; '' for none."),
]
Slower = Annotated[
    str | None,
    typer.Option("--slower", metavar="TIME", help="Took so long or longer until it was closed: 10s, 5m, 1d."),
]
Faster = Annotated[str | None, typer.Option("--faster", metavar="TIME", help="Took less.")]

Kept = Annotated[
    bool, typer.Option("--kept", help="Only what is to be kept whatever its age ('audit retention --keep').")
]
Part = Annotated[
    str | None, typer.Option("--replay", metavar="NAME", help="Was part of the replay with this id.")
]


def taken(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command, in place of its `wanted`, the options whose meaning together that is.

    Where the command has an --until of its own, that filter is --before; where it has a --to of its own, --for.
    """
    its_own = inspect.signature(command, eval_str=True).parameters
    asked = dict(inspect.signature(_meant, eval_str=True).parameters)
    del asked["latest"]
    latest = "--before" if "until" in its_own else "--until"
    if "until" in its_own:
        asked["until"] = asked["until"].replace(name="before", annotation=Before)
    if "to" in its_own:
        asked["recipient"] = asked["recipient"].replace(name="for_", annotation=For)

    def taking(**given: Any) -> Any:
        filters = {name: given.pop(option.name) for name, option in asked.items()}
        return command(**given, wanted=_meant(**filters, latest=latest))

    every = chain.from_iterable(asked.values() if name == "wanted" else (p,) for name, p in its_own.items())
    by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in every]
    taking.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    taking.__annotations__ = {}
    taking.__doc__ = command.__doc__
    return taking


def _meant(
    sender: From = None,
    recipient: To = None,
    subject: Subject = None,
    text: Text = None,
    message_id: MessageId = None,
    mailbox: Mailbox = None,
    state: State = None,
    direction: Direction = None,
    next_hop: NextHop = None,
    since: Since = None,
    until: Until = None,
    event: Event = None,
    reply: Reply = None,
    slower: Slower = None,
    faster: Faster = None,
    kept: Kept = False,
    replay: Part = None,
    latest: str = "--until",
) -> Filter:
    """Return the filter that these options mean together; `latest` is what `until` is called. Raises Misuse."""
    current = times.now()
    begin, end = times.span_optional(since, until, latest, current)
    return Filter(
        sender=sender,
        recipient=recipient,
        subject=words.subject(subject),
        text=words.text(text),
        message_id=message_id,
        mailbox=mailbox,
        state=words.state(state),
        direction=words.direction(direction),
        next_hop=next_hop,
        since=begin,
        until=end,
        event=words.message_event(event),
        reply=reply,
        slower=times.duration(slower, "--slower"),
        faster=times.duration(faster, "--faster"),
        kept=kept,
        replay=replay,
    )


def written(wanted: Filter) -> Iterator[str]:
    """Yield the options that mean this filter for `list`, as the command line has them."""
    options = (
        ("--from", wanted.sender),
        ("--to", wanted.recipient),
        ("--subject", wanted.subject),
        ("--text", wanted.text),
        ("--message-id", wanted.message_id),
        ("--mailbox", wanted.mailbox),
        ("--state", wanted.state),
        ("--direction", wanted.direction),
        ("--next-hop", wanted.next_hop),
        ("--since", times.exact(wanted.since)),
        ("--until", times.exact(wanted.until)),
        ("--event", wanted.event),
        ("--reply", wanted.reply),
        ("--slower", times.written(wanted.slower)),
        ("--faster", times.written(wanted.faster)),
        ("--replay", wanted.replay),
    )
    for option, value in options:
        if value is not None:
            yield from (f"{option}={value}",) if value.startswith("-") else (option, value)
    if wanted.kept:
        yield "--kept"
