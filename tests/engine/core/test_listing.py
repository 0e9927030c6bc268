"""What a listing means, held against the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.listing import RESET_VANISHED, Difference, Offer, Removal, compare, removable
from store.mailbox_life import Known
from store.recipient import ATTENTION, State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATES: tuple[State, ...] = get_args(State)


def offer(number: int, uidl: str | None, size_octets: int = 100) -> Offer:
    return Offer(number, size_octets, None if uidl is None else uidl.encode())


def known(
    uidl: str, size_octets: int = 100, state: State | None = "delivered", *, age_days: int = 0, name: str = ""
) -> Known:
    return Known(
        uidl=uidl.encode(),
        size_octets=size_octets,
        stream=None if state is None else name or f"stream-{uidl}",
        state=state,
        content=None if state in (None, "rejected-oversize") else "00" * 32,
        opened_at=None if state is None else NOW - timedelta(days=age_days),
        gone=False,
    )


def pairs(difference: Difference) -> list[tuple[int, str | None]]:
    return sorted((one.number, record.stream) for one, record in difference.known)


# -- new, known, vanished


def test_an_empty_listing_and_an_empty_record_make_no_difference() -> None:
    assert compare([], []) == Difference(new=(), doubtful=(), known=(), vanished=(), missing=0, alike=0)


def test_what_was_never_seen_is_new_what_was_is_known_what_left_has_vanished() -> None:
    difference = compare([offer(1, "a"), offer(2, "c")], [known("a"), known("b")])
    assert difference.new == (offer(2, "c"),)
    assert pairs(difference) == [(1, "stream-a")]
    assert difference.vanished == (known("b"),)
    assert difference.doubtful == ()


def test_new_messages_keep_the_servers_order() -> None:
    offers = [offer(n, uidl) for n, uidl in enumerate("zebra", 1)]
    assert compare(offers, []).new == tuple(offers)


def test_uidls_are_octets_and_not_text() -> None:
    difference = compare([Offer(1, 100, b"\xc3\xa9"), Offer(2, 100, b"\xe9")], [])
    assert len(difference.new) == 2


def test_a_uidl_twice_in_one_listing_is_two_new_messages() -> None:
    assert compare([offer(1, "same"), offer(2, "same", 200)], []).new == (
        offer(1, "same"),
        offer(2, "same", 200),
    )


def test_both_messages_of_one_uidl_are_known_each_by_its_size() -> None:
    records = [known("same", 200, name="large"), known("same", 100, name="small")]
    difference = compare([offer(1, "same", 100), offer(2, "same", 200)], records)
    assert pairs(difference) == [(1, "small"), (2, "large")]


def test_a_further_message_under_a_known_uidl_makes_all_of_that_uidl_doubtful() -> None:
    difference = compare([offer(1, "same"), offer(2, "same"), offer(3, "other")], [known("same")])
    assert [one.number for one in difference.doubtful] == [1, 2]
    assert [one.number for one in difference.new] == [3]
    assert difference.vanished == ()


def test_of_two_messages_with_one_uidl_the_one_whose_size_is_gone_has_vanished() -> None:
    records = [known("same", 100, name="small"), known("same", 200, name="large")]
    difference = compare([offer(1, "same", 200)], records)
    assert pairs(difference) == [(1, "large")]
    assert difference.vanished == (known("same", 100, name="small"),)


def test_a_known_uidl_with_another_size_may_be_another_message_and_is_doubtful() -> None:
    difference = compare([offer(1, "a", 150)], [known("a", 100)])
    assert difference.doubtful == (offer(1, "a", 150),)
    assert difference.known == ()
    assert difference.vanished == ()


def test_a_uidl_used_again_after_its_message_left_the_record_is_new() -> None:
    assert compare([offer(1, "a")], []).new == (offer(1, "a"),)


def test_offers_without_uidl_are_new_at_first_and_doubtful_ever_after() -> None:
    offers = [offer(1, None), offer(2, None)]
    assert compare(offers, []).new == tuple(offers)
    assert compare(offers, [known("")]).doubtful == tuple(offers)


def test_all_that_is_on_record_without_uidl_vanished_when_nothing_is_listed() -> None:
    assert compare([], [known("")]).vanished == (known(""),)


# -- what a QUIT may have deleted


def test_what_quit_may_have_deleted_is_doubtful_though_uidl_and_size_are_the_same() -> None:
    difference = compare([offer(1, "a"), offer(2, "b")], [known("a"), known("b")], {"stream-a", "elsewhere"})
    assert difference.doubtful == (offer(1, "a"),)
    assert pairs(difference) == [(2, "stream-b")]
    assert difference.vanished == ()
    assert difference.doubted == {"stream-a"}


def test_what_came_in_the_place_of_what_quit_deleted_is_known_and_the_other_has_vanished() -> None:
    records = [known("a", name="old"), known("a", name="late")]
    difference = compare([offer(1, "a")], records, {"old"})
    assert pairs(difference) == [(1, "late")]
    assert difference.vanished == (records[0],)


def test_what_quit_may_have_deleted_is_no_sign_of_a_reset_and_the_rest_is() -> None:
    records = [known(f"old-{n}") for n in range(2 * RESET_VANISHED)]
    offers = [offer(n, f"new-{n}") for n in range(2 * RESET_VANISHED)]
    marked = {one.stream or "" for one in records}
    difference = compare(offers, records, marked)
    assert not difference.reset
    assert (len(difference.vanished), difference.missing, difference.alike) == (2 * RESET_VANISHED, 0, 0)
    assert compare(offers, records, {f"stream-old-{n}" for n in range(RESET_VANISHED)}).reset


# -- resets


def after_a_reset(count: int, *, other_sizes: int = 0, kept: int = 0) -> Difference:
    """All UIDLs but `kept` are others; so are the sizes of `other_sizes` messages."""
    records = [known(f"old-{n}", 1_000 + n) for n in range(count)] + [known(f"kept-{n}") for n in range(kept)]
    offers = [offer(n, f"new-{n}", 1_000 + n if n >= other_sizes else 7) for n in range(count)]
    offers += [offer(count + n, f"kept-{n}") for n in range(kept)]
    return compare(offers, records)


def test_a_reset_is_suspected_when_many_come_back_under_other_uidls() -> None:
    difference = after_a_reset(10)
    assert difference.reset
    assert difference.alike == 10
    assert len(difference.vanished) == 10


def test_a_reset_of_a_few_is_not_suspected_for_their_octets_tell() -> None:
    assert not after_a_reset(RESET_VANISHED - 1).reset
    assert after_a_reset(RESET_VANISHED).reset


def test_a_reset_is_suspected_though_some_sizes_differ() -> None:
    assert after_a_reset(10, other_sizes=2).reset
    assert not after_a_reset(10, other_sizes=3).reset


def test_a_mailbox_somebody_cleaned_up_is_no_reset() -> None:
    records = [known(f"uidl-{n}", 1_000 + n) for n in range(100)]
    assert not compare([], records).reset
    assert not compare([offer(1, "uidl-99", 1_099)], records).reset


def test_new_mail_in_a_mailbox_somebody_cleaned_up_is_no_reset() -> None:
    records = [known(f"uidl-{n}", 1_000 + n) for n in range(10)]
    assert not compare([offer(n, f"fresh-{n}", 50_000 + n) for n in range(30)], records).reset


def test_where_most_of_the_known_is_still_there_a_reset_is_not_suspected() -> None:
    assert not after_a_reset(10, kept=11).reset
    assert after_a_reset(10, kept=10).reset


def test_new_mail_beside_a_reset_does_not_hide_it() -> None:
    records = [known(f"old-{n}", 1_000 + n) for n in range(10)]
    offers = [offer(n, f"new-{n}", 1_000 + n) for n in range(10)]
    assert compare([*offers, *(offer(10 + n, f"more-{n}", 9) for n in range(50))], records).reset


def test_many_new_messages_of_one_size_count_once_for_each_that_vanished() -> None:
    records = [known(f"old-{n}", 1_000 + n) for n in range(10)]
    assert compare([offer(n, f"new-{n}", 1_000) for n in range(10)], records).alike == 1


# -- removal


@pytest.mark.parametrize("state", [*STATES, None])
def test_which_states_may_be_removed_by_which_rule(state: State | None) -> None:
    one = known("a", state=state, age_days=14)
    never = state in (None, "rejected-oversize")
    rules = {
        "delivered": Removal(when="delivered"),
        "downloaded": Removal(when="downloaded"),
        "never": Removal(when="never"),
        "after": Removal(when="after", after=timedelta(days=14)),
    }
    allowed = {name for name, rule in rules.items() if rule.allows(one, NOW)}
    expected = set() if never else {"downloaded", "after"}
    if state in ("delivered", "relayed", "discarded"):
        expected.add("delivered")
    assert allowed == expected


def test_after_counts_from_the_download_to_the_very_moment() -> None:
    rule, one = Removal(when="after", after=timedelta(days=14)), known("a", age_days=14)
    assert not rule.allows(one, NOW - timedelta(microseconds=1))
    assert rule.allows(one, NOW)


def test_after_without_a_time_removes_nothing() -> None:
    assert not Removal(when="after").allows(known("a", age_days=10_000), NOW)


@pytest.mark.parametrize("when", ["delivered", "downloaded", "never", "after"])
def test_what_was_too_large_is_removed_only_where_that_is_asked_for(when: str) -> None:
    one = replace(known("a", state="rejected-oversize", age_days=100), told=True)
    after = timedelta(days=1)
    assert not Removal(when=when, after=after).allows(one, NOW)  # type: ignore[arg-type]
    rule = Removal(when=when, after=after, oversize=True)  # type: ignore[arg-type]
    assert rule.allows(one, NOW)
    assert not rule.allows(replace(one, told=False), NOW)


def test_whether_anything_is_ever_removed() -> None:
    assert not Removal(when="never").ever
    assert Removal(when="never", oversize=True).ever
    assert Removal(when="delivered").ever


def test_what_may_be_removed_is_removed_and_the_rest_stays() -> None:
    listed = [(offer(1, "a"), known("a")), (offer(2, "b"), known("b", state="deferred"))]
    assert removable(listed, Removal(when="delivered"), NOW) == (listed[0],)


def test_messages_that_share_a_uidl_leave_together_or_not_at_all() -> None:
    done, waiting = known("same", 100, name="done"), known("same", 200, "deferred", name="waiting")
    listed = [(offer(1, "same", 100), done), (offer(2, "same", 200), waiting), (offer(3, "x"), known("x"))]
    assert removable(listed, Removal(when="delivered"), NOW) == (listed[2],)
    settled = known("same", 200, name="waiting")
    both = [(offer(1, "same", 100), done), (offer(2, "same", 200), settled)]
    assert removable(both, Removal(when="delivered"), NOW) == tuple(both)


# -- whatever is listed and on record

uidls = st.sampled_from(("a", "b", "c", None))
sizes = st.sampled_from((100, 200))
listings = st.lists(st.tuples(uidls, sizes), max_size=8).map(
    lambda lines: [offer(number, uidl, size) for number, (uidl, size) in enumerate(lines, 1)]
)
records_of = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c", "d", "")), sizes, st.one_of(st.none(), st.sampled_from(STATES))
    ),
    max_size=8,
).map(
    lambda rows: [
        known(uidl, size, state, name=f"stream-{number}") for number, (uidl, size, state) in enumerate(rows)
    ]
)
removals = st.builds(
    Removal,
    when=st.sampled_from(("delivered", "downloaded", "never", "after")),
    after=st.just(timedelta(0)),
    oversize=st.booleans(),
)


@given(listings, records_of)
def test_each_offer_is_exactly_one_of_new_doubtful_and_known(
    offers: list[Offer], present: list[Known]
) -> None:
    difference = compare(offers, present)
    told = [*difference.new, *difference.doubtful, *(one for one, _ in difference.known)]
    assert sorted(one.number for one in told) == [one.number for one in offers]


@given(listings, records_of)
def test_each_record_is_met_at_most_once_and_under_its_own_uidl_and_size(
    offers: list[Offer], present: list[Known]
) -> None:
    difference = compare(offers, present)
    met = [id(one) for one in (*(record for _, record in difference.known), *difference.vanished)]
    assert len(met) == len(set(met))
    for listed, record in difference.known:
        assert (listed.uidl, listed.size_octets) == (record.uidl, record.size_octets)


@given(listings, records_of)
def test_what_is_still_listed_never_counts_as_vanished(offers: list[Offer], present: list[Known]) -> None:
    listed = {(one.uidl or b"", one.size_octets) for one in offers}
    counted = [(one.uidl, one.size_octets) for one in compare(offers, present).vanished]
    for uidl, size_octets in counted:
        same_offers = sum((one.uidl or b"", one.size_octets) == (uidl, size_octets) for one in offers)
        same_records = sum((one.uidl, one.size_octets) == (uidl, size_octets) for one in present)
        assert (uidl, size_octets) not in listed or same_records > same_offers


@given(listings, records_of, removals)
def test_nothing_that_was_not_retrieved_is_ever_removable(
    offers: list[Offer], present: list[Known], removal: Removal
) -> None:
    difference = compare(offers, present)
    for listed, record in removable(difference.known, removal, NOW):
        assert record.stream is not None
        assert record.content is not None or (record.state == "rejected-oversize" and removal.oversize)
        assert listed.uidl == record.uidl
        assert removal.allows(record, NOW)
        if removal.when == "delivered":
            assert record.state not in ATTENTION
