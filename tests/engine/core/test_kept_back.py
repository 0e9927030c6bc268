"""What is said of mail in quarantine, to whoever was to get it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import kept_back
from engine.core.report import Notice
from store.events import Quarantined, Scanned
from store.life import Message, evolve
from tests.engine.core.lives import INFO, NOON, SALES, VERSION, downloaded
from tests.engine.core.test_report import parsed, well_formed


def quarantined(score: float | None = None, *, at: timedelta = timedelta(0)) -> Message:
    message = downloaded(INFO, SALES, at=NOON + at)
    verdict = "infected" if score is None else "spam"
    found = Scanned(scanner="one", verdict=verdict, score=score, duration_ms=1, policy=VERSION)
    rule = "one found Eicar-Test-Signature" if score is None else f"one says spam: score {score:g}"
    kept = Quarantined(reason="infected" if score is None else "spam", rule=rule, policy=VERSION)
    for event in (found, kept):
        message = evolve(message, message.id, event, NOON + at)
    return message


def infected(message: Message, recipient: str = INFO) -> Notice:
    return kept_back.infected(
        message,
        recipient=recipient,
        hostname="gate.example.com",
        postmaster="postmaster@example.com",
        notice_id="n1",
        now=NOON,
    )


def digest(*messages: Message) -> Notice:
    return kept_back.digest(
        messages,
        recipient=INFO,
        hostname="gate.example.com",
        postmaster="postmaster@example.com",
        notice_id="n1",
        now=NOON,
    )


def text(notice: Notice) -> str:
    return " ".join(parsed(notice).get_content().split())


def test_what_was_infected_is_told_in_plain_words_with_the_id() -> None:
    notice = infected(quarantined())
    assert notice.subject == "Kept back: Invoice 4711"
    said = text(notice)
    assert "kept back, because of what was found in it: one found Eicar-Test-Signature From: Alice" in said
    assert "ask postmaster@example.com about it (message message-1)" in said
    assert SALES not in said  # a blind copy stays one


def test_held_spam_is_listed_with_who_when_what_score_and_id() -> None:
    later = replace(quarantined(12.5, at=timedelta(hours=3)), id="message-2", subject=None)
    notice = digest(quarantined(7), later)
    assert notice.subject == "2 messages are held as spam"
    said = text(notice)
    first = "2026-03-01 12:00 UTC Alice <alice@customer.example> Invoice 4711 id message-1, score 7"
    second = "2026-03-01 15:00 UTC Alice <alice@customer.example> (no subject) id message-2, score 12.5"
    assert f"2 messages to you were taken for spam and not delivered: {first} {second} They" in said
    assert digest(later).subject == "1 message is held as spam"


anything = st.text(max_size=400)


@settings(max_examples=40)
@given(anything, anything, anything)
def test_whatever_strangers_wrote_the_notices_are_well_formed(subject: str, sender: str, rule: str) -> None:
    message = replace(quarantined(), subject=subject, sender=sender, quarantined_by=rule)
    for notice in (infected(message), infected(message, "jürgen@straße.example"), digest(message, message)):
        well_formed(notice)
