"""What follows from what the scanners found: which of them are still to be asked, and what their verdicts add up to.

Pure. The current policy decides, also about verdicts of yesterday: a score is weighed against today's thresholds. Scanners
are heard in the order of the configuration; the first whose finding keeps the message back decides, and what only tags
adds up. What a person let go on in spite of a finding is not kept back by the same finding again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, assert_never

from store.events import QuarantinedWhy
from store.findings import Finding
from store.life import Message

KILLS: Final = 3  # of a scanner that was well before: then the message is what breaks it
WHATEVER_IS_SPAM: Final = float(
    "-inf"
)  # instead of a score in `scl`: the level is for spam, and for nothing else

REJECT: Final = "reject"  # the signature of what rspamd would have refused

# How it is put on record that a scanner was not asked because of a message's size.
TOO_LARGE_TO_ASK: Final = "larger than the "

ScannerKind = Literal["clamd", "spamd", "rspamd", "attachments"]
Action = Literal["pass", "tag", "quarantine", "discard", "redirect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerPolicy:
    """What is decided about one scanner. Sizes are octets.

    One with `on_found` "pass" is on trial: it is asked, and nothing follows.
    Without `threshold` the scanner's own judgement counts. From `quarantine_from` on a message is kept, whatever `on_found`
    says. `scl` maps a score to a spam confidence level: the highest score that is not above the message's own counts.
    """

    name: str
    kind: ScannerKind
    on_found: Action
    redirect: str | None = None  # to whom, with on_found "redirect"
    on_error: Literal["defer", "pass"] = "defer"
    on_unscannable: Literal["pass", "tag", "quarantine"] = "pass"
    threshold: float | None = None
    quarantine_from: float | None = None
    max_size_octets: int | None = None  # larger messages are not asked about: they are unscannable
    directions: tuple[str, ...] = ("inbound", "outbound")
    scl: tuple[tuple[float, int], ...] = ()
    subject_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Passed:
    """It may go on. `tagged` are the scanners whose findings are told in front of it."""

    tagged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """It goes into quarantine."""

    reason: QuarantinedWhy
    rule: str
    scanner: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """It is discarded."""

    rule: str


@dataclass(frozen=True, slots=True)
class Redirected:
    """It goes to this address, and to none of its recipients; `tagged` as in Passed."""

    address: str
    rule: str
    tagged: tuple[str, ...] = ()


Judgement = Passed | Kept | Dropped | Redirected


def wanting(message: Message, scanners: tuple[ScannerPolicy, ...]) -> tuple[str, ...]:
    """Return the scanners whose verdict is wanted before the message goes on. What we wrote ourselves is not scanned."""
    settled = {f.scanner for f in message.findings if f.settled or f.forgiven or f.killed >= KILLS}
    return tuple(s.name for s in scanners if message.direction in s.directions and s.name not in settled)


def judge(message: Message, scanners: tuple[ScannerPolicy, ...]) -> Judgement:
    """Return what the verdicts on record add up to."""
    findings = {f.scanner: f for f in message.findings if not f.forgiven}
    tagged: list[str] = []
    for scanner in scanners:
        finding = findings.get(scanner.name)
        if finding is None:
            continue
        judgement = _one(finding, scanner)
        if isinstance(judgement, Redirected):
            return replace(judgement, tagged=(*tagged, scanner.name))
        if not isinstance(judgement, Passed):
            return judgement
        tagged += judgement.tagged
    return Passed(tuple(tagged))


def is_spam(finding: Finding, scanner: ScannerPolicy) -> bool:
    """Whether a finding is spam by today's threshold."""
    if scanner.threshold is not None and finding.score is not None:
        return finding.score >= scanner.threshold
    return finding.verdict == "spam"


def _one(finding: Finding, scanner: ScannerPolicy) -> Judgement:
    match finding.verdict:
        case "infected":
            reason: QuarantinedWhy = "attachment" if scanner.kind == "attachments" else "infected"
            rule = f"{scanner.name} found {finding.signature or 'something'}"
            return _found(finding, scanner, _no_less(scanner.on_found, finding, scanner), reason, rule)
        case "clean" | "spam":
            return _weighed(finding, scanner)
        case "unscannable":
            rule = f"{scanner.name} could not scan it"
            action = _no_less(scanner.on_unscannable, finding, scanner)
            return _found(finding, scanner, action, "unscannable", rule)
        case "error":
            if finding.killed < KILLS or scanner.on_found == "pass":
                return Passed()
            rule = f"{scanner.name} broke {finding.killed} times at this message"
            return Kept(reason="scanner-error", rule=rule, scanner=scanner.name)
        case _:
            assert_never(finding.verdict)


def _weighed(finding: Finding, scanner: ScannerPolicy) -> Judgement:
    score = finding.score
    if _beyond(finding, scanner):
        rule = f"{scanner.name}: score {score:g}, quarantined from {scanner.quarantine_from:g}"
        return Kept(reason="spam", rule=rule, scanner=scanner.name)
    if _rejects(finding, scanner):
        rule = f"{scanner.name} says reject" + ("" if score is None else f": score {score:g}")
        return Kept(reason="spam", rule=rule, scanner=scanner.name)
    if is_spam(finding, scanner):
        threshold = finding.threshold if scanner.threshold is None else scanner.threshold
        of = (
            ""
            if score is None
            else f": score {score:g}" + ("" if threshold is None else f" of {threshold:g}")
        )
        return _found(finding, scanner, scanner.on_found, "spam", f"{scanner.name} says spam{of}")
    told = score is not None and scanner.on_found == "tag"  # a low score is worth knowing, too
    return Passed((scanner.name,) if told else ())


def _beyond(finding: Finding, scanner: ScannerPolicy) -> bool:
    """Whether the score is one from which a message is kept, whatever the verdict is called."""
    score, limit = finding.score, scanner.quarantine_from
    return limit is not None and score is not None and score >= limit


def _no_less(action: Action, finding: Finding, scanner: ScannerPolicy) -> Action:
    """Return the action, or quarantine where a message would go on whose score says otherwise."""
    return "quarantine" if action in ("pass", "tag") and _beyond(finding, scanner) else action


def _rejects(finding: Finding, scanner: ScannerPolicy) -> bool:
    """Whether rspamd would have the message refused: too sure to be tagged only, where no threshold of ours says otherwise."""
    left_to_it = scanner.threshold is None and scanner.quarantine_from is None
    return (
        scanner.kind == "rspamd" and finding.signature == REJECT and left_to_it and scanner.on_found == "tag"
    )


def _found(
    finding: Finding, scanner: ScannerPolicy, action: Action, reason: QuarantinedWhy, rule: str
) -> Judgement:
    match action:
        case "pass":
            return Passed()
        case "tag":
            return Passed((scanner.name,))
        case "quarantine":
            return Kept(reason=reason, rule=rule, scanner=scanner.name)
        case "discard":
            return Dropped(rule)
        case "redirect":
            return Redirected(scanner.redirect or "", rule)
        case _:
            assert_never(action)
