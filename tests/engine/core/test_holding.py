"""Which mail is held by rule, for how long, and what of it is not held again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from engine.core.arrival import Candidate, MailboxTerms
from engine.core.backtest import compare
from engine.core.decide import expired
from engine.core.holding import HoldRule
from engine.core.owed import owed
from engine.core.plan import HandOver, Record, plan
from engine.core.policy import Policy
from engine.core.routing import MailboxRule
from engine.core.verdict import ScannerPolicy
from store.events import Attempted, Held, MessageEvent, RedeliveryRequested, Released
from store.life import Message
from tests.engine.core.lives import (
    BRANCH,
    INFO,
    LATER,
    NOON,
    SALES,
    VERSION,
    after,
    attempted,
    deferred,
    downloaded,
    generated,
    policy,
    submitted,
)
from tests.engine.core.test_owed import deferral
from tests.store import build

MAILBOXES = {"info": MailboxTerms(rule=MailboxRule(recipients=(INFO,)))}
UNTIL = NOON + timedelta(hours=1)


def holding(**rule: Any) -> Policy:
    return policy(holds=(HoldRule(senders=("nobody@x.example",)), HoldRule(**rule)))


def held(message: Message, rules: Policy, at: Any = NOON) -> Held | None:
    step = plan(message, rules, at)
    if isinstance(step, HandOver):
        return None
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Held)
    return event


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({"recipients": ("*",)}, (0, 1)),
        ({"recipients": (INFO,)}, (0,)),
        ({"next_hop": "home"}, (0, 1)),
        ({"next_hop": "home", "recipients": (SALES,)}, (1,)),
        ({"next_hop": "branch"}, ()),
        ({"next_hop": "mx"}, ()),
        ({"senders": ("other@*",)}, ()),
        ({"users": ("*",)}, ()),  # nobody logged in
        ({"recipients": ("*",), "until": NOON}, ()),  # it is over
    ],
)
def test_all_that_a_rule_asks_for_must_fit(rule: dict[str, Any], numbers: tuple[int, ...]) -> None:
    event = held(downloaded(INFO, SALES), holding(**rule))
    if not numbers:
        assert event is None
        return
    assert event == Held(why="operator", rule="hold 2", numbers=numbers, policy=VERSION)


def test_what_waits_already_is_held_at_its_next_attempt() -> None:
    waiting = deferred(attempted(downloaded(INFO)), retry_at=LATER)
    assert held(waiting, holding(recipients=("*",)), LATER) is not None


def test_until_its_time_and_then_it_goes_on_by_itself_once_and_for_all() -> None:
    message = downloaded(INFO)
    event = held(message, holding(recipients=("*",), until=UNTIL))
    assert event is not None
    assert event.until == UNTIL
    message = after(message, event)
    assert (message.state, message.due_at) == ("held", UNTIL)
    for_ever = holding(recipients=("*",))
    assert held(message, for_ever, UNTIL) is None


def test_who_of_a_message_comes_later_is_held_until_the_same_time() -> None:
    rules = holding(recipients=("*",), until=UNTIL)
    message = deferred(attempted(downloaded(INFO, SALES), 1), 1, retry_at=LATER)
    event = held(message, rules)
    assert event is not None
    assert event.numbers == (0,)
    second = held(after(message, event), rules, LATER)
    assert second is not None
    assert (second.numbers, second.until) == ((1,), UNTIL)


def again(event: MessageEvent) -> Message:
    return after(downloaded(INFO), Held(why="operator", rule="hold 2", numbers=(0,), policy=VERSION), event)


def test_what_a_person_let_go_on_is_not_held_again() -> None:
    rules = holding(recipients=("*",))
    assert held(again(Released(operator="anna", policy=VERSION)), rules) is None
    asked = RedeliveryRequested(numbers=(0,), operator="anna", policy=VERSION)
    assert held(again(asked), rules) is None


def test_the_gateways_own_mail_is_not_held() -> None:
    assert held(generated(), holding(recipients=("*",))) is None


def test_a_backtest_says_what_a_rule_would_have_held_and_nothing_of_the_rule_in_force() -> None:
    message = downloaded(INFO)
    opening = (build.downloaded(recipients=(INFO,)), NOON)
    rules = holding(recipients=("*",))
    event = held(message, rules)
    assert event is not None
    story = [opening, (event, NOON)]
    assert list(compare("m", story, Candidate(policy=rules, mailboxes=MAILBOXES))) == []
    (free,) = compare("m", story, Candidate(policy=policy(), mailboxes=MAILBOXES))
    assert (free.was, free.would) == ("held as operator", "goes to home")
    went = Attempted(numbers=(0,), next_hop="home", attempt=1, rule="r", policy=VERSION)
    (stopped,) = compare("m", [opening, (went, NOON)], Candidate(policy=rules, mailboxes=MAILBOXES))
    assert (stopped.was, stopped.would, stopped.why) == ("goes to home", "held as operator", "hold 2")


def test_what_a_scanner_redirects_is_held_as_well() -> None:
    spamd = ScannerPolicy(name="spamd", kind="spamd", on_found="redirect", redirect=SALES)
    rules = holding(next_hop="home")
    spam = build.scanned("spam", scanner="spamd")
    there = policy(scanners=(spamd,), holds=rules.holds)
    redirected = plan(after(downloaded(INFO), spam), there, NOON)
    assert isinstance(redirected, Record)
    event = held(after(downloaded(INFO), spam, *redirected.events), there)
    assert event is not None
    assert event.numbers == (1,)


def test_who_of_a_message_is_not_held_is_neither_tried_for_longer_nor_told_later_for_it() -> None:
    rules = holding(recipients=(INFO,), until=NOON + timedelta(days=60))
    message = submitted(INFO, BRANCH)
    event = held(message, rules)
    assert event is not None
    days = NOON + timedelta(days=6)
    message = after(message, event)
    put_off = deferral(1, next_hop="branch", retry_at=days)
    waiting = after(attempted(message, 1, hop="branch"), put_off)
    assert expired(waiting, rules, days)
    assert "delay" in owed(waiting, (put_off,), rules, days)
    assert not expired(waiting, rules, NOON + timedelta(days=61))  # then it goes on for the other one
