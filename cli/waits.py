"""Where a message waits, in words: how a next hop is doing, when it is tried again, what was said last."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cli import times
from cli.message import Json
from engine.core import direct
from store.message import SCAN_LANE

UNTRIED = "(not tried yet)"


def standing(hop: Mapping[str, Any], current: datetime) -> str:
    """Return how a next hop is doing, in words; `hop` is a row of `queries.hops`, or has its name alone."""
    if "failures" not in hop:
        known = "no trouble known" if direct.is_direct(hop["next_hop"]) else "nothing known"
        return known if hop["next_hop"] else ""
    if not hop["failures"]:
        since = f" since {times.stamp(hop['since'])}" if hop["since"] else ""
        return f"up{since}"
    times_failed = "once" if hop["failures"] == 1 else f"{hop['failures']} times in a row"
    probe = times.away(hop["probe_at"], current) if hop["probe_at"] else "next"
    probed = (
        f"tried again {probe}"
        if hop["probe_at"] is None or hop["probe_at"] > current
        else "may be tried again"
    )
    down = f"down for {times.span(current - hop['since'])}, failed {times_failed}, {probed}"
    return down + (f": {hop['reply']}" if hop["reply"] else "")


def place(lane: str) -> str:
    """Return what a next hop, or a scanner that is waited for, is called."""
    if lane.startswith(SCAN_LANE):
        return f"scanner {lane[len(SCAN_LANE) :]}"
    return lane or UNTRIED


def last_reply(row: Json) -> str:
    """Return what was said last to a recipient that needs most attention."""
    replies = (one["reply"] for one in row["recipients"] if one["state"] == row["state"] and one["reply"])
    return next(replies, "")


def next_try(due: datetime | None, current: datetime) -> str:
    """Return when a message is due; one that waits for a person never is."""
    if due is None:
        return "by hand"
    return times.away(due, current) if due > current else "now"
