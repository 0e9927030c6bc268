"""What rspamd would have refused is kept, unless the configuration decides by scores or does something else with it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.verdict import Dropped, Judgement, Kept, Passed, Redirected, ScannerPolicy, judge
from store.events import Scanned
from tests.engine.core.lives import VERSION, after, downloaded

KEPT = Kept(reason="spam", rule="rspamd says reject: score 15", scanner="rspamd")
TAGGED = Passed(("rspamd",))


def judged(action: str | None, **decided: Any) -> Judgement:
    said = Scanned(
        scanner="rspamd",
        verdict="spam",
        signature=action,
        score=15.0,
        threshold=15.0,
        duration_ms=3,
        policy=VERSION,
    )
    rspamd = {"name": "rspamd", "kind": "rspamd", "on_found": "tag"} | decided
    return judge(after(downloaded(), said), (ScannerPolicy(**rspamd),))


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ({}, KEPT),
        ({"threshold": 6.0}, TAGGED),
        ({"quarantine_from": 20.0}, TAGGED),
        ({"on_found": "discard"}, Dropped("rspamd says spam: score 15 of 15")),
        (
            {"on_found": "redirect", "redirect": "spam@example.com"},
            Redirected("spam@example.com", "rspamd says spam: score 15 of 15", ("rspamd",)),
        ),
        ({"kind": "spamd"}, TAGGED),
    ],
)
def test_reject(decided: dict[str, Any], expected: Judgement) -> None:
    assert judged("reject", **decided) == expected


def test_other_actions_are_tagged() -> None:
    assert judged(None) == TAGGED
