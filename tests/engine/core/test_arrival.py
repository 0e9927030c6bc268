"""For whom a message that was fetched would come in under another configuration."""

from __future__ import annotations

import pytest

from engine.core.arrival import Candidate, MailboxTerms, Other, fetched
from engine.core.routing import MailboxRule
from tests.engine.core.lives import policy
from tests.store.build import downloaded


def compared(before: tuple[str, ...], now: tuple[str, ...]) -> list[Other]:
    terms = MailboxTerms(rule=MailboxRule(recipients=now))
    return list(fetched(downloaded(recipients=before), Candidate(policy=policy(), mailboxes={"info": terms})))


@pytest.mark.parametrize(
    ("before", "now", "was", "would", "numbers"),
    [
        (("info@a.example",), ("boss@a.example",), "for info@a.example", "for boss@a.example", (0,)),
        (("info@a.example", "b@a.example"), ("B@a.example",), "for info@a.example", "not for them", (0,)),
        (("info@a.example",), ("info@a.example", "c@a.example"), "not for others", "for c@a.example", (-1,)),
    ],
)
def test_other_recipients_of_a_mailbox_are_one_difference_that_names_them(
    before: tuple[str, ...], now: tuple[str, ...], was: str, would: str, numbers: tuple[int, ...]
) -> None:
    why = "the mailbox names others"
    assert compared(before, now) == [Other(was=was, would=would, why=why, numbers=numbers)]


def test_the_same_recipients_in_another_spelling_make_no_difference() -> None:
    assert compared(("info@a.example",), ("INFO@a.example",)) == []
