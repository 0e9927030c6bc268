"""What events add up to: the tables of DESIGN's states, and what holds of every history."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields
from msgspec.structs import replace as changed

from store.codec import decode, encode
from store.errors import Damaged
from store.events import (
    ContentsPurged,
    Discarded,
    Downloaded,
    Event,
    Generated,
    Held,
    Imported,
    Kept,
    KeptNoLonger,
    MessageEvent,
    RedeliveryRequested,
    RejectedOversize,
    Released,
    Reported,
    Submitted,
    personal_facts,
)
from store.life import CHANGES, Message, due_at, evolve, fold
from store.mailbox_events import PollRecovered
from store.mailbox_life import fold_mailbox
from store.recipient import ATTENTION, FATES, State
from tests.store.build import (
    NOW,
    POLICY,
    after,
    attempted,
    deferred,
    delivered,
    downloaded,
    failed,
    generated,
    oversize,
    quarantined,
    relayed,
    removed,
    scanned,
)
from tests.store.history import History

THREE = ("a@example.com", "b@example.com", "c@example.com")
UNROUTABLE = Held(why="unroutable", rule="nobody", policy=POLICY)
UNKNOWN = Held(why="outcome-unknown", rule="home", numbers=(0,), policy=POLICY)
BY_HAND = Held(why="operator", rule="by hand", operator="anna", policy=POLICY)
RELEASED = Released(operator="anna", policy=POLICY)
DISCARDED = Discarded(numbers=(0,), operator="anna", policy=POLICY)
GIVEN_UP = failed(0, reason="operator", next_hop=None, code=None, reply=None, operator="anna")
LEARNT = RejectedOversize(
    size_octets=9, limit_octets=8, limit_from="next-hop", next_hop="home", policy=POLICY, reply="552"
)


def life(*events: Event, recipients: tuple[str, ...] = ("info@example.com",)) -> Message:
    """A message taken in at NOW, to which something happens each second."""
    return told(downloaded(recipients=recipients), *events)


def told(*events: Event) -> Message:
    message = fold("m1", [(event, after(seconds=number)) for number, event in enumerate(events)])
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("events", "state", "due_at"),
    [
        ((), "received", NOW),
        ((attempted(),), "outcome-unknown", after(seconds=1)),
        ((attempted(), delivered()), "delivered", None),
        ((attempted(), relayed()), "relayed", None),
        ((attempted(), deferred()), "deferred", after(minutes=5)),
        ((deferred(tried=False),), "deferred", after(minutes=5)),
        ((attempted(), deferred(unknown=True, code=None)), "outcome-unknown", after(minutes=5)),
        ((attempted(), failed()), "failed", None),
        ((attempted(), UNKNOWN), "outcome-unknown", None),
        ((UNROUTABLE,), "held", None),
        ((Held(why="loop", rule="twice", policy=POLICY),), "held", None),
        ((Held(why="operator", rule="anna", until=after(days=1), policy=POLICY),), "held", after(days=1)),
        ((BY_HAND, RELEASED), "received", NOW),
        ((UNROUTABLE, RELEASED), "received", NOW),
        ((attempted(), deferred(), BY_HAND, RELEASED), "deferred", after(seconds=4)),
        ((attempted(), UNKNOWN, RELEASED), "outcome-unknown", after(seconds=3)),
        ((attempted(), deferred(unknown=True), BY_HAND), "outcome-unknown", None),
        ((BY_HAND, BY_HAND), "held", None),
        ((RELEASED,), "received", NOW),
        ((BY_HAND, DISCARDED), "discarded", None),
        ((attempted(), deferred(), GIVEN_UP), "failed", None),
        ((attempted(), LEARNT), "rejected-oversize", None),
        ((attempted(), delivered(), removed()), "delivered", None),
        ((attempted(), failed(), Reported(kind="failure", report="m2")), "failed", None),
        ((attempted(), deferred(), attempted(attempt=2), delivered(attempt=2)), "delivered", None),
    ],
)
def test_a_message_with_one_recipient_is_what_last_happened_to_it(
    events: tuple[Event, ...], state: State, due_at: Any
) -> None:
    message = life(*events)
    assert (message.state, message.recipients[0].state, message.due_at) == (state, state, due_at)
    assert message.open == (state in ATTENTION)
    assert message.revision == len(events)
    assert message.changed_at == after(seconds=len(events))


@pytest.mark.parametrize("open_state", range(len(ATTENTION)))
def test_with_several_recipients_the_open_one_that_needs_attention_most_counts(open_state: int) -> None:
    message = life(recipients=THREE)
    states = (FATES[0], ATTENTION[open_state], ATTENTION[-1])
    assert with_states(message, *states).state == ATTENTION[open_state]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("delivered", "delivered", "delivered"), "delivered"),
        (("relayed", "relayed", "relayed"), "relayed"),
        (("delivered", "failed", "delivered"), "failed"),
        (("discarded", "discarded", "discarded"), "discarded"),
        (("failed", "relayed", "discarded"), "failed"),
        (("delivered", "received", "failed"), "received"),
        (("delivered", "quarantined", "deferred"), "quarantined"),
    ],
)
def test_without_an_open_recipient_a_failure_counts_or_the_common_fate(states: Any, state: State) -> None:
    assert with_states(life(recipients=THREE), *states).state == state


def with_states(message: Message, *states: State) -> Message:
    pairs = zip(message.recipients, states, strict=True)
    return changed(message, recipients=tuple(changed(one, state=state) for one, state in pairs))


def test_every_state_is_either_open_or_a_fate() -> None:
    assert sorted((*ATTENTION, *FATES)) == sorted(get_args(State))


def test_each_recipient_goes_its_own_way() -> None:
    message = life(
        attempted(0, 1, 2),
        delivered(0, reply="2.0.0 taken"),
        deferred(1, reply="4.2.2 full", retry_at=after(hours=1)),
        failed(2, reply="5.1.1 nobody"),
        recipients=THREE,
    )
    assert [(r.address, r.state, r.reply, r.retry_at, r.attempts) for r in message.recipients] == [
        ("a@example.com", "delivered", "2.0.0 taken", None, 1),
        ("b@example.com", "deferred", "4.2.2 full", after(hours=1), 1),
        ("c@example.com", "failed", "5.1.1 nobody", None, 1),
    ]
    assert (message.state, message.due_at, message.lane) == ("deferred", after(hours=1), "home")


def test_who_waits_for_several_next_hops_waits_in_nobody_s_lane() -> None:
    events = [attempted(0, 1, 2), deferred(0, 2, retry_at=after(hours=1))]
    elsewhere = deferred(1, next_hop="branch", retry_at=after(hours=2))
    assert life(*events, delivered(1), recipients=THREE).lane == "home"
    assert life(*events, elsewhere, recipients=THREE).lane == ""
    assert life(*events, elsewhere, failed(0, 2), recipients=THREE).lane == "branch"


def test_what_a_person_wants_tried_now_has_a_lane_apart_until_it_is_tried_or_put_off() -> None:
    tried = (attempted(0), deferred(0, retry_at=after(hours=1)))
    asked = RedeliveryRequested(numbers=(0,), bound_for="home", operator="anna", policy="p")
    let_go = Released(bound_for="home", operator="anna", policy="p")
    freed = (Held(why="operator", rule="by hand", policy="p"), let_go)
    for order in ((asked,), freed):
        ordered = life(*tried, *order)
        assert (ordered.lane, ordered.place, ordered.ordered_at) == ("now:home", "home", ordered.changed_at)
        assert life(*order, *tried).lane == "home"
    assert life(*tried, changed(asked, operator=None, rule="scanner x")).lane == "home"
    assert life(*freed, freed[0]).ordered_at is None
    both = life(attempted(0, 1), deferred(0, 1), changed(asked, numbers=(1,)), recipients=THREE[:2])
    assert both.lane == "now:home"


def test_who_goes_on_by_a_person_s_word_waits_where_that_said_until_it_is_tried() -> None:
    again = RedeliveryRequested(numbers=(0,), next_hop="branch", bound_for="branch", policy=POLICY)
    sent = [attempted(0), deferred(0, retry_at=after(hours=1)), again]
    assert life(*sent).lane == "branch"
    assert life(*sent).recipients[0].next_hop == "home"  # it was tried nowhere else yet
    assert life(*sent[:2], changed(again, bound_for=None)).lane == ""  # several, or none
    assert life(*sent, deferred(0, next_hop="home", retry_at=after(hours=2))).lane == "home"
    assert life(*sent, BY_HAND, RELEASED).lane == ""
    assert life(*sent, BY_HAND, changed(RELEASED, bound_for="home")).place == "home"
    assert life(*sent).hops == ("home", "branch")
    more = changed(again, numbers=(), added=1, recipients=("x@example.com",))
    assert life(attempted(0), delivered(0), more).lane == "branch"


def test_possible_duplicates_are_counted() -> None:
    unknown = deferred(0, unknown=True, code=None)
    message = life(attempted(0, 1), unknown, attempted(0, attempt=2), unknown, recipients=THREE[:2])
    assert [r.unknown_attempts for r in message.recipients] == [2, 0]
    assert [r.attempts for r in message.recipients] == [2, 1]
    assert message.attempts == 2
    assert message.recipients[0].first_tried_at == after(seconds=1)


def test_a_message_closes_once_and_opens_again_when_tried_again() -> None:
    closed = life(attempted(), delivered())
    assert closed.closed_at == after(seconds=2)
    later = evolve(closed, "m1", removed(), after(days=1))
    assert (later.closed_at, later.changed_at, later.removed) == (after(seconds=2), after(days=1), True)
    failed_once = life(attempted(), failed())
    again = evolve(failed_once, "m1", attempted(attempt=2), after(days=2))
    assert (again.open, again.closed_at) == (True, None)
    assert evolve(again, "m1", delivered(attempt=2), after(days=3)).closed_at == after(days=3)


@pytest.mark.parametrize("event", [delivered(0, 1, 2, report="m2"), failed(0, 1, 2, report="m2")])
def test_a_report_that_comes_later_changes_what_was_relayed_and_nothing_else(event: Any) -> None:
    closed = life(attempted(0, 1, 2), delivered(0), failed(1), relayed(2), recipients=THREE)
    reported = evolve(closed, "m1", event, after(days=1))
    assert [r.state for r in reported.recipients] == ["delivered", "failed", event.NAME]
    assert (reported.closed_at, reported.due_at, reported.open) == (closed.closed_at, None, False)
    waiting = life(attempted(0), relayed(0), attempted(1), deferred(1), recipients=THREE)
    assert [r.state for r in evolve(waiting, "m1", event, NOW).recipients] == [
        event.NAME,
        "deferred",
        "received",
    ]


def test_too_large_a_message_is_closed_as_it_is_opened() -> None:
    message = told(oversize(recipients=THREE[:2], recipient_count=2))
    assert (message.state, message.open, message.closed_at, message.due_at) == (
        "rejected-oversize",
        False,
        NOW,
        None,
    )
    assert (message.content, message.oversize, message.direction) == (None, True, "inbound")
    assert [r.state for r in message.recipients] == ["rejected-oversize"] * 2
    nobody = told(oversize(recipients=(), recipient_count=0))
    assert (nobody.state, nobody.open) == ("rejected-oversize", False)


def test_a_refusal_for_its_size_settles_who_is_still_open() -> None:
    message = life(attempted(0, 1), delivered(0), LEARNT, recipients=THREE[:2])
    assert [r.state for r in message.recipients] == ["delivered", "rejected-oversize"]
    assert (message.state, message.open) == ("rejected-oversize", False)


def test_a_refusal_for_its_size_leaves_those_open_whom_it_does_not_name() -> None:
    some = changed(LEARNT, numbers=(1,))
    message = life(attempted(0, 1), deferred(0), some, recipients=THREE[:2])
    assert [r.state for r in message.recipients] == ["deferred", "rejected-oversize"]
    assert (message.state, message.open) == ("deferred", True)
    assert told(*[downloaded(recipients=THREE[:2]), attempted(0, 1), some, delivered(0)]).closed_at


def test_a_message_for_nobody_is_open_until_a_person_decides() -> None:
    assert life(recipients=()).state == "received"
    held = life(UNROUTABLE, recipients=())
    assert (held.state, held.open, held.due_at, held.held_why) == ("held", True, None, "unroutable")


@pytest.mark.parametrize(
    ("event", "state"), [(Discarded(policy=POLICY), "discarded"), (changed(GIVEN_UP, numbers=()), "failed")]
)
def test_a_message_for_nobody_may_be_given_up(event: Any, state: State) -> None:
    message = life(UNROUTABLE, event, recipients=())
    assert (message.state, message.open, message.closed_at) == (state, False, after(seconds=2))


def test_a_message_for_nobody_goes_on_to_those_that_are_named_now() -> None:
    named = Released(
        numbers=(0, 1),
        operator="anna",
        policy=POLICY,
        bound_for="branch",
        recipients=THREE[:2],
        routed_by=("fallback", "fallback"),
    )
    message = life(UNROUTABLE, named, recipients=())
    assert (message.place, message.hops) == ("branch", ("branch",))
    assert [(r.number, r.address, r.routed_by, r.state) for r in message.recipients] == [
        (0, THREE[0], "fallback", "received"),
        (1, THREE[1], "fallback", "received"),
    ]
    assert (message.held_why, message.due_at) == (None, NOW)


def test_each_recipient_is_held_for_its_own_time_and_released_apart() -> None:
    until = Held(why="operator", rule="by hand", numbers=(0,), until=after(days=1), policy=POLICY)
    message = life(until, changed(BY_HAND, numbers=(1,)), attempted(2), delivered(2), recipients=THREE)
    assert (message.state, message.due_at) == ("held", after(days=1))
    going = evolve(message, "m1", changed(RELEASED, numbers=(1,)), after(hours=1))
    assert [r.state for r in going.recipients] == ["held", "received", "delivered"]
    assert (going.held_until, going.resumed_at) == (after(days=1), after(hours=1))
    assert [going.resumed(after(hours=h)) for h in (0, 2, 24)] == [None, after(hours=1), after(days=1)]
    free = evolve(going, "m1", RELEASED, after(hours=2))
    assert (free.held_why, free.resumed(after(days=2))) == (None, after(hours=2))


def test_an_attempt_without_an_answer_counts_once_though_it_is_held_for_it() -> None:
    message = life(attempted(), UNKNOWN, BY_HAND, RELEASED)
    assert message.recipients[0].unknown_attempts == 1


def test_a_notice_speaks_of_a_message_and_is_internal() -> None:
    message = told(generated(about="m0", subject="Not delivered"))
    assert (message.direction, message.about, message.mailbox, message.due_at) == (
        "internal",
        "m0",
        None,
        NOW,
    )


def test_reports_are_remembered_by_kind() -> None:
    message = life(Reported(kind="delay", report="m2"), Reported(kind="failure", report="m3"))
    assert message.reported == ("delay", "failure")
    assert message.state == "received"


def test_holding_all_leaves_fates_as_they_are() -> None:
    message = life(attempted(0), delivered(0), UNROUTABLE, recipients=THREE)
    assert [r.state for r in message.recipients] == ["delivered", "held", "held"]
    assert message.held_why == "unroutable"


@pytest.mark.parametrize("why", ["unroutable", "outcome-unknown"])
def test_a_hold_of_one_recipient_stops_no_other(why: Any) -> None:
    held = Held(why=why, rule="home", numbers=(0,), policy=POLICY)
    message = life(held, recipients=THREE)
    assert [due_at(r, message) for r in message.recipients] == [None, NOW, NOW]
    tried = life(held, attempted(1), recipients=THREE)
    assert [due_at(r, tried) for r in tried.recipients] == [None, after(seconds=2), NOW]
    answered = life(held, attempted(1), deferred(1), recipients=THREE)
    assert [due_at(r, answered) for r in answered.recipients] == [None, after(minutes=5), NOW]
    alone = life(held, attempted(1, 2), delivered(1, 2), recipients=THREE)
    assert (alone.open, alone.due_at) == (True, None)


@pytest.mark.parametrize("event", [attempted(), removed(), UNROUTABLE, deferred()])
def test_only_an_opening_event_opens_a_message(event: Any) -> None:
    with pytest.raises(Damaged, match=f"{event.NAME} opens no stream"):
        told(event)


@pytest.mark.parametrize("event", [downloaded(), generated()])
def test_a_message_is_opened_once(event: Any) -> None:
    with pytest.raises(Damaged, match=f"{event.NAME} in the middle of stream m1"):
        life(event)


def test_messages_and_mailboxes_have_events_of_their_own() -> None:
    with pytest.raises(Damaged, match="poll-recovered is no message's event"):
        fold("m1", [(PollRecovered(mailbox="info"), NOW)])
    with pytest.raises(Damaged, match="attempted is no mailbox's event"):
        fold_mailbox("info", [(attempted(), NOW)])
    assert fold("m1", []) is None


# -- whatever happens

randoms = st.randoms(use_true_random=False)


@settings(deadline=None, max_examples=60)
@given(randoms)
def test_whatever_the_engine_writes_adds_up(random: Random) -> None:
    told_so_far: dict[str, Message] = {}
    for unit in History(random).units(30):
        for append in unit.appends:
            if not isinstance(append.after, Message):
                continue
            message = told_so_far.get(append.stream)
            for event in append.events:
                before, message = message, evolve(message, append.stream, event, append.at)  # type: ignore[arg-type]
                check(before, message, append.at)
                if before is not None and before.recipients:
                    check_recipients(before, message, event)
            assert message == append.after
            told_so_far[append.stream] = message


def check(before: Message | None, message: Message, at: Any) -> None:
    assert (message.closed_at is None) == message.open
    assert message.changed_at == at
    assert message.opened_at <= at
    assert message.revision == (0 if before is None else before.revision + 1)
    assert [r.number for r in message.recipients] == list(range(len(message.recipients)))
    assert {message.state, *(r.state for r in message.recipients)} <= set(get_args(State))
    assert message.open == (
        any(r.open for r in message.recipients)
        or not (message.recipients or message.oversize or message.fate)
    )
    for one in message.recipients:
        assert one.retry_at is None or one.state in ("deferred", "outcome-unknown")
        assert one.unknown_attempts <= one.attempts
        assert (one.first_tried_at is None) == (one.attempts == 0)
    if message.due_at is not None:
        assert message.open


def check_recipients(before: Message, message: Message, event: Event) -> None:
    """They stay who they are, and what became of them stays too; only a person asks for more."""
    named = [r.address for r in message.recipients]
    assert named[: len(before.recipients)] == [r.address for r in before.recipients]
    added, again = 0, tuple[int, ...]()
    if isinstance(event, RedeliveryRequested):
        added, again = event.added, event.numbers
    assert len(named) == len(before.recipients) + added
    for old, new in zip(before.recipients, message.recipients, strict=False):
        assert old.open or new.state == old.state or old.number in again


@settings(deadline=None, max_examples=40)
@given(randoms)
def test_numbers_decide_even_when_everything_personal_is_erased(random: Random) -> None:
    stories: dict[str, list[Any]] = {}
    for unit in History(random).units(20):
        for append in unit.appends:
            if isinstance(append.after, Message):
                stories.setdefault(append.stream, []).extend((event, append.at) for event in append.events)
    for stream, story in stories.items():
        erased = [(decode(e.NAME, e.VERSION, encode(e).data, None), at) for e, at in story]
        for event, _ in erased:
            private = personal_facts(type(event))
            assert all(getattr(event, f.name) == f.default for f in fields(type(event)) if f.name in private)
        kept, without = fold(stream, story), fold(stream, erased)
        assert kept is not None
        assert without is not None
        assert decides(without) == decides(kept)
        assert [r.address for r in without.recipients] == [""] * len(kept.recipients)


def decides(message: Message) -> tuple[object, ...]:
    """What a decision may rest on."""
    return (
        (message.state, message.open, message.due_at, message.lane, message.closed_at, message.revision),
        (
            message.mailbox,
            message.uidl,
            message.content,
            message.held_why,
            message.held_until,
            message.removed,
        ),
        [
            (r.number, r.state, r.next_hop, r.attempts, r.unknown_attempts, r.retry_at)
            for r in message.recipients
        ],
    )


def test_octets_that_were_dropped_are_no_longer_kept_and_all_else_is_as_it_was() -> None:
    before = life(attempted(), delivered())
    purged = ContentsPurged(reason="retention.contents: 30d", policy="p")
    gone = evolve(before, before.id, purged, after(days=30))
    assert (before.kept, gone.kept) == (True, False)
    assert (gone.purged_by, gone.purged_at, gone.content) == (purged.reason, after(days=30), before.content)
    assert (gone.state, gone.closed_at, gone.recipients) == ("delivered", before.closed_at, before.recipients)
    assert not told(oversize()).kept


def test_what_a_person_keeps_is_exempt_until_they_say_otherwise_and_else_as_it_was() -> None:
    before = life(attempted(), delivered())
    kept = evolve(before, before.id, Kept(operator="anna", policy="p", reason="case 7"), after(days=1))
    assert (kept.exempt_since, kept.exempt_by, kept.exempt_for) == (after(days=1), "anna", "case 7")
    assert (kept.state, kept.closed_at, kept.recipients) == ("delivered", before.closed_at, before.recipients)
    ended = evolve(kept, before.id, KeptNoLonger(operator="bob", policy="p"), after(days=2))
    assert (ended.exempt_since, ended.exempt_by, ended.exempt_for) == (None, "", "")


def test_whose_digest_lists_a_message_is_known_until_it_is_kept_back_again() -> None:
    listed = life(
        quarantined(),
        Reported(kind="digest", report="m2", numbers=(1,)),
        Reported(kind="infected", report="m3", numbers=(0,)),
        recipients=THREE[:2],
    )
    assert [r.listed for r in listed.recipients] == [False, True]
    assert [r.state for r in listed.recipients] == ["quarantined", "quarantined"]
    again = evolve(listed, listed.id, quarantined(), after(days=1))
    assert [r.listed for r in again.recipients] == [False, False]
    assert again.quarantined_at == after(days=1)


def test_the_time_without_a_scanner_is_not_counted_and_begins_anew_where_a_person_lets_it_go_on() -> None:
    def at(message: Message, event: Event, **span: float) -> Message:
        return evolve(message, message.id, event, after(**span))  # type: ignore[arg-type]

    waits = scanned("error", retry_at=after(hours=1), blame="scanner")
    message = at(life(), waits, hours=1)
    message = at(message, waits, hours=2)  # asked again, and still down
    late = after(days=9)
    assert (message.awaiting_since, message.going_since(late)) == (after(hours=1), message.opened_at)
    message = at(message, scanned("clean"), days=3)
    assert (message.awaiting_since, message.going_since(late) - message.opened_at) == (
        None,
        timedelta(days=3, hours=-1),
    )
    message = at(message, scanned("error", scanner="spamd", retry_at=after(days=4), blame="scanner"), days=4)
    message = at(message, attempted(), days=5)  # that scanner is not configured any more
    assert message.going_since(late) - message.opened_at == timedelta(days=4, hours=-1)
    held = at(message, Held(why="operator", rule="by hand", operator="anna", policy="p"), days=6)
    assert at(held, Released(operator="anna", policy="p"), days=7).going_since(late) == after(days=7)


def test_the_fold_knows_every_event_of_a_message() -> None:
    openings = {Downloaded, Submitted, Imported, Generated}
    assert set(CHANGES) | openings == set(get_args(MessageEvent))
    assert not set(CHANGES) & openings
