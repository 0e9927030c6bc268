"""Every event there is has its sentence, with its facts in it, also when its personal facts are erased."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import get_args

import pytest
from msgspec.structs import fields, replace

from cli import story
from store.codec import CLASSES
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Discarded,
    Downloaded,
    Event,
    Failed,
    Held,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    Submitted,
)
from store.mailbox_events import Adopted, Adoption, MarkedAsDeleted, PollFinished, Undeleted, Withheld
from tests.build import NOON


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


LATER = NOON + timedelta(minutes=5)
EXAMPLES = {
    "int": 7,
    "int | None": 7,
    "bool": False,
    "str": "a-fact",
    "str | None": "a-fact",
    "datetime": LATER,
    "datetime | None": LATER,
    "tuple[int, ...]": (0, 1),
    "tuple[Adoption, ...]": (),
}


def example(kind: type[Event]) -> Event:
    """An event without its personal facts."""
    facts = {}
    for field in fields(kind):
        if field.required:
            choices = {
                "LimitFrom": "config",
                "HeldWhy": "loop",
                "FailedWhy": "expired",
                "ReportKind": "failure",
                "Verdict": "infected",
                "QuarantinedWhy": "spam",
            }
            choices |= {"PollTrouble": "auth"}
            name = kind.__annotations__[field.name]
            facts[field.name] = (
                EXAMPLES.get(name) or choices.get(name) or name.partition('"')[2].partition('"')[0]
            )
    return kind(**facts)


@pytest.mark.parametrize("kind", get_args(Event), ids=CLASSES)
def test_every_event_has_a_sentence_without_its_personal_facts(kind: type[Event]) -> None:
    for recipients in (None, ["a@x.example"], ["a@x.example", "b@x.example"]):
        told = story.sentence(example(kind), NOON, recipients)
        assert told[0] in " :"
        assert len(told) > 3
        assert "None" not in told


def test_recipients_of_one_rule_stand_together() -> None:
    event = Downloaded(
        mailbox="info",
        uidl="",
        size_octets=12_345,
        listed_octets=12_345,
        content="00",
        bare_newlines=True,
        recipient_count=3,
        policy="p",
        recipients=("a@x.example", "b@x.example", "c@x.example"),
        routed_by=("header Delivered-To, instance 1", "fallback", "header Delivered-To, instance 1"),
    )
    assert story.sentence(event, NOON) == (
        " from mailbox info, UIDL none: 12.3 kB, for a@x.example, c@x.example"
        " (by header Delivered-To, instance 1); b@x.example (by fallback); a lone CR or LF in it goes out as CRLF"
    )


def deferred(**facts: object) -> Deferred:
    wanted = {
        "numbers": (0,),
        "next_hop": "home",
        "attempt": 1,
        "retry_at": LATER,
        "code": 451,
        "policy": "p",
    }
    return Deferred(**(wanted | {"scope": "message", "reply": "4.3.0 later"} | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, " until 12:05:00 (5m later) by home: 451 4.3.0 later"),
        ({"reply": "451 4.3.0 later"}, " until 12:05:00 (5m later) by home: 451 4.3.0 later"),
        (
            {"retry_at": NOON + timedelta(days=1)},
            " until 2026-03-02 12:00:00 (1d later) by home: 451 4.3.0 later",
        ),
        (
            {"scope": "next-hop", "code": None, "reply": "4.4.1 refused"},
            " until 12:05:00 (5m later), home as a whole is in trouble: 4.4.1 refused",
        ),
        (
            {"retry_at": NOON - timedelta(milliseconds=2)},
            " until 11:59:59 (at once) by home: 451 4.3.0 later",
        ),
        ({"retry_at": NOON}, " until 12:00:00 (at once) by home: 451 4.3.0 later"),
        (
            {"tried": False, "scope": "next-hop", "code": None, "reply": "home is down"},
            " until 12:05:00 (5m later), untried: home is down",
        ),
        (
            {"unknown": True, "code": None, "reply": "no answer to the final dot"},
            " until 12:05:00 (5m later): nobody knows whether home took it, so the next attempt may make a"
            " duplicate: no answer to the final dot",
        ),
    ],
)
def test_a_deferral_says_who_is_to_blame_and_what_is_in_doubt(facts: dict[str, object], told: str) -> None:
    assert story.sentence(deferred(**facts), NOON, ["bob@example.com"]) == told


@pytest.mark.parametrize(
    ("numbers", "addresses", "recipients", "who"),
    [
        ((0,), ("a@x.example",), ["a@x.example"], ""),
        ((0, 1), ("a@x.example", "b@x.example"), ["a@x.example", "b@x.example"], " for all 2 recipients"),
        ((1,), ("b@x.example",), ["a@x.example", "b@x.example"], " for b@x.example"),
        ((1,), (), ["a@x.example", "b@x.example"], " for b@x.example"),
        ((1,), (), ["", ""], " for recipient 2"),
        ((1,), (), None, " for recipient 2"),
        ((0,), ("a@x.example",), None, " for a@x.example"),
        (
            tuple(range(5)),
            tuple(f"{n}@x.example" for n in range(5)),
            [f"{n}@x.example" for n in range(9)],
            " for 0@x.example, 1@x.example, 2@x.example and 2 more",
        ),
    ],
)
def test_recipients_are_named_where_it_is_not_clear_who(
    numbers: tuple[int, ...], addresses: tuple[str, ...], recipients: list[str] | None, who: str
) -> None:
    event = Failed(
        numbers=numbers,
        reason="rejected",
        next_hop="home",
        attempt=1,
        code=550,
        policy="p",
        recipients=addresses,
        reply="5.1.1 no such user",
    )
    assert story.sentence(event, NOON, recipients) == f"{who}: rejected by home: 550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ("none", "without TLS"),
        ("none (STARTTLS refused)", "without TLS (STARTTLS refused)"),
        ("TLSv1.3 TLS_AES_256_GCM_SHA384 verified", "over TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
    ],
)
def test_protection_is_told_in_words(tls: str, told: str) -> None:
    event = Delivered(
        numbers=(0,),
        next_hop="home",
        attempt=1,
        address="192.0.2.25:25",
        tls=tls,
        code=250,
        duration_ms=1250,
        reply="2.0.0 Ok",
    )
    assert (
        story.sentence(event, NOON, ["bob@example.com"])
        == f" to home at 192.0.2.25:25, in 1.2s {told}: 250 2.0.0 Ok"
    )


def test_what_a_report_said_later_names_the_report() -> None:
    facts = {"numbers": (0,), "next_hop": "smart", "attempt": 1, "report": "06h0kps6"}
    bounced = Failed(reason="bounced-later", code=550, policy="p", reply="550 5.1.1 no such user", **facts)  # type: ignore[arg-type]
    assert story.sentence(bounced, NOON, ["bob@example.com"]) == (
        ": smart took it, and report 06h0kps6 came back later: 550 5.1.1 no such user"
    )
    proven = Delivered(address="", tls="", code=None, duration_ms=0, reply="delivered, status 2.0.0", **facts)  # type: ignore[arg-type]
    assert story.sentence(proven, NOON, ["bob@example.com"]) == (
        ", as report 06h0kps6 says, which came back later: delivered, status 2.0.0"
    )


def test_a_report_and_who_reports_further_on_are_called_so() -> None:
    opening = example(Submitted)
    assert isinstance(opening, Submitted)
    assert "delivery status" not in story.sentence(opening, NOON)
    assert story.sentence(replace(opening, status_report=True), NOON).endswith(
        "a delivery status notification"
    )
    taken = example(Relayed)
    assert isinstance(taken, Relayed)
    assert story.sentence(replace(taken, dsn=True), NOON).endswith(
        f"; from here on {taken.next_hop} reports on it"
    )


def test_too_large_says_whose_limit_and_where_it_stays() -> None:
    facts = {"size_octets": 48_300_000, "limit_octets": 10_000_000, "policy": "p"}
    found = RejectedOversize(mailbox="info", uidl="7", limit_from="config", **facts)  # type: ignore[arg-type]
    assert story.sentence(found, NOON) == (
        ": 48.3 MB, and the configuration allows 10.0 MB at most; not fetched from mailbox info, UIDL 7, for nobody"
    )
    refused = RejectedOversize(limit_from="next-hop", next_hop="home", reply="552 too big", **facts)  # type: ignore[arg-type]
    assert story.sentence(refused, NOON) == ": home refused it for its size: 552 too big"


def test_a_hold_has_its_end_where_it_has_one() -> None:
    told = story.sentence(Held(why="operator", rule="audit", until=LATER, policy="p"), NOON)
    assert told == " by the configuration: audit, until 12:05:00 (5m later)"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            Held(why="operator", rule="by hand", operator="anna", until=LATER, reason="wait", policy="p"),
            " by anna, until 12:05:00 (5m later): wait",
        ),
        (
            Held(why="operator", rule="by hand", operator="anna", numbers=(1,), policy="p"),
            " by anna for cleo@example.com",
        ),
        (
            Held(why="operator", rule="hold 1", numbers=(1,), policy="p"),
            " by the configuration for cleo@example.com: hold 1",
        ),
        (Released(operator="anna", policy="p"), " by anna"),
        (
            Released(operator="anna", policy="p", numbers=(1,), recipients=("b@x.example",), reason="go"),
            " by anna for b@x.example: go",
        ),
        (
            Released(
                operator="anna",
                policy="p",
                numbers=(0,),
                recipients=("b@x.example",),
                routed_by=("fallback",),
            ),
            " by anna for b@x.example (by fallback)",
        ),
        (
            Discarded(operator="anna", policy="p", numbers=(0, 1), reason="spam"),
            " by anna for all 2 recipients: spam",
        ),
        (
            Discarded(rule="scanner 1 found it", policy="p", numbers=(0, 1)),
            " for all 2 recipients: scanner 1 found it",
        ),
        (
            Failed(
                numbers=(0, 1),
                reason="operator",
                next_hop=None,
                attempt=0,
                code=None,
                operator="anna",
                comment="no use",
                policy="p",
            ),
            " by anna for all 2 recipients: no further try: no use",
        ),
    ],
)
def test_what_a_person_decided_says_who_and_why(event: Event, told: str) -> None:
    assert story.sentence(event, NOON, ["bob@example.com", "cleo@example.com"]) == told


ATTEMPT = Attempted(numbers=(0,), next_hop="home", attempt=1, rule="route 1", policy="p")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (ATTEMPT, " to hand over to home: attempt 1, by route 1"),
        (
            replace(
                ATTEMPT, tags=("X-Spam-Flag", "X-Spam-Score", "Subject"), renamed=("x-spam-flag", "X-Spam-Y")
            ),
            " to hand over to home: attempt 1, by route 1; in front: X-Spam-Flag, X-Spam-Score; with a prefix before"
            " the subject; renamed to X-Old-…, as it came from outside: x-spam-flag, X-Spam-Y",
        ),
        (
            Quarantined(
                reason="refused-as-spam",
                rule="5?? *as spam*",
                numbers=(0,),
                next_hop="home",
                policy="p",
                reply="550 5.7.1 rejected as spam",
            ),
            ': home takes it for spam (its refusal fits "5?? *as spam*" of spam_refusals): 550 5.7.1 rejected as spam',
        ),
        (
            Quarantined(reason="spam", rule="spamd says spam: score 9 of 5", scanner="spamd", policy="p"),
            " as spam: spamd says spam: score 9 of 5",
        ),
        (
            RedeliveryRequested(added=1, rule="spamd says spam", policy="p", recipients=("spam@x.example",)),
            " for spam@x.example: spamd says spam",
        ),
        (
            RedeliveryRequested(
                numbers=(0,), operator="anna", policy="p", recipients=("b@x.example",), reason="lost"
            ),
            " by anna for b@x.example: lost",
        ),
    ],
)
def test_what_was_found_and_what_followed_is_told(event: Event, told: str) -> None:
    assert story.sentence(event, NOON, ["bob@example.com"]) == told


def test_a_poll_tells_what_was_new() -> None:
    event = PollFinished(
        mailbox="info",
        listed=12,
        downloaded=3,
        oversize=1,
        refused=2,
        downloaded_octets=45_000,
        duration_ms=1_200,
    )
    told = story.sentence(event, NOON)
    assert told == ": 12 listed, 3 new (45.0 kB) in 1.2s, 1 too large, 2 refused by the server"
    one = Withheld(uidl="u7", size_octets=1_234, breaks=True, text="the line is dead", since=NOON)
    event = replace(event, oversize=0, refused=0, broken=True, withheld=(one,), more_withheld=1_200)
    told = story.sentence(event, NOON)
    assert told == (
        ": 12 listed, 3 new (45.0 kB) in 1.2s, and then the session broke;"
        " the session breaks at a message (UIDL u7, 1,234 octets): the line is dead; and 1,200 more"
    )


def test_what_is_marked_as_deleted_is_told_with_what_the_server_refuses_to_delete() -> None:
    event = MarkedAsDeleted(mailbox="info", marked=("m1", "m2"))
    assert story.sentence(event, NOON) == ": 2"
    one = Undeleted(message="m3", uidl="u7", size_octets=1_234, text="read-only", since=NOON)
    assert story.sentence(replace(event, marked=(), refused=(one,)), NOON) == (
        ": nothing; the server refuses to delete a message (UIDL u7, 1,234 octets): read-only"
    )


def test_one_is_counted_as_one_and_nobody_is_not_all() -> None:
    adopted = Adopted(
        mailbox="info", uidls=(Adoption(uidl="a", size_octets=9),), operator="anna", reason="moved"
    )
    assert story.sentence(adopted, NOON) == " 1 UIDL as seen, by anna: moved"
    discarded = Discarded(operator="anna", policy="p", reason="an old list")
    assert story.sentence(discarded, NOON, ()) == " by anna: an old list"
