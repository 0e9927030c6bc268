"""LIST and UIDL put together: only what is whole and said once is offered, and a million is not too much."""

from __future__ import annotations

import tracemalloc

from engine.adapters.pop3_offers import Listed, offers_of
from engine.core.listing import NAMED
from engine.ports import Lacking, Offer
from engine.wire import pop3_commands
from engine.wire.pop3_commands import Command
from engine.wire.pop3_replies import Replied

MANY = 20_000
OCTETS_EACH = 250  # of a message with a UIDL of 30 octets: what is handed out, and the one mapping


def replied(command: Command, body: bytes | None) -> Replied:
    return Replied(command, body is not None, b"+OK\r\n", None if body is None else bytearray(body))


def offered(sizes: bytes, uidls: bytes | None) -> Listed:
    return offers_of(replied(pop3_commands.LIST, sizes), replied(pop3_commands.UIDL, uidls))


def test_a_message_listed_twice_is_offered_where_both_lines_say_the_same() -> None:
    sizes = b"1 10\r\n2 20\r\n2 20\r\n3 30\r\n3 31\r\n4 40\r\n5 50\r\n"
    uidls = b"1 a\r\n2 b\r\n3 c\r\n4 d\r\n4 d\r\n5 e\r\n5 f\r\n5 e\r\n"

    assert offered(sizes, uidls) == (
        (Offer(1, 10, b"a"), Offer(2, 20, b"b"), Offer(4, 40, b"d")),
        2,
        (Lacking(None, b"c"), Lacking(50, None)),
    )


def test_what_only_one_of_both_lists_or_lists_badly_is_passed_over() -> None:
    sizes = b"1 10\r\n2\r\nrubbish\r\n4 40\r\n5 50\r\n6 60\r\n"
    uidls = b"3 c\r\n3 c\r\n2 b\r\n1 a\r\n5\r\n5 e\r\nrubbish\r\nmore\r\n6 f\r\n"

    # 2 and 5 have a broken line, 3 and 4 stand in one listing only, and two lines have no number.
    listed = offered(sizes, uidls)
    assert listed[:2] == ((Offer(1, 10, b"a"), Offer(6, 60, b"f")), 6)
    assert listed.lacking == (
        *(Lacking(None, b"b"), Lacking(40, None), Lacking(50, None), Lacking(None, b"c")),
        *(Lacking(None, None), Lacking(None, None)),
    )
    assert [one.lacks for one in listed.lacking] == ["size", "uidl", "uidl", "size", "line", "line"]


def test_of_very_many_that_are_passed_over_some_are_told() -> None:
    sizes = b"".join(b"%d %d\r\n" % (n, n) for n in range(1, 2 * NAMED + 1))
    listed = offered(sizes, b"1 a\r\n2 \r\n")
    assert (listed.offers, listed.passed_over) == ((Offer(1, 1, b"a"),), 2 * NAMED - 1)
    assert listed.lacking == tuple(Lacking(n, None) for n in range(2, NAMED + 2))


def test_without_uidl_what_is_listed_well_is_offered_without() -> None:
    sizes = b"2 20\r\n1 10\r\n3\r\n4 40\r\n4 41\r\nrubbish\r\n"

    nothing = Lacking(None, None)
    assert offered(sizes, None) == ((Offer(2, 20, None), Offer(1, 10, None)), 3, (nothing,) * 3)


def test_a_long_listing_takes_little_more_than_its_offers() -> None:
    sizes = replied(pop3_commands.LIST, b"".join(b"%d %d\r\n" % (n, 10_000 + n) for n in range(1, MANY + 1)))
    uidls = replied(pop3_commands.UIDL, b"".join(b"%d %030d\r\n" % (n, n) for n in range(1, MANY + 1)))

    tracemalloc.start()
    try:
        offers, passed_over, _ = offers_of(sizes, uidls)
        _, most_octets = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (len(offers), passed_over) == (MANY, 0)
    assert not sizes.body
    assert not uidls.body
    assert most_octets < OCTETS_EACH * MANY
