"""What verdicts add up to, by the policy of today."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.plan import HandOver, Record, Scan, plan
from engine.core.verdict import (
    KILLS,
    Dropped,
    Kept,
    Passed,
    Redirected,
    ScannerPolicy,
    is_spam,
    judge,
    wanting,
)
from store.events import Discarded, MessageEvent, Quarantined, RedeliveryRequested, Released, Scanned
from store.life import Message
from tests.engine.core.lives import (
    INFO,
    NOON,
    SALES,
    VERSION,
    after,
    downloaded,
    generated,
    policy,
    submitted,
)


def clamd(name: str = "clamd", **changes: Any) -> ScannerPolicy:
    return ScannerPolicy(name=name, **{"kind": "clamd", "on_found": "quarantine"} | changes)


def spamd(name: str = "spamd", **changes: Any) -> ScannerPolicy:
    return ScannerPolicy(name=name, **{"kind": "spamd", "on_found": "tag"} | changes)


def says(verdict: Any = "clean", scanner: str = "clamd", **facts: Any) -> Scanned:
    return Scanned(scanner=scanner, verdict=verdict, **{"duration_ms": 3, "policy": VERSION} | facts)


def spam(score: float, **facts: Any) -> Scanned:
    return says("spam" if score >= 5 else "clean", "spamd", score=score, threshold=5.0, **facts)


BROKE = says("error", retry_at=NOON, blame="message", detail="the connection broke")
DOWN = says("error", retry_at=NOON, blame="scanner", detail="connection refused")
VIRUS = says("infected", signature="Test.Virus")
RELEASED = Released(operator="anna", policy=VERSION, reason="it is harmless")
QUARANTINED = Quarantined(reason="infected", rule="clamd found Test.Virus", scanner="clamd", policy=VERSION)


def scanned(*events: MessageEvent) -> Message:
    return after(downloaded(INFO), *events)


@pytest.mark.parametrize(
    ("scanner", "event", "judgement"),
    [
        (clamd(), says(), Passed()),
        (clamd(), VIRUS, Kept(reason="infected", rule="clamd found Test.Virus", scanner="clamd")),
        (clamd(), says("infected"), Kept(reason="infected", rule="clamd found something", scanner="clamd")),
        (clamd(on_found="discard"), VIRUS, Dropped("clamd found Test.Virus")),
        (clamd(on_found="tag"), VIRUS, Passed(("clamd",))),
        (clamd(on_found="pass"), VIRUS, Passed()),
        (clamd(on_found="pass", kind="attachments"), VIRUS, Passed()),
        (
            clamd(on_found="pass", on_unscannable="quarantine", quarantine_from=9.0),
            says("unscannable"),
            Kept(reason="unscannable", rule="clamd could not scan it", scanner="clamd"),
        ),
        (
            clamd(on_found="redirect", redirect=SALES),
            VIRUS,
            Redirected(address=SALES, rule="clamd found Test.Virus", tagged=("clamd",)),
        ),
        (
            clamd(kind="attachments"),
            VIRUS,
            Kept(reason="attachment", rule="clamd found Test.Virus", scanner="clamd"),
        ),
        (clamd(), says("unscannable"), Passed()),
        (clamd(on_unscannable="tag"), says("unscannable"), Passed(("clamd",))),
        (
            clamd(on_unscannable="quarantine"),
            says("unscannable"),
            Kept(reason="unscannable", rule="clamd could not scan it", scanner="clamd"),
        ),
        (clamd(on_error="pass"), says("error", blame="scanner"), Passed()),
        (spamd(), spam(4.9), Passed(("spamd",))),  # a low score is worth knowing, too
        (spamd(), spam(5.0), Passed(("spamd",))),
        (spamd(on_found="quarantine"), spam(4.9), Passed()),
        (
            spamd(on_found="quarantine"),
            spam(5.5),
            Kept(reason="spam", rule="spamd says spam: score 5.5 of 5", scanner="spamd"),
        ),
        (
            spamd(on_found="quarantine"),
            says("spam", "spamd"),
            Kept(reason="spam", rule="spamd says spam", scanner="spamd"),
        ),
        (
            spamd(quarantine_from=9.0),
            spam(9.0),
            Kept(reason="spam", rule="spamd: score 9, quarantined from 9", scanner="spamd"),
        ),
        (
            spamd(quarantine_from=9.0),
            says("infected", "spamd", score=9.0, signature="Eicar"),
            Kept(reason="infected", rule="spamd found Eicar", scanner="spamd"),
        ),
        (
            spamd(quarantine_from=9.0),
            says("unscannable", "spamd", score=9.0),
            Kept(reason="unscannable", rule="spamd could not scan it", scanner="spamd"),
        ),
        (spamd(quarantine_from=9.0), spam(8.9), Passed(("spamd",))),
        (spamd(on_found="discard", threshold=7.0), spam(7.5), Dropped("spamd says spam: score 7.5 of 7")),
    ],
)
def test_one_verdict_comes_to(scanner: ScannerPolicy, event: Scanned, judgement: object) -> None:
    assert judge(scanned(event), (scanner,)) == judgement


def test_the_first_in_the_configuration_that_keeps_it_back_decides_and_tags_add_up() -> None:
    message = scanned(spam(12.0), VIRUS)
    assert judge(message, (clamd(), spamd(on_found="discard"))) == Kept(
        reason="infected", rule="clamd found Test.Virus", scanner="clamd"
    )
    assert judge(message, (spamd(on_found="discard"), clamd())) == Dropped("spamd says spam: score 12 of 5")
    assert judge(message, (clamd(on_found="tag"), spamd())) == Passed(("clamd", "spamd"))


def test_a_score_of_yesterday_is_weighed_against_the_threshold_of_today() -> None:
    message = scanned(spam(6.0))
    assert isinstance(judge(message, (spamd(on_found="quarantine", threshold=6.0),)), Kept)
    assert judge(message, (spamd(on_found="quarantine", threshold=6.1),)) == Passed()
    (finding,) = message.findings
    assert is_spam(finding, spamd())  # as spamd said
    assert not is_spam(finding, spamd(threshold=6.1))


def test_who_is_no_longer_configured_has_no_say() -> None:
    assert judge(scanned(VIRUS), (spamd(),)) == Passed()


def test_wanted_is_who_has_not_spoken_and_whose_direction_it_is() -> None:
    both = (clamd(), spamd(directions=("inbound",)))
    assert wanting(downloaded(INFO), both) == ("clamd", "spamd")
    assert wanting(scanned(says()), both) == ("spamd",)
    assert wanting(scanned(DOWN), both) == ("clamd", "spamd")
    assert wanting(submitted(SALES), both) == ("clamd",)
    assert wanting(generated(), both) == ()


def test_it_is_asked_again_until_it_broke_so_often() -> None:
    broken = scanned(*(BROKE,) * (KILLS - 1), *(DOWN,) * 9)
    assert wanting(broken, (clamd(),)) == ("clamd",)
    assert judge(broken, (clamd(),)) == Passed()
    once_more = after(broken, BROKE)
    assert wanting(once_more, (clamd(),)) == ()
    assert judge(once_more, (clamd(),)) == Kept(
        reason="scanner-error", rule=f"clamd broke {KILLS} times at this message", scanner="clamd"
    )


def test_a_scanner_on_trial_keeps_nothing_whatever_it_says_or_breaks_at() -> None:
    for on_found, kept in (("tag", True), ("pass", False)):
        trial = spamd(kind="rspamd", on_found=on_found)
        rejected = scanned(says("spam", "spamd", score=20.0, signature="reject"))
        assert isinstance(judge(rejected, (trial,)), Kept) is kept
        broke = says("error", "spamd", retry_at=NOON, blame="message", detail="the connection broke")
        broken = scanned(*(broke,) * KILLS)
        assert wanting(broken, (trial,)) == ()
        assert isinstance(judge(broken, (trial,)), Kept) is kept
    assert judge(rejected, (trial,)) == Passed()


def test_what_a_person_let_go_is_not_kept_by_the_same_verdict_again() -> None:
    released = scanned(VIRUS, QUARANTINED, RELEASED)
    assert wanting(released, (clamd(), spamd())) == ("spamd",)
    assert judge(released, (clamd(),)) == Passed()
    assert judge(after(released, VIRUS), (clamd(),)) == Passed()
    other = says("infected", signature="Other.Virus")
    assert isinstance(judge(after(released, other), (clamd(),)), Kept)


def test_what_a_person_let_go_after_it_broke_a_scanner_goes_unscanned() -> None:
    kept = Quarantined(reason="scanner-error", rule="clamd broke", scanner="clamd", policy=VERSION)
    released = scanned(*(BROKE,) * KILLS, kept, RELEASED)
    assert wanting(released, (clamd(),)) == ()
    assert isinstance(plan(released, policy(scanners=(clamd(),)), NOON), HandOver)


def test_a_late_verdict_changes_nothing() -> None:
    message = scanned(says())
    late = after(message, says("infected", signature="New.Virus", late=True))
    assert late.findings == message.findings
    assert judge(late, (clamd(),)) == Passed()


# -- as steps


def test_what_is_kept_is_recorded_with_who_why_and_by_what() -> None:
    step = plan(scanned(VIRUS), policy(scanners=(clamd(),)), NOON)
    assert step == Record(
        (
            Quarantined(
                reason="infected",
                rule="clamd found Test.Virus",
                scanner="clamd",
                numbers=(0,),
                policy=VERSION,
                recipients=(INFO,),
            ),
        )
    )


def test_what_is_dropped_is_recorded_and_that_is_the_end() -> None:
    step = plan(scanned(VIRUS), policy(scanners=(clamd(on_found="discard"),)), NOON)
    assert isinstance(step, Record)
    (event,) = step.events
    assert event == Discarded(numbers=(0,), rule="clamd found Test.Virus", policy=VERSION, recipients=(INFO,))
    assert not after(scanned(VIRUS), event).open


def test_what_is_redirected_goes_there_and_to_nobody_else() -> None:
    today = policy(scanners=(spamd(on_found="redirect", redirect=SALES),))
    message = scanned(spam(9.0))
    step = plan(message, today, NOON)
    assert isinstance(step, Record)
    _, again = step.events
    assert isinstance(again, RedeliveryRequested)
    redirected = after(message, *step.events)
    assert redirected.lane == "home"
    assert [r.state for r in redirected.recipients] == ["discarded", "received"]
    going = plan(redirected, today, NOON)
    assert isinstance(going, HandOver)
    assert going.recipients == (SALES,)


# -- what holds whatever happened

SCANNERS = (
    clamd(),
    spamd(quarantine_from=8.0),
    clamd("second", on_error="pass", on_unscannable="quarantine"),
)
verdicts = st.builds(
    says,
    st.sampled_from(["clean", "infected", "spam", "unscannable"]),
    st.sampled_from(["clamd", "spamd", "second", "gone"]),
    score=st.sampled_from([None, 1.0, 6.0, 9.0]),
    signature=st.sampled_from([None, "A", "B"]),
    late=st.booleans(),
)
troubles = st.builds(
    says,
    st.just("error"),
    st.sampled_from(["clamd", "spamd", "second"]),
    retry_at=st.sampled_from([None, NOON]),
    blame=st.sampled_from(["scanner", "message"]),
)
histories = st.lists(st.one_of(verdicts, troubles, st.sampled_from([QUARANTINED, RELEASED])), max_size=12)


@given(histories)
def test_nothing_is_handed_over_unscanned_or_in_spite_of_what_was_found(events: list[MessageEvent]) -> None:
    message = scanned(*events)
    step = plan(message, policy(scanners=SCANNERS), NOON)
    findings = {f.scanner: f for f in message.findings}
    if isinstance(step, HandOver):
        assert all(s.name in findings for s in SCANNERS)
        for scanner in SCANNERS:
            finding = findings[scanner.name]
            assert finding.forgiven or finding.settled
            assert finding.forgiven or finding.verdict != "infected" or scanner.on_found == "tag"
            assert finding.forgiven or not (scanner.quarantine_from and (finding.score or 0) >= 8)
    if isinstance(step, Scan):
        for name in step.scanners:
            assert name not in findings or not findings[name].settled
            assert name not in findings or findings[name].killed < KILLS


@given(histories)
def test_what_is_on_record_of_a_scanner_is_its_last_word(events: list[MessageEvent]) -> None:
    message = scanned(*events)
    for finding in message.findings:
        said = [e for e in events if isinstance(e, Scanned) and e.scanner == finding.scanner and not e.late]
        assert finding.verdict == said[-1].verdict
        assert finding.settled == (said[-1].retry_at is None)
    assert len({f.scanner for f in message.findings}) == len(message.findings)


@given(histories)
def test_a_plan_is_carried_out_in_a_few_steps(events: list[MessageEvent]) -> None:
    """Whatever was found, what is recorded leads on: to rest, to a next hop, to a scanner that is asked."""
    message, today = scanned(*events), policy(scanners=SCANNERS)
    for _ in range(3):
        step = plan(message, today, NOON)
        if not isinstance(step, Record):
            return
        message = after(message, *step.events)
    pytest.fail(f"it goes on recording: {message}")
