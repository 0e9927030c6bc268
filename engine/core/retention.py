"""How long is anything kept? What leaves quarantine by its age, and whose octets are dropped. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from engine.core.policy import Policy
from store.events import ContentsPurged, Discarded, MessageEvent
from store.life import Message

_UNITS: Final = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))


def outdated(message: Message, policy: Policy, now: datetime) -> tuple[MessageEvent, ...]:
    """Return what is to be recorded of a message because of its age; nothing for one that stays as it is.

    Who appends `contents-purged` drops the octets in the same transaction.
    """
    if message.exempt_since is not None:
        return ()
    if message.open:
        return _too_long_in_quarantine(message, policy, now)
    kept_for = policy.retention.contents
    if not message.kept or message.closed_at is None or message.closed_at + kept_for > now:
        return ()
    return (ContentsPurged(reason=f"retention.contents: {written(kept_for)}", policy=policy.version),)


def _too_long_in_quarantine(message: Message, policy: Policy, now: datetime) -> tuple[MessageEvent, ...]:
    those = [r for r in message.recipients if r.state == "quarantined"]
    kept_for = policy.retention.quarantined
    if not those or message.quarantined_at is None or message.quarantined_at + kept_for > now:
        return ()
    rule = f"retention.quarantined: {written(kept_for)}"
    discarded = Discarded(
        numbers=tuple(r.number for r in those),
        rule=rule,
        policy=policy.version,
        recipients=tuple(r.address for r in those),
    )
    # What somebody else has, or is to get, is kept like any other message.
    others = [r for r in message.recipients if r.state not in ("quarantined", "discarded")]
    if others or not message.kept:
        return (discarded,)
    return (discarded, ContentsPurged(reason=rule, policy=policy.version))


def written(span: timedelta) -> str:
    """Return a duration as a configuration has it: "30d"."""
    for unit, length in _UNITS:
        if span and not span % length:
            return f"{span // length}{unit}"
    return f"{span.total_seconds():g}s"
