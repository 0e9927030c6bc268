"""LIST and UIDL put together: what a session offers.

A listing gives an offer only for what is whole. A message whose LIST or UIDL line is broken, or that is listed
twice with different facts, is passed over in this session and counted: it must not look like a message of a
server without UIDL, whose mail is told apart in other ways. Offers without UIDL come only from a server that
refuses UIDL as such.

A mailbox may hold a million messages, so there is one mapping and no more, and it holds what is handed out.
"""

from __future__ import annotations

from engine.ports import Offer
from engine.wire.pop3_listing import sizes_of, uidls_of
from engine.wire.pop3_replies import Replied

Offers = dict[int, Offer | None]  # by message number, in the order of LIST; None where a line is broken


def offers_of(sizes: Replied, uidls: Replied) -> tuple[tuple[Offer, ...], int]:
    """What is offered, and how many listed messages are not, because a line of theirs is broken.

    The bodies are used up. Raises TooManyOffers.
    """
    offers: Offers = {}
    nameless = _add_sizes(offers, sizes)
    numbers = len(offers)
    if uidls.body is None:
        whole = tuple(offer for offer in offers.values() if offer is not None)
    else:
        strange: set[int] = set()  # numbers that LIST does not have
        nameless = max(nameless, _add_uidls(offers, strange, uidls))
        numbers += len(strange)
        whole = tuple(offer for offer in offers.values() if offer is not None and offer.uidl is not None)
    return whole, nameless + numbers - len(whole)


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


def _add_uidls(offers: Offers, strange: set[int], uidls: Replied) -> int:
    """Add what UIDL says; returns how many of its lines have no readable number."""
    nameless = 0
    body = uidls.body or bytearray()
    for number, uidl in uidls_of(body, uidls.line_end):
        if number is None:
            nameless += 1
        elif number in offers:
            offers[number] = _named(offers[number], uidl)
        else:
            strange.add(number)
    body.clear()
    return nameless


def _named(offer: Offer | None, uidl: bytes | None) -> Offer | None:
    if offer is None or uidl is None:
        return None
    if offer.uidl is None:
        return Offer(offer.number, offer.size_octets, uidl)
    return offer if offer.uidl == uidl else None
