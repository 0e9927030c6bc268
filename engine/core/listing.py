"""What a listing means: which offers are new, which are known, what has left, what may be removed.

Pure. RFC 1939 section 7 lets a UIDL be any string, lets a server repeat one, and lets it be used again once its
message is deleted; servers also change all of them at once. So a UIDL alone is never proof that a message was
seen: where it is in doubt, the octets decide, and where everything is in doubt, a person does. It is in doubt wherever
a QUIT may have deleted the message: section 6 leaves open what became of one whose answer did not come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from store.mailbox_events import Lack
from store.mailbox_life import Known
from store.recipient import ACCEPTED

# A reset is suspected when this many known messages left, and nearly all of them seem to have come back under
# other UIDLs with the very same sizes. Fewer are told apart by their octets instead.
RESET_VANISHED = 5
RESET_ALIKE = 0.8
RESET_GONE = 0.5  # of what was known: a mailbox somebody has cleaned up is no reset

NAMED = 20  # of messages with one fault, in one event: some kilobytes; a mailbox with more has one fault, not many


def named(uidl: str, size_octets: int) -> str:
    """Return how a listed message is named to a person; a UIDL may be any octets, read as one character each."""
    shown = "".join(c if c.isprintable() else "?" for c in uidl)
    return f"{f'UIDL {shown}' if uidl else 'without UIDL'}, {size_octets:,} octets"


class Offer(Struct, frozen=True, gc=False):  # there may be a million, and none is part of a cycle
    """One message of a listing (RFC 1939 section 5).

    `number` is valid in this session only. `size_octets` is what LIST says, which may be wrong. `uidl` is the octets as
    the server sent them, or None where the server has no UIDL.
    """

    number: int
    size_octets: int
    uidl: bytes | None

    @property
    def named(self) -> str:
        """Which one it is, for a person: by what outlives the session."""
        return named("" if self.uidl is None else self.uidl.decode("latin-1"), self.size_octets)


class Lacking(Struct, frozen=True, gc=False):
    """A listed message that can't be offered, for want of its size, its UIDL or both."""

    size_octets: int | None
    uidl: bytes | None

    @property
    def lacks(self) -> Lack:
        """What is not told of it."""
        if self.size_octets is not None:
            return "uidl"
        return "line" if self.uidl is None else "size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """When the operator wants a message deleted from its mailbox."""

    when: Literal["delivered", "downloaded", "never", "after"]
    after: timedelta | None = None
    oversize: bool = False  # also those that were never retrieved, once their recipients have the notice

    @property
    def ever(self) -> bool:
        """Whether anything is ever deleted."""
        return self.when != "never" or self.oversize

    def allows(self, one: Known, now: datetime) -> bool:
        """Whether this one may be deleted now."""
        if one.stream is None or one.state is None:
            return False  # adopted: its octets were never here
        if one.state == "rejected-oversize" and self.oversize and one.told:
            return True
        if one.content is None:
            return False  # never retrieved
        match self.when:
            case "delivered":
                return one.state in ACCEPTED or one.state == "discarded"
            case "downloaded":
                return True
            case "after":
                return bool(self.after and one.opened_at and one.opened_at + self.after <= now)
            case "never":
                return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A listing held against the record."""

    new: tuple[Offer, ...]  # to be retrieved
    doubtful: tuple[Offer, ...]  # have a known UIDL and may be another message: their octets tell
    known: tuple[tuple[Offer, Known], ...]
    vanished: tuple[Known, ...]  # on record, no longer listed
    missing: int  # of what vanished, what was not marked as deleted
    alike: int  # unknown offers of the same size as something that is missing
    doubted: frozenset[str] = frozenset()  # what is on record and was marked as deleted

    @property
    def reset(self) -> bool:
        """Whether the server seems to have given its messages other UIDLs."""
        count = self.missing
        mostly_gone = count >= RESET_GONE * (count + len(self.known))
        return count >= RESET_VANISHED and mostly_gone and self.alike >= RESET_ALIKE * count


def compare(offers: Sequence[Offer], present: Sequence[Known], marked: Collection[str] = ()) -> Difference:
    """Hold a listing against what the mailbox is known to hold.

    What was adopted has no octets to be recognised by: a listing of nothing at all, as of a mailbox that its server
    can't read just now, does not count against it.

    Offers without a UIDL are all new or doubtful: without names only the octets can tell. `marked` are the streams that
    the last QUIT may have deleted, or that may have another's octets: they are expected to vanish, and what is listed in
    their place may be another message.
    """
    doubted = frozenset(one.stream for one in present if one.stream and one.stream in marked)
    records: defaultdict[bytes, list[Known]] = defaultdict(list)
    for one in present:
        records[one.uidl].append(one)
    new: list[Offer] = []
    groups: defaultdict[bytes, list[Offer]] = defaultdict(
        list
    )  # only of what is on record: a million may be new
    for offer in offers:
        uidl = offer.uidl or b""
        (groups[uidl] if uidl in records else new).append(offer)
    doubtful: list[Offer] = []
    known: list[tuple[Offer, Known]] = []
    vanished = [
        one for uidl, ones in records.items() if uidl not in groups for one in ones if offers or one.stream
    ]
    for uidl, group in groups.items():
        _compare_group(uidl, group, records[uidl], doubted, doubtful, known, vanished)
    sizes = Counter(one.size_octets for one in vanished if one.stream not in doubted)
    alike = (Counter(offer.size_octets for offer in new if offer.size_octets in sizes) & sizes).total()
    return Difference(
        new=tuple(new),
        doubtful=tuple(doubtful),
        known=tuple(known),
        vanished=tuple(vanished),
        missing=sizes.total(),
        alike=alike,
        doubted=doubted,
    )


def _compare_group(
    uidl: bytes,
    group: list[Offer],
    records: list[Known],
    doubted: Collection[str | None],
    doubtful: list[Offer],
    known: list[tuple[Offer, Known]],
    vanished: list[Known],
) -> None:
    """Tell apart what shares one UIDL: nearly always one offer and at most one record."""
    if not uidl or len(group) > len(records):
        doubtful += group
    else:
        left, strange = list(records), []
        for offer in group:
            alike = (one for one in left if one.size_octets == offer.size_octets)
            match = next((one for one in alike if one.stream not in doubted), None)
            if match is None:
                strange.append(offer)  # the UIDL may have been given to another message meanwhile
            else:
                left.remove(match)
                known.append((offer, match))
        doubtful += strange
        if not strange:
            vanished += left


def removable(
    known: Sequence[tuple[Offer, Known]], removal: Removal, now: datetime
) -> tuple[tuple[Offer, Known], ...]:
    """Return what may be deleted from the mailbox.

    What shares its UIDL with something that must stay stays too: a server that can't tell them apart might
    delete the wrong one.
    """
    staying = Counter(one.uidl for _, one in known if not removal.allows(one, now))
    return tuple((offer, one) for offer, one in known if one.uidl == b"" or not staying[one.uidl])
