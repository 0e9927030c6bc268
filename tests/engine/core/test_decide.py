"""What the answers of an attempt mean, for each recipient."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.decide import decide, untried
from engine.core.outcome import Answer, LeftOut, NoAnswer, Reply
from engine.core.plan import HandOver, plan
from engine.core.policy import HopPolicy, Policy
from engine.core.routing import RouteRule
from store.events import (
    Deferred,
    Delivered,
    Failed,
    Held,
    MessageEvent,
    Quarantined,
    RejectedOversize,
    Relayed,
    Released,
)
from store.life import Message
from tests.engine.core.lives import (
    BRANCH,
    HOP_DOWN,
    INFO,
    LATER,
    LATER_PLEASE,
    NO_SUCH_USER,
    NOON,
    SALES,
    TAKEN,
    VERSION,
    after,
    attempted,
    deferred,
    delivered,
    downloaded,
    generated,
    hand_over,
    outcome,
    policy,
    submitted,
)

PROBE_AT = NOON + timedelta(minutes=42)
FIVE_DAYS = timedelta(days=5)
HOLDING = policy(hops={"home": HopPolicy(on_unknown="hold")})
LOST = NoAnswer("home.example[192.0.2.25]:25: connection lost while waiting for the reply to final dot")


def answered(
    message: Message, *answers: Answer, now: datetime = NOON, by: Policy | None = None
) -> tuple[MessageEvent, ...]:
    """The events of an attempt for all recipients, with a jitter that changes nothing."""
    return decide(
        message,
        hand_over(message),
        outcome(*answers),
        by or policy(),
        now,
        jitter=0.5,
        hop_retry_at=PROBE_AT,
    )


def only(events: tuple[MessageEvent, ...]) -> MessageEvent:
    (event,) = events
    return event


def test_a_positive_answer_delivers_and_records_who_took_it_and_how() -> None:
    assert answered(attempted(downloaded(INFO)), TAKEN) == (
        Delivered(
            numbers=(0,),
            next_hop="home",
            attempt=1,
            address="192.0.2.25:25",
            tls="TLSv1.3 TLS_AES_256_GCM_SHA384 verified",
            code=250,
            duration_ms=12,
            recipients=(INFO,),
            reply="250 2.0.0 taken",
        ),
    )


def test_what_a_smart_host_takes_is_relayed() -> None:
    event = only(answered(attempted(submitted(BRANCH)), TAKEN))
    assert isinstance(event, Relayed)
    assert (event.numbers, event.recipients) == ((0,), (BRANCH,))


def test_of_outgoing_mail_what_our_own_server_takes_is_delivered_and_the_rest_relayed() -> None:
    smart = policy(routes=(RouteRule(recipients=("*",), next_hop="home"),))
    message = attempted(submitted(INFO, BRANCH, SALES))
    events = answered(message, TAKEN, TAKEN, TAKEN, by=smart)
    assert [(type(e), e.numbers, e.recipients) for e in events if isinstance(e, Delivered | Relayed)] == [
        (Relayed, (1,), (BRANCH,)),
        (Delivered, (0, 2), (INFO, SALES)),
    ]


def test_what_was_handed_in_for_our_own_domains_is_delivered() -> None:
    message = attempted(submitted(INFO, direction="inbound"))
    assert isinstance(only(answered(message, TAKEN)), Delivered)


def test_a_notice_the_home_server_takes_is_delivered() -> None:
    assert isinstance(only(answered(attempted(generated()), TAKEN)), Delivered)


def test_a_temporary_refusal_defers_by_the_backoff() -> None:
    event = only(answered(attempted(downloaded(INFO)), LATER_PLEASE))
    assert event == Deferred(
        numbers=(0,),
        next_hop="home",
        attempt=1,
        retry_at=NOON + timedelta(minutes=5),
        scope="message",
        code=451,
        address="192.0.2.25:25",
        policy=VERSION,
        recipients=(INFO,),
        reply="451 4.3.0 later",
    )


def test_each_temporary_refusal_in_a_row_doubles_the_wait() -> None:
    message, waits = downloaded(INFO), []
    for _ in range(5):
        message = attempted(message)
        event = only(answered(message, LATER_PLEASE))
        assert isinstance(event, Deferred)
        waits.append((event.retry_at - NOON) // timedelta(minutes=1))
        message = after(message, event)
    assert waits == [5, 10, 20, 40, 60]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(554, "5.3.4 no service (the greeting of home:25)", "5.3.4", "next-hop"),
        Reply(535, "5.7.8 wrong (authentication as gate failed with home:25)", "5.7.8", "next-hop"),
    ],
)
def test_trouble_with_the_whole_next_hop_is_never_for_good_whatever_its_code(reply: Reply) -> None:
    by = policy(hops={"home": HopPolicy(spam_refusals=("*",))})
    event = only(answered(attempted(downloaded(INFO)), reply, by=by))
    assert isinstance(event, Deferred)
    assert (event.scope, event.retry_at, event.code) == ("next-hop", PROBE_AT, reply.code)
    assert event.reply == reply.said


def test_trouble_with_the_whole_next_hop_waits_for_its_next_probe() -> None:
    event = only(answered(attempted(downloaded(INFO)), HOP_DOWN))
    assert isinstance(event, Deferred)
    assert (event.scope, event.retry_at, event.code) == ("next-hop", PROBE_AT, None)


def test_a_permanent_reply_about_the_whole_next_hop_fails_no_message() -> None:
    no_login = Reply(535, "5.7.8 bad credentials", "5.7.8", "next-hop")
    event = only(answered(attempted(downloaded(INFO)), no_login))
    assert isinstance(event, Deferred)
    assert (event.scope, event.retry_at) == ("next-hop", PROBE_AT)


@pytest.mark.parametrize("reply", [NO_SUCH_USER, Reply(554, "5.7.1 spam", "5.7.1", "message")])
def test_a_permanent_refusal_fails(reply: Reply) -> None:
    event = only(answered(attempted(downloaded(INFO)), reply))
    assert isinstance(event, Failed)
    assert (event.reason, event.code, event.reply) == ("rejected", reply.code, reply.said)


def test_mixed_replies_settle_each_recipient_on_its_own() -> None:
    message = attempted(downloaded(INFO, SALES, "third@example.com"))
    message = after(message, *answered(message, TAKEN, NO_SUCH_USER, LATER_PLEASE))
    assert [r.state for r in message.recipients] == ["delivered", "failed", "deferred"]
    again = plan(message, policy(), NOON + timedelta(minutes=5))
    assert isinstance(again, HandOver)
    assert again.numbers == (2,)


def test_recipients_with_the_same_answer_share_one_event() -> None:
    message = attempted(downloaded(INFO, SALES, "third@example.com"))
    events = answered(message, TAKEN, NO_SUCH_USER, TAKEN)
    assert [(type(e), getattr(e, "numbers", None)) for e in events] == [(Delivered, (0, 2)), (Failed, (1,))]


def test_answers_for_settled_recipients_are_ignored() -> None:
    message = delivered(attempted(downloaded(INFO, SALES)), 0)
    step = HandOver(next_hop="home", numbers=(0, 1), recipients=(INFO, SALES), attempt=1, rule="route 1")
    events = decide(
        message, step, outcome(NO_SUCH_USER, TAKEN), policy(), NOON, jitter=0.5, hop_retry_at=PROBE_AT
    )
    event = only(events)
    assert isinstance(event, Delivered)
    assert event.numbers == (1,)


def test_an_attempt_repeated_after_a_crash_adds_nothing_to_what_is_settled() -> None:
    message = attempted(downloaded(INFO, SALES))
    events = answered(message, TAKEN, NO_SUCH_USER)
    assert answered(after(message, *events), TAKEN, NO_SUCH_USER) == ()


@pytest.mark.parametrize("reply", [LATER_PLEASE, HOP_DOWN])
def test_after_five_days_a_temporary_refusal_fails_as_expired(reply: Reply) -> None:
    message = attempted(downloaded(INFO))
    just_before = only(answered(message, reply, now=NOON + FIVE_DAYS - timedelta(microseconds=1)))
    assert isinstance(just_before, Deferred)
    event = only(answered(message, reply, now=NOON + FIVE_DAYS))
    assert isinstance(event, Failed)
    assert (event.reason, event.reply) == ("expired", reply.said)


def test_a_refusal_after_five_days_is_still_a_refusal_and_a_delivery_a_delivery() -> None:
    message = attempted(downloaded(INFO))
    event = only(answered(message, NO_SUCH_USER, now=NOON + FIVE_DAYS))
    assert isinstance(event, Failed)
    assert event.reason == "rejected"
    assert isinstance(only(answered(message, TAKEN, now=NOON + FIVE_DAYS)), Delivered)


def test_no_answer_to_the_dot_leaves_the_outcome_unknown_and_is_retried_after_the_backoff() -> None:
    message = attempted(downloaded(INFO))
    event = only(answered(message, LOST))
    assert isinstance(event, Deferred)
    assert (event.unknown, event.code, event.reply) == (True, None, LOST.text)
    assert event.retry_at == NOON + timedelta(minutes=5)
    message = after(message, event)
    assert (message.state, message.recipients[0].unknown_attempts) == ("outcome-unknown", 1)


def test_no_answer_to_the_dot_is_held_where_the_policy_says_so() -> None:
    message = attempted(downloaded(INFO))
    event = only(answered(message, LOST, by=HOLDING))
    assert isinstance(event, Held)
    assert (event.why, event.rule) == ("outcome-unknown", f"home: {LOST.text}")
    assert after(message, event).state == "outcome-unknown"


def test_no_answer_for_five_days_ends_in_a_failure_and_not_in_one_more_copy() -> None:
    event = only(answered(attempted(downloaded(INFO)), LOST, now=NOON + FIVE_DAYS))
    assert isinstance(event, Failed)
    assert (event.reason, event.code, event.reply) == ("expired", None, LOST.text)


def test_no_answer_stays_held_however_old_the_message_is() -> None:
    event = only(answered(attempted(downloaded(INFO)), LOST, now=NOON + FIVE_DAYS, by=HOLDING))
    assert isinstance(event, Held)


def test_recipients_beyond_the_next_hops_limit_are_sent_at_once_in_another_transaction() -> None:
    message = attempted(downloaded(INFO, SALES, "third@example.com"))
    message = after(message, *answered(message, TAKEN, TAKEN, LeftOut(Reply(452, "4.5.3 too many"))))
    assert [r.state for r in message.recipients] == ["delivered", "delivered", "deferred"]
    again = plan(message, policy(), NOON)
    assert isinstance(again, HandOver)
    assert again.numbers == (2,)


def test_recipients_beyond_the_limit_of_an_old_message_are_not_expired() -> None:
    message = attempted(downloaded(INFO, SALES))
    events = answered(message, TAKEN, LeftOut(Reply(452, "4.5.3 too many")), now=NOON + FIVE_DAYS)
    assert [type(event) for event in events] == [Delivered, Deferred]


def test_a_message_too_large_for_the_next_hop_is_rejected_oversize_and_teaches_its_limit() -> None:
    message = attempted(downloaded(INFO, SALES, size_octets=5_000))
    refused = Reply(552, "5.3.4 too large", "5.3.4", "message")
    event = only(answered(message, refused, refused))
    assert event == RejectedOversize(
        size_octets=5_000,
        limit_octets=4_999,
        limit_from="next-hop",
        next_hop="home",
        numbers=(0, 1),
        policy=VERSION,
        mailbox=message.mailbox,
        uidl=message.uidl,
        reverse_path=message.reverse_path,
        recipients=(INFO, SALES),
        message_id=message.message_id,
        subject=message.subject,
        from_=message.sender,
        reply="552 5.3.4 too large",
    )
    assert after(message, event).state == "rejected-oversize"


def test_too_large_is_a_fate_of_its_own_and_teaches_while_others_are_still_open() -> None:
    message = attempted(downloaded(INFO, SALES, size_octets=5_000))
    later = Reply(450, "4.2.1 busy", "4.2.1", "recipient")
    events = answered(message, later, Reply(552, "5.3.4 too large", "5.3.4", "message"))
    assert [type(event) for event in events] == [Deferred, RejectedOversize]
    refused = events[1]
    assert isinstance(refused, RejectedOversize)
    assert (refused.numbers, refused.limit_octets, refused.tried) == ((1,), 4_999, True)
    message = after(message, *events)
    assert [r.state for r in message.recipients] == ["deferred", "rejected-oversize"]
    assert (message.state, message.open) == ("deferred", True)


def test_a_limit_that_was_announced_is_on_record_as_such_and_teaches_nothing() -> None:
    message = attempted(downloaded(INFO, size_octets=5_000))
    event = only(answered(message, Reply(552, "5.3.4 not sent", "5.3.4", "message", 3_000)))
    assert isinstance(event, RejectedOversize)
    assert (event.limit_octets, event.limit_from, event.tried) == (3_000, "next-hop", False)


def test_too_large_for_one_recipient_alone_fails_that_recipient_and_teaches_nothing() -> None:
    message = attempted(downloaded(INFO, SALES))
    events = answered(message, TAKEN, Reply(552, "5.3.4 too large for this mailbox", "5.3.4", "recipient"))
    assert [type(event) for event in events] == [Delivered, Failed]


SPAM = Reply(550, "5.7.1 Message rejected as spam by Content Filtering.", "5.7.1", "message")
HEARING = policy(hops={"home": HopPolicy(spam_refusals=("5?? * as spam*",)), "branch": HopPolicy()})


def test_incoming_mail_that_the_home_server_calls_spam_is_kept_with_its_reply() -> None:
    message = attempted(downloaded(INFO, SALES))
    event = only(answered(message, SPAM, SPAM, by=HEARING))
    assert event == Quarantined(
        reason="refused-as-spam",
        rule="5?? * as spam*",
        numbers=(0, 1),
        next_hop="home",
        policy=VERSION,
        recipients=(INFO, SALES),
        reply="550 5.7.1 Message rejected as spam by Content Filtering.",
    )
    kept = after(message, event)
    assert (kept.state, kept.open, kept.due_at) == ("quarantined", True, None)


def test_spam_for_one_recipient_says_nothing_of_the_others() -> None:
    message = attempted(downloaded(INFO, SALES))
    events = answered(message, TAKEN, SPAM, by=HEARING)
    assert [type(event) for event in events] == [Delivered, Quarantined]
    assert [r.state for r in after(message, *events).recipients] == ["delivered", "quarantined"]


def test_a_refusal_as_spam_counts_as_one_only_where_it_is_listed_and_the_mail_comes_in() -> None:
    outgoing = attempted(submitted(BRANCH))
    for message, by in ((attempted(downloaded(INFO)), policy()), (outgoing, HEARING)):
        assert isinstance(only(answered(message, SPAM, by=by)), Failed)


def test_what_was_let_go_may_be_refused_again_and_is_kept_again() -> None:
    message = attempted(downloaded(INFO))
    message = after(message, *answered(message, SPAM, by=HEARING))
    message = after(message, Released(operator="anna", policy=VERSION))
    step = plan(message, HEARING, NOON)
    assert isinstance(step, HandOver)
    message = attempted(message)
    assert after(message, *answered(message, SPAM, by=HEARING)).state == "quarantined"


def test_backoff_is_that_of_the_recipients_concerned() -> None:
    message = attempted(downloaded(INFO, SALES))
    message = deferred(message, 0, retry_at=NOON)
    message = delivered(message, 1)
    message = attempted(message, 0)
    step = hand_over(message, 0)
    events = decide(message, step, outcome(LATER_PLEASE), policy(), NOON, jitter=0.5, hop_retry_at=PROBE_AT)
    event = only(events)
    assert isinstance(event, Deferred)
    assert event.retry_at == NOON + timedelta(minutes=10)


def test_what_was_not_even_tried_says_so_and_waits_for_the_probe() -> None:
    message = downloaded(INFO, SALES)
    step = HandOver(next_hop="home", numbers=(0, 1), recipients=(INFO, SALES), attempt=1, rule="route 1")
    event = untried(message, step, policy(), PROBE_AT, "home is down: 4.4.1 refused", NOON)
    assert isinstance(event, Deferred)
    assert (event.tried, event.attempt, event.retry_at, event.scope) == (False, 0, PROBE_AT, "next-hop")
    message = after(message, event)
    assert [(r.state, r.attempts, r.first_tried_at) for r in message.recipients] == [
        ("deferred", 0, None)
    ] * 2


def test_what_was_not_even_tried_for_five_days_fails_as_expired() -> None:
    message = downloaded(INFO)
    step = HandOver(next_hop="home", numbers=(0,), recipients=(INFO,), attempt=1, rule="route 1")
    event = untried(message, step, policy(), PROBE_AT, "home is down", NOON + FIVE_DAYS)
    assert isinstance(event, Failed)
    assert (event.reason, event.next_hop) == ("expired", "home")


replies = st.builds(
    Reply,
    st.sampled_from((None, 250, 251, 421, 450, 451, 452, 535, 550, 552, 554)),
    st.sampled_from(("one", "other")),
    st.sampled_from((None, "5.3.4", "5.1.1", "4.3.0")),
    st.sampled_from(("next-hop", "message", "recipient")),
)
answers = st.one_of(replies, st.just(LOST), st.just(LeftOut(Reply(452, "4.5.3 too many"))))
ages = st.sampled_from((timedelta(0), timedelta(hours=1), FIVE_DAYS, 10 * FIVE_DAYS))


@given(
    st.lists(st.tuples(st.sampled_from((INFO, SALES, BRANCH)), answers), min_size=1, max_size=6),
    ages,
    st.sampled_from((policy(), HOLDING)),
    st.floats(0, 1),
)
def test_after_an_attempt_each_recipient_is_settled_or_has_a_time_or_is_held(
    asked: list[tuple[str, Answer]], age: timedelta, by: Policy, jitter: float
) -> None:
    now = NOON + age
    message = attempted(downloaded(*(address for address, _ in asked)), at=now)
    answer = outcome(*(one for _, one in asked))
    events = decide(message, hand_over(message), answer, by, now, jitter=jitter, hop_retry_at=now + age)
    decided = after(message, *events, at=now)
    for recipient in decided.recipients:
        held = recipient.state == "outcome-unknown" and decided.held_why == "outcome-unknown"
        assert not recipient.open or recipient.retry_at is not None or held
        assert recipient.retry_at is None or recipient.retry_at >= now
    numbers = [number for event in events for number in getattr(event, "numbers", ())]
    assert len(numbers) == len(set(numbers))
    texts = [one.reply.text if isinstance(one, LeftOut) else one.text for _, one in asked]
    assert all(text in str(events) for text in texts)


@given(st.lists(answers, min_size=1, max_size=5), st.lists(answers, min_size=5, max_size=5), ages)
def test_a_second_answer_never_takes_a_fate_back(
    first: list[Answer], second: list[Answer], age: timedelta
) -> None:
    message = attempted(downloaded(*(f"user{n}@example.com" for n in range(len(first)))))
    once = after(message, *answered(message, *first, now=NOON + age))
    twice = after(once, *answered(once, *second[: len(first)], now=NOON + age))
    for before, now in zip(once.recipients, twice.recipients, strict=True):
        assert before.open or now == before


def test_the_time_of_the_attempt_and_not_of_the_message_counts_for_the_backoff() -> None:
    event = only(answered(attempted(downloaded(INFO)), LATER_PLEASE, now=LATER))
    assert isinstance(event, Deferred)
    assert event.retry_at == LATER + timedelta(minutes=5)
