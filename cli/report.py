"""`mailgate report`: what came in during a period and what became of it, as a page with pictures or as JSON.

Every figure comes with the command that lists what it counts. The page needs nothing but a browser.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from cli import context, render, times
from cli.context import Failure, Misuse
from cli.message import AsJson
from cli.sections import Asked, Section, gathered
from store import log
from store.database import reading
from store.figures import Period

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
STDOUT = "-"
NEEDED = ("pygal", "jinja2")
# How long a period may be to be shown in these steps; longer ones are shown in a few hundred of whole days.
STEPS = (
    (timedelta(hours=6), timedelta(minutes=5)),
    (timedelta(days=8), timedelta(hours=1)),
    (timedelta(days=45), timedelta(hours=6)),
    (timedelta(days=200), timedelta(days=1)),
)
MOST_STEPS = 200


def report(
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page to this file, or - for standard output."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 2h, 3d, or a time. [default: 7 days]")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Up to then. [default: now]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what came in during a period, and what became of it: per hour, by mailbox, by next hop; delays, queue, failures.

    The page is one file without scripts: it can be mailed and printed. A file that is there is replaced. Each figure has the
    command that lists what it counts; so has each line of --json. Whole hours are shown, of longer periods days.
    """
    if (html is None) != as_json:
        raise Misuse("say --html FILE for a page, or --json")
    if html is not None:
        _check(html)
    current = times.now()
    last = times.read_optional(until, "--until", current)
    first = times.past_optional(since, "--since", current) or (last or current) - WEEK
    settings = context.settings()
    with context.opened(settings) as engine, reading(engine) as connection:
        log.last_position(connection)  # what is read from here on is the store as it is now
        at = times.now()
        if first >= (last or at):
            raise Misuse("--since: is not before --until")
        asked = Asked(period=_period(first, last or at), at=at)
        sections = gathered(connection, asked)
        if as_json:
            _print(sections)
        else:
            found = list(sections)
    if html is not None:
        from cli.page import page

        _write(html, page(found, asked, settings.gateway.hostname).encode())


def _check(file: str) -> None:
    """Raises Failure where no page can be made, Misuse where it can't be written there."""
    if any(find_spec(name) is None for name in NEEDED):
        raise Failure(f"a page needs the packages {' and '.join(NEEDED)}: pip install 'mailgate[report]'")
    place = Path(file)
    if file != STDOUT and place.exists() and not place.is_file():
        raise Misuse(f"--html: {file} is no file")


def _period(first: datetime, last: datetime) -> Period:
    """Return the period in steps, from a whole one on."""
    long = last - first
    step = next((step for most, step in STEPS if long <= most), timedelta(days=-(-long.days // MOST_STEPS)))
    local, end = _wall_clock(first), _wall_clock(last)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = midnight + (local - midnight) // step * step
    if step <= HOUR:
        return Period(since=first - (local - begin), until=last, step=step)
    # By the clock on the wall, so that a day is a day also where summer time begins or ends.
    count = -((begin - end) // step)
    begins = (at for n in range(count) if (at := (begin + n * step).astimezone(UTC)) < last)
    return _stepped(tuple(begins), last, step)


def _stepped(begins: tuple[datetime, ...], last: datetime, step: timedelta) -> Period:
    return Period(since=begins[0], until=last, step=step, begins=begins)


def _wall_clock(at: datetime) -> datetime:
    return at.astimezone().replace(tzinfo=None)


def _print(sections: Iterable[Section]) -> None:
    for section in sections:
        for row in section.told:
            for column, figure in row.figures.items():
                state = {} if "state" in row.facts else {"state": column}
                told = row.facts | state | {"count": figure.count, "command": figure.command}
                render.json_line({"section": section.name} | told)


def _write(file: str, octets: bytes) -> None:
    """Write the page whole or not at all; who reads the file meanwhile has the old one."""
    if file == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(octets)
        return
    place = Path(file).resolve()
    try:
        with NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}.", delete=False) as written:
            written.write(octets)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    os.chmod(written.name, _mode(place))
    os.replace(written.name, place)


def _mode(place: Path) -> int:
    """The permissions that the file has, or a new one gets."""
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
