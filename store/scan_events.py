"""What is found in a message, and what follows from it; part of the vocabulary in `events`."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from msgspec import Struct

from store.personal import Personal

Verdict = Literal["clean", "infected", "spam", "unscannable", "error"]
Blame = Literal["scanner", "message"]
QuarantinedWhy = Literal[
    "infected", "spam", "attachment", "unscannable", "scanner-error", "refused-as-spam", "operator"
]


class Scanned(Struct, frozen=True, kw_only=True):
    """A scanner was asked about this message, and this is its verdict.

    `error` says nothing about the message: with `retry_at` it waits and the scanner is asked again then; without, the
    policy let it pass. `blame` is whose failure it was: with `message` the scanner was well before it got this one. A `late`
    verdict came when the message had its fate, or was in quarantine already: it changes nothing.
    """

    NAME: ClassVar[str] = "scanned"
    VERSION: ClassVar[int] = 1

    scanner: str  # its name in the configuration
    verdict: Verdict
    signature: str | None = None  # of what was found
    score: float | None = None
    threshold: float | None = (
        None  # the score from which the scanner itself, or its configuration there, says spam
    )
    symbols: tuple[str, ...] = ()  # the rules that hit
    engine: str = ""  # its version, with that of its signatures
    duration_ms: int
    retry_at: datetime | None = None
    blame: Blame | None = None  # of an error
    late: bool = False
    policy: str

    detail: Personal[str] = ""  # in its own words; may name a file in the message


class Quarantined(Struct, frozen=True, kw_only=True):
    """Kept from these recipients until a person decides. No numbers means all that have no fate.

    `rule` says what made us do so, without personal facts. Where the home server refused it as spam, `reply` is what it said.
    """

    NAME: ClassVar[str] = "quarantined"
    VERSION: ClassVar[int] = 1

    reason: QuarantinedWhy
    rule: str
    scanner: str | None = None
    numbers: tuple[int, ...] = ()
    next_hop: str | None = None  # that refused it
    operator: str | None = None
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    reply: Personal[str | None] = None


class RedeliveryRequested(Struct, frozen=True, kw_only=True):
    """Deliver it again, or to somebody else: a person asked for it, or a rule.

    `numbers` are recipients that it had; `added` counts those it gets now: their addresses are the last of `recipients`.
    Those that have it already are left alone unless `force`. The same `replay` happens once to a message. `bound_for` is the one
    next hop that all of these were to go to then; None for several, or none.
    """

    NAME: ClassVar[str] = "redelivery-requested"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...] = ()
    added: int = 0
    next_hop: str | None = None  # instead of the one that the routes name
    bound_for: str | None = None
    force: bool = False
    replay: str | None = None
    operator: str | None = None
    rule: str | None = None
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    reason: Personal[str] = ""
