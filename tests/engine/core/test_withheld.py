"""What a session shows of messages that are not to be had, held against what was known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine.core.listing import NAMED, Lacking, Offer
from engine.core.withheld import Standing, Withholding, in_words, lines
from store.mailbox_events import Withheld

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(days=2)
OFFERS = tuple(Offer(number, 100 * number, b"u%d" % number) for number in range(1, 6))
NONE: frozenset[int] = frozenset()


def known(number: int, *, breaks: bool = False) -> Withheld:
    return Withheld(uidl=f"u{number}", size_octets=100 * number, breaks=breaks, text="no", since=EARLIER)


def test_a_whole_session_forgets_what_it_did_not_meet() -> None:
    held = Withholding([known(1), known(2, breaks=True)])
    held.meet(OFFERS[0], "still no", NOW)
    after = held.after(OFFERS, frozenset({2, 3, 4, 5}), whole=True)
    assert after == Standing((known(1),))
    assert held.news(after) == ()


def test_a_broken_session_keeps_what_it_did_not_reach() -> None:
    held = Withholding([known(1), known(2), known(9)])
    held.meet(OFFERS[4], "broken", NOW, breaks=True)
    after = held.after(OFFERS, frozenset({1}), whole=False)
    assert [(one.uidl, one.breaks) for one in after.named] == [("u5", True), ("u2", False)]
    assert held.news(after) == after.named[:1]


def test_other_words_or_another_size_are_no_news() -> None:
    held = Withholding([known(1)])
    held.meet(Offer(1, 101, b"u1"), "no, as of 12:01", NOW)
    assert held.news(held.after(OFFERS, NONE, whole=True)) is None


def test_a_message_that_was_refused_and_breaks_sessions_now_is_news() -> None:
    held = Withholding([known(1)])
    held.meet(OFFERS[0], "broken", NOW, breaks=True)
    after = held.after(OFFERS, NONE, whole=False)
    assert [(one.breaks, one.since) for one in after.named] == [(True, NOW)]
    assert held.news(after) == after.named


def test_of_very_many_some_are_named_and_always_the_same() -> None:
    offers = [Offer(number, 5, b"%d" % number) for number in range(NAMED * 3)]
    held = Withholding(())
    for offer in offers[:-1]:
        held.meet(offer, "no", NOW)
    held.meet(offers[-1], "broken", NOW, breaks=True)
    first = held.after(offers, NONE, whole=False)
    assert (len(first.named), first.more) == (NAMED, NAMED * 2)
    assert first.named[0].breaks
    again = Withholding(first.named, first.more)
    for offer in offers[:-1]:
        again.meet(offer, "no", NOW)
    again.meet(offers[-1], "broken", NOW, breaks=True)
    assert again.news(again.after(offers, NONE, whole=False)) is None


def test_a_uidl_of_any_octets_is_known_again_and_shown_on_one_line() -> None:
    odd = Offer(1, 7, b"\xff\n\x00")
    held = Withholding(())
    held.meet(odd, "", NOW, breaks=True)
    (one,) = held.after([odd], NONE, whole=False).named
    assert Withholding([one]).breaking == (odd.uidl,)
    assert in_words(one) == "the session breaks at a message (UIDL \xff??, 7 octets): without a reason"


def test_what_the_listing_tells_too_little_of_is_withheld_and_no_news_the_next_time() -> None:
    lacking = (Lacking(7, None), Lacking(7, None), Lacking(None, b"u9"), Lacking(None, None))
    held = Withholding([known(1)])
    held.pass_over(lacking, 5, NOW)
    after = held.after(OFFERS, NONE, whole=False)
    assert lines(held.news(after), after.more) == [
        *["the server lists a message without a unique id (7 octets): it can't be fetched"] * 2,
        "the server lists a message without a size (UIDL u9): it can't be fetched",
        "a line of the listing can't be read: its message can't be fetched",
        "and 1 more",
    ]
    again = Withholding(after.named, after.more)
    again.pass_over(lacking, 5, NOW + timedelta(hours=1))
    assert again.after(OFFERS, NONE, whole=False) == after
    assert again.news(after) is None
    fewer = Withholding(after.named, after.more)
    fewer.pass_over(lacking[1:], 3, NOW)
    later = fewer.after(OFFERS, NONE, whole=False)
    assert (len(later.named), later.more, fewer.news(later)) == (4, 0, ())


def test_a_broken_session_forgets_no_more_than_it_must_of_those_that_are_not_named() -> None:
    offers = [Offer(number, 5, b"%d" % number) for number in range(NAMED + 9)]
    held = Withholding([])
    for offer in offers:
        held.meet(offer, "no", NOW)
    first = held.after(offers, NONE, whole=True)
    broken = Withholding(first.named, first.more)
    assert broken.after(offers, NONE, whole=False) == first
    assert broken.after(offers[:-3], NONE, whole=False).more == 6
    assert broken.after(offers, NONE, whole=True) == Standing()
