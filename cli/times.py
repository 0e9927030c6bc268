"""Times, durations and sizes, as people write and read them.

Owns reading `--since 2h` and `--at 2026-07-30T09:15:00Z`, and showing times in the machine's own zone. What programs
read is not for here: there times are RFC 3339 in UTC.
"""

from __future__ import annotations

import re
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta

from cli.context import Misuse

LONGEST = timedelta(days=36_500)  # of durations that make sense
_MARGINS = (timedelta(hours=1), timedelta(days=-14))  # what is reckoned with a time stays in the calendar
_EARLIEST, _LATEST = datetime(MINYEAR, 2, 1, tzinfo=UTC), datetime(MAXYEAR, 12, 1, tzinfo=UTC)
_LEAP_SECOND = re.compile(r":60(?=[.Z+-]|$)")
_RELATIVE = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


def read(text: str, option: str, at: datetime) -> datetime:
    """Return the time that a person wrote: RFC 3339, or relative, so long before `at`.

    Without a zone it is the machine's; a date alone is its midnight. Raises Misuse.
    """
    try:
        if found := _RELATIVE.fullmatch(text):
            then = at - timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        else:
            then = _absolute(text)
        for margin in _MARGINS:
            (then + margin).astimezone()
    except (ValueError, OverflowError):
        example = "write it as 2h, 3d, 2026-07-30 or 2026-07-30T09:15:00Z"
        raise Misuse(f"{option}: {text!r} is not a time: {example}") from None
    return then


def _absolute(text: str) -> datetime:
    """Return a time of RFC 3339; one at an end of the calendar stands for "ever". Raises ValueError, OverflowError."""
    written = datetime.fromisoformat(_LEAP_SECOND.sub(":59", text.upper()))
    if written.year in (MINYEAR, MAXYEAR):
        return _EARLIEST if written.year == MINYEAR else _LATEST
    return written.astimezone(UTC)


def read_past(text: str, option: str, at: datetime) -> datetime:
    """Return the time, now or gone by, that a person wrote. Raises Misuse for one to come: nobody knows of it."""
    then = read(text, option, at)
    if then > at:
        raise Misuse(f"{option}: {text} is in the future: nothing is known of it yet")
    return then


def read_ahead(text: str, option: str, at: datetime) -> datetime:
    """Return the time to come that a person wrote: RFC 3339, or relative, so long after `at`. Raises Misuse."""
    then = read(text, option, at)
    if _RELATIVE.fullmatch(text):
        then = at + (at - then)
    if then <= at:
        raise Misuse(f"{option}: {text} is in the past")
    if then - at > LONGEST:
        raise Misuse(f"{option}: {text} is more than {LONGEST.days // 365} years ahead")
    return then


def read_optional(text: str | None, option: str, at: datetime) -> datetime | None:
    """As `read`; None for an option that was not given."""
    return None if text is None else read(text, option, at)


def span_optional(
    since: str | None, until: str | None, latest: str, at: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return both ends of a span, None for one that was not given. Raises Misuse where it ends before it begins."""
    begin, end = read_optional(since, "--since", at), read_optional(until, latest, at)
    if begin is not None and end is not None and begin >= end:
        raise Misuse(f"--since: is not before {latest}")
    return begin, end


def past_optional(text: str | None, option: str, at: datetime) -> datetime | None:
    """As `read_past`; None for an option that was not given."""
    return None if text is None else read_past(text, option, at)


def duration(text: str | None, option: str) -> timedelta | None:
    """Return how long a person meant: "10s", "5m"; None for an option that was not given. Raises Misuse."""
    if text is None:
        return None
    found = _RELATIVE.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if found is None or seconds > LONGEST.total_seconds():
        raise Misuse(f"{option}: {text!r} is not a duration: write it as 10s, 5m, 1h or 2d")
    return timedelta(seconds=seconds)


def written(duration: timedelta | None) -> str | None:
    """Return a duration of whole seconds as `duration` reads it: "90s", "5m", "1d"; None for None."""
    if duration is None:
        return None
    seconds = int(duration.total_seconds())
    size, unit = next((_SECONDS[u], u) for u in "wdhms" if seconds % _SECONDS[u] == 0)
    return f"{seconds // size}{unit}"


def exact(at: datetime | None) -> str | None:
    """Return a time as `read` reads it, wherever it is read: RFC 3339 in UTC; None for None."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def stamp(at: datetime) -> str:
    """Return a time to the second, in the machine's zone: "2026-07-30 09:15:02"."""
    return f"{_local(at):%Y-%m-%d %H:%M:%S}"


def day(at: datetime) -> str:
    """Return the day, in the machine's zone: "2026-07-30"."""
    return f"{_local(at):%Y-%m-%d}"


def clock(at: datetime) -> str:
    """Return the time of day to the millisecond, in the machine's zone: "09:15:02.123"."""
    return f"{_local(at):%H:%M:%S.%f}"[:-3]


def brief(at: datetime, current: datetime) -> str:
    """Return a time in the fewest characters for a table: "07-30 09:15", of other years "2025-07-30"."""
    local = _local(at)
    return f"{local:%m-%d %H:%M}" if local.year == current.astimezone().year else f"{local:%Y-%m-%d}"


def zone(at: datetime) -> str:
    """Return the machine's zone: "UTC", "CEST (UTC+02:00)"."""
    local = _local(at)
    if not local.utcoffset():
        return "UTC"
    offset = f"{local:%z}"
    return f"{local:%Z} (UTC{offset[:3]}:{offset[3:5]})"


def _local(at: datetime) -> datetime:
    try:
        return at.astimezone()
    except OverflowError:  # at either end of all time; a clock may be that wrong, and a forger may write it
        return at


def span(duration: timedelta) -> str:
    """Return a duration with its one or two largest units: "212ms", "3.2s", "5m 3s", "2h", "3d 4h"."""
    seconds = abs(duration).total_seconds()
    sign = "-" if duration < timedelta(0) else ""
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, smaller, name in _STEPS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{sign}{whole // size}{unit}" + (f" {rest}{name}" if rest else "")
    return f"{sign}{whole}s"


def away(at: datetime, current: datetime) -> str:
    """Return how far a time is: "5m ago", "in 4m 10s", "now"."""
    ahead = at - current
    if abs(ahead) < timedelta(seconds=1):
        return "now"
    return f"in {span(ahead)}" if ahead > timedelta(0) else f"{span(-ahead)} ago"


def size(octets: int) -> str:
    """Return a size: "812 B", "12.3 kB", "35.0 MB" (powers of 1000)."""
    for unit, name in _SIZES:
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets} B"
