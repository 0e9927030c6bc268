"""What was found in a message and what followed, in words: a sentence for each such event. Part of `story`."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

from cli import times
from engine.core.renaming import OLD, SUBJECT
from store.events import Attempted, Quarantined, RedeliveryRequested, Scanned

SYMBOLS = 8  # rules that hit; more are counted


def scanned(event: Scanned, again: str) -> str:
    """Return what a scanner said, to stand right behind "scanned"; `again` is when it is asked again, "" for never."""
    took = times.span(timedelta(milliseconds=event.duration_ms))
    engine = f" ({event.engine})" if event.engine else ""
    late = "; it came too late to keep the message back" if event.late else ""
    return f" by {event.scanner}{engine} in {took}: {_verdict(event, again)}{late}"


def evidence(event: Scanned) -> str:
    """Return what a scanner found, with all that it says about it, to stand behind the scanner's name."""
    rules = f"; rules {', '.join(event.symbols)}" if event.symbols else ""
    of = "" if event.threshold is None else f" of {event.threshold:g}"
    score = "" if event.score is None else f", score {event.score:g}{of}"
    signature = f" {event.signature}" if event.signature else ""
    engine = f" ({event.engine})" if event.engine else ""
    return f"{event.verdict}{signature}{score}{rules}{_detail(event)}{engine}"


def _verdict(event: Scanned, again: str) -> str:
    match event.verdict:
        case "clean":
            return f"clean{_score(event)}"
        case "infected":
            return f"infected: {event.signature or 'unnamed'}{_detail(event)}"
        case "spam":
            return f"spam{_score(event)}"
        case "unscannable":
            return f"unscannable{_detail(event)}"
        case "error":
            blamed = ", and it was well before it got this message" if event.blame == "message" else ""
            then = f"; asked again {again}" if again else "; let pass"
            return f"no verdict{_detail(event)}{blamed}{then}"
        case _:
            assert_never(event.verdict)


def _score(event: Scanned) -> str:
    if event.score is None:
        return ""
    of = "" if event.threshold is None else f" of {event.threshold:g}"
    more = len(event.symbols) - SYMBOLS
    hit = ", ".join(event.symbols[:SYMBOLS]) + (f" and {more} more" if more > 0 else "")
    return f", score {event.score:g}{of}" + (f" ({hit})" if hit else "")


def _detail(event: Scanned) -> str:
    return f" ({event.detail})" if event.detail else ""


def quarantined(event: Quarantined, who: str) -> str:
    """Return why it is kept, to stand right behind "quarantined"; `who` is from whom."""
    by = f" by {event.operator}" if event.operator else ""
    if event.reason == "refused-as-spam":
        return f"{by}{who}: {_refused(event)}"
    return f"{by}{who} as {event.reason}: {event.rule}"


def _refused(event: Quarantined) -> str:
    listed = f'its refusal fits "{event.rule}" of spam_refusals'
    return f"{event.next_hop or 'the next hop'} takes it for spam ({listed}): {event.reply or 'no reply'}"


def requested_again(event: RedeliveryRequested, who: str) -> str:
    """Return what is to be delivered again, to stand right behind "redelivery-requested"; `who` is to whom."""
    by = "" if event.rule and not event.operator else f" by {event.operator or 'a person'}"
    why = event.reason or event.rule
    via = f" through {event.next_hop}" if event.next_hop else ""
    force = ", even if they have it" if event.force else ""
    replay = f" (replay {event.replay})" if event.replay else ""
    return f"{by}{who}{via}{force}{replay}" + (f": {why}" if why else "")


def told(event: Attempted) -> str:
    """Return what went out that is not as it came in, to stand behind an attempt; "" where nothing but our trace did."""
    front = [name for name in event.tags if name != SUBJECT]
    tags = f"; in front: {', '.join(front)}" if front else ""
    subject = "; with a prefix before the subject" if SUBJECT in event.tags else ""
    old = f"; renamed to {OLD.decode()}…, as it came from outside: " if event.renamed else ""
    return f"{tags}{subject}{old}{', '.join(event.renamed)}"
