"""What the scanners found in a message so far. Part of the fold in `life`."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from store.scan_events import Scanned, Verdict


class Finding(Struct, frozen=True, kw_only=True):
    """The last verdict of one scanner on this message.

    `settled` is false while it knows nothing of the message. `awaited` says that the message waits until it can be asked
    again. `killed` counts how often it broke at this message. `forgiven` says that a person let the message go on in spite
    of the verdict.
    """

    scanner: str
    verdict: Verdict
    signature: str | None = None
    score: float | None = None
    threshold: float | None = None
    symbols: tuple[str, ...] = ()
    settled: bool = True
    awaited: bool = False
    killed: int = 0
    forgiven: bool = False


def found(findings: tuple[Finding, ...], event: Scanned) -> tuple[Finding, ...]:
    """Return the findings with one more verdict: the last of each scanner counts, in the order in which they first spoke."""
    before = next((f for f in findings if f.scanner == event.scanner), None)
    killed = before.killed if before else 0
    new = Finding(
        scanner=event.scanner,
        verdict=event.verdict,
        signature=event.signature,
        score=event.score,
        threshold=event.threshold,
        symbols=event.symbols,
        settled=event.retry_at is None,
        awaited=event.retry_at is not None,
        killed=killed + (event.verdict == "error" and event.blame == "message"),
        forgiven=before is not None and before.forgiven and _same(before, event),
    )
    if before is None:
        return (*findings, new)
    return tuple(new if f is before else f for f in findings)


def forgiven(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings after a person let the message go on: none of them keeps it again."""
    return tuple(replace(f, forgiven=True, killed=0, awaited=False) for f in findings)


def past(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings of a message that waits for no scanner any more: it has come as far as a next hop."""
    if not any(f.awaited for f in findings):
        return findings
    return tuple(replace(f, awaited=False) for f in findings)


def _same(before: Finding, event: Scanned) -> bool:
    """Whether a scanner says again what a person has seen."""
    return (before.verdict, before.signature) == (event.verdict, event.signature)
