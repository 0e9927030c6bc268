"""What happened to a mailbox, in words: a sentence for each such event. Part of `story`."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

from cli import times
from cli.render import counted
from engine.core.withheld import lines
from store.mailbox_events import (
    Adopted,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    UidlResetSuspected,
)

Happening = PollFailed | PollRecovered | PollFinished | MarkedAsDeleted | Adopted | UidlResetSuspected


def happened(event: Happening) -> str:
    """Return what happened, to stand right behind the event's name."""
    match event:
        case PollFailed():
            return f" ({event.kind}): {event.text}" + ("; waiting won't help" if event.permanent else "")
        case PollRecovered():
            return f": mailbox {event.mailbox} answers again"
        case PollFinished():
            return _poll(event)
        case MarkedAsDeleted():
            count = f"{len(event.marked):,}" if event.marked else "nothing"
            return "; ".join((f": {count}", *lines(event.refused, event.more_refused)))
        case Adopted():
            return f" {counted(len(event.uidls), 'UIDL')} as seen, by {event.operator}: {event.reason}"
        case UidlResetSuspected():
            return (
                f": of {event.listed} listed, {event.alike} look like some of the {event.vanished} that vanished;"
                " nothing is fetched until a person adopts what is there"
            )
        case _:
            assert_never(event)


def _poll(event: PollFinished) -> str:
    took = times.span(timedelta(milliseconds=event.duration_ms))
    text = (
        f": {event.listed} listed, {event.downloaded} new ({times.size(event.downloaded_octets)}) in {took}"
    )
    text += f", {event.oversize} too large" if event.oversize else ""
    text += f", {event.refused} refused by the server" if event.refused else ""
    text += ", and then the session broke" if event.broken else ""
    return "; ".join((text, *lines(event.withheld, event.more_withheld)))
