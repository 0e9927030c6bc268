"""What the scanners found in a message so far. Part of the fold in `life`."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from store.scan_events import Scanned, Verdict


class Finding(Struct, frozen=True, kw_only=True):
    """The last verdict of one scanner on this message.

    `settled` is false while the scanner is to be asked again. `killed` counts how often it was well before it got this
    message, and broke. `forgiven` says that a person let the message go on in spite of it.
    """

    scanner: str
    verdict: Verdict
    signature: str | None = None
    score: float | None = None
    threshold: float | None = None
    symbols: tuple[str, ...] = ()
    settled: bool = True
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
        killed=killed + (event.verdict == "error" and event.blame == "message"),
        forgiven=before is not None and before.forgiven and _same(before, event),
    )
    if before is None:
        return (*findings, new)
    return tuple(new if f is before else f for f in findings)


def forgiven(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings after a person let the message go on: none of them keeps it again."""
    return tuple(replace(f, forgiven=True, killed=0) for f in findings)


def _same(before: Finding, event: Scanned) -> bool:
    """Whether a scanner says again what a person has seen."""
    return (before.verdict, before.signature) == (event.verdict, event.signature)
