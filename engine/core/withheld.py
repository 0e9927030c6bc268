"""What a mailbox lists and does not give: messages whose RETR it refuses, those at which every session breaks, and those that
its listing does not tell enough of. And what it refuses to delete.

Pure. A session that came to its end has tried everything, so what it met is the truth; one that broke has not, so what
was known before still stands for whatever it did not reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.core.listing import NAMED, Lacking, Offer, named
from store.mailbox_events import Undeleted, Withheld
from store.mailbox_life import Known, Mailbox

Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is withheld as of now: some by name, what breaks sessions first, and how many others."""

    named: tuple[Withheld, ...] = ()
    more: int = 0


class Withholding:
    """What one session meets, held against what was known `before`."""

    def __init__(self, before: Sequence[Withheld], more: int = 0) -> None:
        self._before = tuple(before)
        self._more_before = more
        self._met: list[Withheld] = []
        self._more_met = 0
        self._lacking: tuple[Withheld, ...] = ()
        self._more_lacking = 0

    @property
    def breaking(self) -> tuple[bytes, ...]:
        """The UIDLs at which sessions are known to break."""
        return tuple(one.uidl.encode("latin-1") for one in self._before if one.breaks and one.uidl)

    @property
    def refused(self) -> tuple[bytes, ...]:
        """The UIDLs of messages that were refused before, where all are named: else others would be named each time."""
        if self._more_before:
            return ()
        found = (one for one in self._before if not one.breaks and one.lacks is None and one.uidl)
        return tuple(one.uidl.encode("latin-1") for one in found)

    def pass_over(self, lacking: Sequence[Lacking], count: int, now: datetime) -> None:
        """Take note of the messages that the listing does not tell enough of: `count` in all, some by what it tells."""
        self._lacking = tuple(passed_over(one, now) for one in lacking)
        self._more_lacking = count - len(lacking)

    def longer(self, offer: Offer) -> bool:
        """Whether a message was withheld before this session."""
        return _offered(offer) in map(_named, self._before)

    def meet(self, offer: Offer, text: str, now: datetime, *, breaks: bool = False) -> None:
        """Take note of a message that was not to be had."""
        if breaks or len(self._met) < NAMED:
            uidl = (offer.uidl or b"").decode("latin-1")
            self._met.append(
                Withheld(uidl=uidl, size_octets=offer.size_octets, breaks=breaks, text=text, since=now)
            )
        else:
            self._more_met += 1

    def after(self, listed: Iterable[Offer], given: frozenset[int], *, whole: bool) -> Standing:
        """Return what is withheld as of now; `given` has the numbers retrieved.

        `whole` says that everything wanted was tried.
        """
        waiting = {_offered(offer) for offer in listed if offer.number not in given}
        stands = () if whole else tuple(one for one in self._before if _named(one) in waiting)
        earlier = {(_named(one), one.breaks): one for one in self._before}
        now = {_named(one): one for one in (*stands, *self._met)}
        met = sorted(
            (earlier.get((name, one.breaks), one) for name, one in now.items()),
            key=lambda one: not one.breaks,
        )
        found = (*met, *(earlier.get((_named(one), one.breaks), one) for one in self._lacking))
        others = (
            self._more_met if whole else max(self._more_met, self._others_before(len(waiting) - len(met)))
        )
        return Standing(found[:NAMED], max(len(found) - NAMED, 0) + others + self._more_lacking)

    def _others_before(self, room: int) -> int:
        """Return how many more than are named were refused, and may be still."""
        if any(one.lacks for one in self._before):
            return 0  # these are named last, so all others are
        return max(min(self._more_before - self._more_lacking, room), 0)

    def news(self, after: Standing) -> tuple[Withheld, ...] | None:
        """Return what is withheld that was not before, None where nothing changed; the server's words don't count."""
        before, now = Counter(map(_how, self._before)), Counter(map(_how, after.named))
        if (before, self._more_before) == (now, after.more):
            return None
        return tuple(one for one in after.named if _how(one) not in before)


def undeleted(
    standing: Mailbox, refused: Sequence[tuple[Known, str]], now: datetime
) -> tuple[tuple[Undeleted, ...], int]:
    """Return what the server refuses to delete as of now: some by name, and how many others."""
    since = {one.message: one for one in standing.undeleted}
    found = [
        since.get(one.stream or "")
        or Undeleted(
            message=one.stream or "",
            uidl=one.uidl.decode("latin-1"),
            size_octets=one.size_octets,
            text=text,
            since=now,
        )
        for one, text in refused[:NAMED]
    ]
    return tuple(found), len(refused) - len(found)


def in_words(one: Withheld | Undeleted) -> str:
    """Say which message is withheld, or not deleted, and how."""
    if isinstance(one, Undeleted):
        how = "the server refuses to delete a message"
    elif one.lacks is not None:
        return _lack_in_words(one)
    else:
        how = "the session breaks at a message" if one.breaks else "the server refuses a message"
    return f"{how} ({named(one.uidl, one.size_octets)}): {one.text or 'without a reason'}"


def _lack_in_words(one: Withheld) -> str:
    match one.lacks:
        case "uidl":
            return f"the server lists a message without a unique id ({one.size_octets:,} octets): it can't be fetched"
        case "size":
            uidl = named(one.uidl, 0).partition(",")[0]
            return f"the server lists a message without a size ({uidl}): it can't be fetched"
        case _:
            return "a line of the listing can't be read: its message can't be fetched"


def lines(news: Sequence[Withheld | Undeleted] | None, more: int) -> list[str]:
    """Say what is withheld or not deleted that was not before, in lines; None where nothing changed."""
    if news is None:
        return []
    return [*map(in_words, news), *([others(more)] if more > 0 else [])]


def others(more: int) -> str:
    """Say that there are more than were named."""
    return f"and {more:,} more"


def passed_over(one: Lacking, now: datetime) -> Withheld:
    """Return a message that the listing does not tell enough of as what is withheld."""
    return Withheld(
        uidl=(one.uidl or b"").decode("latin-1"),
        size_octets=one.size_octets or 0,
        breaks=False,
        text="",
        since=now,
        lacks=one.lacks,
    )


def _named(one: Withheld) -> Key:
    """By its UIDL; by its size where there is none. Listings may disagree on the size of a message with a UIDL."""
    return (one.uidl, 0 if one.uidl else one.size_octets, one.lacks or "")


def _how(one: Withheld) -> tuple[Key, bool]:
    return _named(one), one.breaks


def _offered(offer: Offer) -> Key:
    return ((offer.uidl or b"").decode("latin-1"), 0 if offer.uidl else offer.size_octets, "")
