"""The words that a person may use in filters, and ids in short: what is meant, or what else could be.

A wrong word is an error that names the right ones. Any beginning of a message's id stands for the whole where no
other id begins so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, get_args

from cli.context import Failure, Misuse, nearest
from store import log, queries
from store.codec import CLASSES
from store.errors import Damaged
from store.events import Direction, MessageEvent
from store.folding import asked_words, folded
from store.recipient import State

if TYPE_CHECKING:
    from sqlalchemy import Connection

GREATEST = 10**15  # of numbers: more than there will ever be of anything, and a database takes it
CANDIDATES = 5  # of an ambiguous id that are named

STATES: tuple[str, ...] = get_args(State)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
EVENTS: tuple[str, ...] = tuple(CLASSES)
MESSAGE_EVENTS: tuple[str, ...] = tuple(kind.NAME for kind in get_args(MessageEvent))


def state(word: str | None) -> State | None:
    """Return the state meant. Raises Misuse."""
    return cast("State | None", _one_of(word, STATES, "--state"))


def direction(word: str | None) -> Direction | None:
    """Return the direction meant. Raises Misuse."""
    return cast("Direction | None", _one_of(word, DIRECTIONS, "--direction"))


def message_event(word: str | None) -> str | None:
    """Return the name of an event that messages have. Raises Misuse."""
    return _one_of(word, MESSAGE_EVENTS, "--event")


def event(word: str | None) -> str | None:
    """Return the name of an event. Raises Misuse."""
    return _one_of(word, EVENTS, "--event")


def text(searched: str | None) -> str | None:
    """Return the words to look for. Raises Misuse where there is no letter and no digit to look for."""
    if searched is None or asked_words(searched):
        return searched
    raise Misuse(f"--text: there is no word in {searched!r}; --subject finds any part of a subject")


def subject(fragment: str | None) -> str | None:
    """Return the part of a subject to look for. Raises Misuse where all subjects would have it: nothing of it is to be seen."""
    if fragment is None or fragment.isspace() or folded(fragment).strip():
        return fragment
    raise Misuse(f"--subject: there is nothing in {fragment!r} to look for")


def message_id(connection: Connection, beginning: str) -> str:
    """Return the one id that begins so.

    Raises Misuse where several do, Failure where none does, Damaged where the log knows nothing of it.
    """
    wanted = beginning.strip().lower()
    if not wanted:
        raise Misuse("an id is missing: 'mailgate list' prints them")
    found = queries.ids(connection, wanted, CANDIDATES + 1) if wanted.isascii() and wanted.isalnum() else []
    if len(found) == 1 or wanted in found:
        return _on_record(connection, wanted if wanted in found else found[0])
    if found:
        more = ", …" if len(found) > CANDIDATES else ""
        raise Misuse(f"several ids begin with {beginning!r}: {', '.join(found[:CANDIDATES])}{more}")
    hint = "; 'mailgate list --message-id' finds it by its Message-ID" if "@" in beginning else ""
    raise Failure(f"no message has an id that begins with {beginning!r}{hint}")


def _on_record(connection: Connection, stream: str) -> str:
    if log.opened(connection, stream):
        return stream
    raise Damaged(f"message {stream} is in the read tables and not in the log; run: mailgate db rebuild")


def limit(number: int) -> int:
    """Return how many are wanted, 0 for all. Raises Misuse."""
    if number < 0:
        raise Misuse(f"--limit: {number} is less than nothing; 0 is for all")
    if number > GREATEST:
        raise Misuse("--limit: the number is too large; 0 is for all")
    return number


def position(number: int | None) -> int:
    """Return the position in the log behind which somebody looks, 0 where nothing was said. Raises Misuse."""
    number = number or 0
    if number < 0:
        raise Misuse("--after: positions count from 1; 0 is the beginning")
    if number > GREATEST:
        raise Misuse("--after: the number is too large: no log is that long")
    return number


def _one_of(word: str | None, known: Sequence[str], option: str) -> str | None:
    if word is None or word in known:
        return word
    raise Misuse(
        f"{option}: there is no {option[2:]} {word!r}{nearest(word, known)} (one of {', '.join(known)})"
    )
