"""What the events of a mailbox add up to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from store.events import Event
from store.mailbox_events import (
    Adopted,
    Adoption,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    UidlResetSuspected,
    Undeleted,
    Withheld,
)
from store.mailbox_life import Mailbox, evolve_mailbox, fold_mailbox
from tests.store.build import (
    NOW,
    after,
    removed,
)

NO = PollFailed(mailbox="info", kind="auth", permanent=True, text="-ERR no")
RESET = UidlResetSuspected(mailbox="info", listed=9, vanished=8, alike=7)
ADOPTED = Adopted(mailbox="info", uidls=(Adoption(uidl="u", size_octets=1),), operator="anna", reason="moved")
FOUND = PollFinished(
    mailbox="info", listed=9, downloaded=3, oversize=1, refused=0, downloaded_octets=7, duration_ms=5
)


@pytest.mark.parametrize(
    ("events", "health", "kind", "permanent"),
    [
        ((), "ok", None, False),
        ((NO,), "failing", "auth", True),
        ((NO, PollRecovered(mailbox="info")), "ok", None, False),
        ((RESET,), "suspended", None, True),
        ((RESET, NO), "suspended", "auth", True),
        ((RESET, ADOPTED), "ok", None, False),
        ((RESET, replace(ADOPTED, operator="mailgate")), "suspended", None, True),
        ((NO, FOUND), "failing", "auth", True),
        ((RESET, removed()), "suspended", None, True),
    ],
)
def test_a_mailbox_is_well_failing_or_suspended(
    events: tuple[Event, ...], health: str, kind: str | None, permanent: bool
) -> None:
    mailbox = fold_mailbox("info", [(event, after(seconds=n)) for n, event in enumerate(events)])
    assert (mailbox.health, mailbox.kind, mailbox.permanent) == (health, kind, permanent)
    assert mailbox.revision == len(events) - 1
    assert (mailbox.text is None) == (health == "ok")


def test_what_is_marked_and_what_is_refused_is_what_was_last_said_of_it() -> None:
    one = Undeleted(message="m3", uidl="u", size_octets=5, text="-ERR no", since=NOW)
    marks = MarkedAsDeleted(mailbox="info", marked=("m1", "m2"), refused=(one,), more_refused=4)
    events = (marks, NO, PollRecovered(mailbox="info"), FOUND)
    told = [(event, after(minutes=n)) for n, event in enumerate(events)]
    mailbox = fold_mailbox("info", told)
    assert (mailbox.marked, mailbox.undeleted, mailbox.more_undeleted) == (("m1", "m2"), (one,), 4)
    mailbox = fold_mailbox("info", [*told, (MarkedAsDeleted(mailbox="info", marked=()), after(hours=1))])
    assert (mailbox.marked, mailbox.undeleted, mailbox.more_undeleted) == ((), (), 0)


def test_how_long_it_fails_counts_from_the_first_failure_whatever_fails_then() -> None:
    other = replace(NO, kind="connect", permanent=False, text="refused")
    told = [(event, after(minutes=n)) for n, event in enumerate((NO, other, NO))]
    assert fold_mailbox("info", told).since == NOW
    well = [*told, (PollRecovered(mailbox="info"), after(hours=1)), (other, after(hours=2))]
    assert fold_mailbox("info", well).since == after(hours=2)
    assert fold_mailbox("info", [*told, (RESET, after(hours=1))]).since == after(hours=1)


def test_a_mailbox_counts_what_it_gave() -> None:
    mailbox = fold_mailbox("info", [(FOUND, NOW), (replace(FOUND, downloaded=4), after(hours=1))])
    assert (mailbox.downloaded, mailbox.last_new_at, mailbox.since) == (7, after(hours=1), None)
    assert fold_mailbox("info", []) == Mailbox(name="info")


def test_what_is_withheld_is_what_the_last_poll_said_and_nothing_new_in_itself() -> None:
    one = Withheld(uidl="u", size_octets=5, breaks=False, text="-ERR no", since=NOW)
    only = replace(FOUND, downloaded=0, oversize=0, refused=1, withheld=(one,), more_withheld=7)
    mailbox = fold_mailbox("info", [(FOUND, NOW), (only, after(hours=1)), (NO, after(hours=2))])
    assert (mailbox.withheld, mailbox.withholds, mailbox.last_new_at) == ((one,), 8, NOW)
    assert evolve_mailbox(mailbox, FOUND, after(hours=3)).withheld == ()
