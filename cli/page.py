"""A report as one page of HTML that needs nothing else: no script, no network; fit for print, for a dark screen and a light one.

What strangers wrote (replies of next hops) is escaped by the template, and the page forbids scripts, should that ever fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from cli import pictures, times
from cli.pictures import Kind
from cli.sections import Asked, Section, moment

TEMPLATE = "page.html.j2"
MARKS, MOST_MARKS = 7, 12  # along a time axis
FEW = 1  # rows, of which a picture says no more than the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a section is shown: as which picture, whether its table is folded away, and what explains it."""

    kind: Kind
    folded: bool = False
    note: str = ""
    empty: str = "No message came in."


LOOKS = {
    "arrivals": Look(kind="StackedBar", folded=True, note="When they came in, and what became of them."),
    "delays": Look(kind="StackedBar", empty="No message was delivered."),
    "open": Look(
        kind="StackedLine",
        folded=True,
        note="All that had no fate yet at that time, whenever it came in.",
        empty="Nothing was open.",
    ),
    "mailbox": Look(kind="HorizontalStackedBar", empty="Nothing was fetched."),
    "next_hop": Look(
        kind="HorizontalStackedBar",
        note="Where they were to go or were tried; one that was tried at several counts at each.",
        empty="Nothing was to go anywhere.",
    ),
    "direction": Look(kind="HorizontalStackedBar"),
    "replies": Look(
        kind="HorizontalStackedBar",
        note="How the last reply begins. A message with several recipients may count more than once.",
        empty="Nothing failed, and nothing waits.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A section on the page."""

    section: Section
    picture: str
    note: str
    empty: str
    folded: bool


def page(sections: Sequence[Section], asked: Asked, hostname: str) -> str:
    """Return the page. Needs the packages of `mailgate[report]`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    room = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    total, *others = sections
    return room.get_template(TEMPLATE).render(
        hostname=hostname,
        since=moment(asked.period.since),
        until=moment(asked.period.until),
        at=times.stamp(asked.at),
        zone=times.zone(asked.at),
        program=f"mailgate {version('mailgate')}",
        total=total if total.rows else None,
        parts=[_part(section) for section in others],
    )


def _part(section: Section) -> Part:
    look = LOOKS[section.name]
    marks = (
        _marks([row.facts.get("from") or row.facts["at"] for row in section.rows]) if look.folded else None
    )
    worth = section.told and (look.folded or len(section.rows) > FEW)
    return Part(
        section=section,
        picture=pictures.drawn(section, look.kind, marks) if worth else "",
        note=look.note,
        empty=look.empty,
        folded=look.folded,
    )


def _marks(instants: Sequence[datetime]) -> list[str]:
    """Return what stands along a time axis: the midnights where there are a few, else a time now and then."""
    local = [at.astimezone() for at in instants]
    midnights = [n for n, at in enumerate(local) if (at.hour, at.minute) == (0, 0)]
    if 2 <= len(midnights) <= MOST_MARKS:
        return [f"{at:%m-%d}" if n in midnights else "" for n, at in enumerate(local)]
    every = -(-len(local) // MARKS)
    days = len(midnights) > MOST_MARKS
    return [
        "" if n % every else f"{at:%Y-%m-%d}" if days else f"{at:%m-%d %H:%M}" for n, at in enumerate(local)
    ]
