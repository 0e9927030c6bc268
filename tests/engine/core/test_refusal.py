"""What a refusal means beyond no."""

from __future__ import annotations

import pytest

from engine.core.outcome import Reply
from engine.core.refusal import as_spam, too_large
from engine.settings.next_hop import SPAM_REFUSALS


@pytest.mark.parametrize(
    ("reply", "large"),
    [
        (Reply(552, "5.3.4 too large", "5.3.4", "message"), True),
        (Reply(554, "5.3.4 too large", "5.3.4", "message"), True),
        (Reply(552, "too large", None, "message"), True),
        (Reply(552, "message size exceeds fixed maximum message size", None, "message"), True),
        (Reply(552, "Requested mail action aborted: exceeded storage allocation", None, "message"), False),
        (Reply(552, "size of mailbox exceeded", None, "message"), False),
        (Reply(552, "content rejected", None, "message"), False),
        (Reply(552, "5.2.2 mailbox full", "5.2.2", "recipient"), False),
        (Reply(552, "mailbox full", None, "recipient"), False),
        (Reply(452, "4.3.4 too large for now", "4.3.4", "message"), False),
        (Reply(550, "no such user", None, "recipient"), False),
    ],
)
def test_which_replies_say_that_a_message_is_too_large(reply: Reply, large: bool) -> None:
    assert too_large(reply) is large


@pytest.mark.parametrize(
    "said",
    [
        "550 5.7.1 Message rejected as spam by Content Filtering.",
        "550 5.7.1 Message rejected due to content restrictions",
        "550 5.7.1 Refused by rule: SCL 9",
        "554 5.7.1 Spam message rejected",
        "554 5.7.0 Reject, id=04711-01 - SPAM",
        "550 This message was classified as SPAM",
        "550 5.7.1 Message rejected as\r\nspam by Content Filtering.",
    ],
)
def test_known_servers_that_say_spam_are_understood(said: str) -> None:
    assert as_spam(replied(said), SPAM_REFUSALS) is not None


@pytest.mark.parametrize(
    "said",
    [
        "550 5.1.1 no such user",
        "550 5.7.1 Client host blocked using zen.spamhaus.org",
        "550 5.7.1 Unable to relay",
        "550 5.7.1 A disclaimer is missing",
        "450 4.7.1 Message rejected as spam by Content Filtering.",
        "552 5.3.4 too large",
    ],
)
def test_other_refusals_are_not_taken_for_that(said: str) -> None:
    assert as_spam(replied(said), SPAM_REFUSALS) is None


def test_a_next_hop_that_refuses_the_gateway_says_nothing_of_the_message() -> None:
    refused = Reply(554, "5.7.1 we take you as spam source", "5.7.1", "next-hop")
    assert as_spam(refused, ("*",)) is None


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("550 5.7.1 no (really) [x]?", True),
        ("55? 5.7.1 NO*", True),
        ("*(really)*", True),
        ("*", True),
        ("*x*really*", False),
        ("550 5.7.1 no", False),
        ("5.7.1*", False),
        ("", False),
    ],
)
def test_a_pattern_stands_for_the_whole_reply(pattern: str, fits: bool) -> None:
    assert (as_spam(replied("550 5.7.1 No (really) [x]!"), (pattern,)) is not None) is fits


def test_the_first_pattern_that_fits_is_named() -> None:
    assert as_spam(replied("550 5.7.1 spam"), ("551 *", "*spam", "*")) == "*spam"


def test_a_long_reply_and_a_pattern_of_many_parts_take_no_time() -> None:
    assert as_spam(replied("550 " + "a" * 20_000), ("*a" * 60 + "*b",)) is None


def replied(said: str) -> Reply:
    code, _, text = said.partition(" ")
    first = text.split(" ")[0]
    return Reply(int(code), text, first if first.count(".") == 2 else None, "message")
