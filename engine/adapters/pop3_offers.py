"""LIST and UIDL put together: what a session offers.

A listing gives an offer only for what is whole. A message whose LIST or UIDL line is broken, or that is listed
twice with different facts, is passed over in this session and counted: it must not look like a message of a
server without UIDL, whose mail is told apart in other ways. Offers without UIDL come only from a server that
refuses UIDL as such.

A mailbox may hold a million messages, so there is one mapping and no more, and it holds what is handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from typing import Final, NamedTuple

from engine.core.listing import NAMED
from engine.ports import Lacking, Offer
from engine.wire.pop3_listing import sizes_of, uidls_of
from engine.wire.pop3_replies import Replied

# By message number: what is offered, in the order of LIST, None where its line there is broken; and the UIDLs of numbers of
# which LIST tells no size.
Offers = dict[int, Offer | None]
Unsized = dict[int, bytes | None]

BROKEN: Final = b""  # for a UIDL: no whole line has it


class Listed(NamedTuple):
    """What is offered, how many listed messages are not because a line of theirs is broken, and some of those."""

    offers: tuple[Offer, ...]
    passed_over: int
    lacking: tuple[Lacking, ...]


def offers_of(sizes: Replied, uidls: Replied) -> Listed:
    """What a listing comes to. The bodies are used up. Raises TooManyOffers."""
    offers: Offers = {}
    unsized: Unsized = {}
    nameless = _add_sizes(offers, sizes)
    named = uidls.body is not None
    if named:
        nameless = max(nameless, _add_uidls(offers, unsized, uidls))
    whole = tuple(offer for offer in offers.values() if offer is not None and (offer.uidl or not named))
    strange = sum(number not in offers for number in unsized)
    passed_over = nameless + strange + len(offers) - len(whole)
    if not passed_over:
        return Listed(whole, 0, ())
    lacking = tuple(islice(_lacking(offers, unsized, nameless, named=named), NAMED))
    return Listed(whole, passed_over, lacking)


def _lacking(offers: Offers, unsized: Unsized, nameless: int, *, named: bool) -> Iterator[Lacking]:
    for number, offer in offers.items():
        if offer is None:
            yield Lacking(None, unsized.get(number))
        elif named and not offer.uidl:
            yield Lacking(offer.size_octets, None)
    yield from (Lacking(None, uidl) for number, uidl in unsized.items() if number not in offers)
    yield from repeat(Lacking(None, None), nameless)


def _add_sizes(offers: Offers, sizes: Replied) -> int:
    """Add what LIST says; returns how many of its lines have no readable number."""
    nameless = 0
    body = sizes.body or bytearray()
    for number, size in sizes_of(body, sizes.line_end):
        if number is None:
            nameless += 1
        else:
            offer = None if size is None else Offer(number, size, None)
            offers[number] = offer if offers.get(number, offer) == offer else None
    body.clear()
    return nameless


def _add_uidls(offers: Offers, unsized: Unsized, uidls: Replied) -> int:
    """Add what UIDL says; returns how many of its lines have no readable number."""
    nameless = 0
    body = uidls.body or bytearray()
    for number, uidl in uidls_of(body, uidls.line_end):
        if number is None:
            nameless += 1
        elif (offer := offers.get(number)) is None:
            unsized[number] = uidl
        else:
            offers[number] = _named(offer, uidl)
    body.clear()
    return nameless


def _named(offer: Offer, uidl: bytes | None) -> Offer:
    known = offer.uidl
    if known is not None and known == uidl:
        return offer
    return Offer(offer.number, offer.size_octets, BROKEN if uidl is None or known is not None else uidl)
