"""What a mailbox lists and does not give: messages whose RETR it refuses, and those at which every session breaks.

Pure. A session that came to its end has tried everything, so what it met is the truth; one that broke has not, so what
was known before still stands for whatever it did not reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from engine.core.listing import Offer, named
from store.mailbox_events import Withheld

NAMED = 20  # in one event: some kilobytes; a mailbox with more has one fault, not many

Key = tuple[str, int]


class Withholding:
    """What one session meets, held against what was known `before`."""

    def __init__(self, before: Sequence[Withheld]) -> None:
        self._before = tuple(before)
        self._met: list[Withheld] = []

    @property
    def breaking(self) -> tuple[bytes, ...]:
        """The UIDLs at which sessions are known to break."""
        return tuple(one.uidl.encode("latin-1") for one in self._before if one.breaks and one.uidl)

    def meet(self, offer: Offer, text: str, now: datetime, *, breaks: bool = False) -> None:
        """Take note of a message that was not to be had."""
        if breaks or len(self._met) < NAMED:
            uidl = (offer.uidl or b"").decode("latin-1")
            self._met.append(
                Withheld(uidl=uidl, size_octets=offer.size_octets, breaks=breaks, text=text, since=now)
            )

    def after(self, listed: Iterable[Offer], given: frozenset[int], *, whole: bool) -> tuple[Withheld, ...]:
        """Return what is withheld as of now, what breaks sessions first; `given` has the numbers retrieved.

        `whole` says that everything wanted was tried.
        """
        waiting = {_offered(offer) for offer in listed if offer.number not in given}
        stands = () if whole else tuple(one for one in self._before if _named(one) in waiting)
        earlier = {(_named(one), one.breaks): one for one in self._before}
        now = {_named(one): one for one in (*stands, *self._met)}
        found = [earlier.get((name, one.breaks), one) for name, one in now.items()]
        return tuple(sorted(found, key=lambda one: not one.breaks)[:NAMED])

    def news(self, after: Sequence[Withheld]) -> tuple[Withheld, ...] | None:
        """Return what is withheld that was not before, None where nothing changed; the server's words don't count."""
        before = {(_named(one), one.breaks) for one in self._before}
        if before == {(_named(one), one.breaks) for one in after}:
            return None
        return tuple(one for one in after if (_named(one), one.breaks) not in before)


def in_words(one: Withheld) -> str:
    """Say which message is withheld, and how."""
    how = "the session breaks at a message" if one.breaks else "the server refuses a message"
    return f"{how} ({named(one.uidl, one.size_octets)}): {one.text or 'without a reason'}"


def _named(one: Withheld) -> Key:
    """By its UIDL; by its size where there is none. Listings may disagree on the size of a message with a UIDL."""
    return (one.uidl, 0 if one.uidl else one.size_octets)


def _offered(offer: Offer) -> Key:
    return ((offer.uidl or b"").decode("latin-1"), 0 if offer.uidl else offer.size_octets)
