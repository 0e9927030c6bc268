"""What a person can do about a message: the commands that fit how it stands."""

from __future__ import annotations

from collections.abc import Iterator

from cli.main import PLACES
from store.life import Message
from store.recipient import ACCEPTED


def commands(message: Message, *, superseded: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the commands that help with a message, and what for, as far as there are such.

    One that was too large to be fetched is `superseded` by what came of it, or was found too large again, later.
    """
    for command, purpose in _useful(message):
        if superseded and command == "replay":
            continue
        if command.split()[0] in PLACES:
            yield command, purpose


def _useful(message: Message) -> Iterator[tuple[str, str]]:
    yield "show", "every event, every reply"
    if message.kept:
        yield "raw", "its octets"
    if message.state == "quarantined":
        yield "quarantine show", "what each scanner found"
        yield "quarantine release", "let it go on; the same verdict does not keep it again"
    elif message.state == "held" or any(r.open and r.held for r in message.recipients):
        yield "release", "let it go on"
    elif message.open:
        if message.state == "deferred" and message.kept and message.awaited is None:
            yield "replay", "try it now, and do not wait"
        yield "hold", "keep it until a person or a time lets it go on"
    if message.open:
        yield "discard", "give it up without a report"
        yield (
            "fail",
            "no further try" + (", and its sender is told" if message.direction == "outbound" else ""),
        )
    if not message.open and message.kept:
        yield _again(message)
    if message.state == "rejected-oversize" and message.content is None and not message.removed:
        yield "replay", "fetch and deliver it after all, once the limit is raised"


def _again(message: Message) -> tuple[str, str]:
    """The replay that would do something, for whoever is meant: who has it gets it by force alone."""
    if not message.recipients:
        return "replay --recipients ADDRESS", "deliver it to somebody"
    if all(r.state in ACCEPTED for r in message.recipients):
        return "replay --force", "deliver it again, to who has it already"
    return "replay", "deliver it again"
