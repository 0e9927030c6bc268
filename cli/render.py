"""How answers look: tables and lines for people, JSON lines and CSV for programs.

On a terminal lines are fitted to its width and coloured by rich; into a pipe goes plain text, aligned and uncut, unless
COLUMNS says how wide it may be. NO_COLOR is respected. Whatever strangers wrote (subjects, replies) reaches a terminal
and into CSV without control characters. Rows are taken as they come: memory does not grow with their number.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice
from typing import Any

import orjson

GAP = "  "
MEASURED_ROWS = 500  # decide the widths; what comes after is fitted to them
PAGE_WIDTH = 100  # of running text where nothing says how wide the output is
UNKNOWN_WIDTH = 80  # of a terminal that does not know its own
LEAST_WIDTH = 40  # a terminal that says less is not believed
CUT = "…"

STATE_STYLES: Mapping[str, str] = {
    "received": "cyan",
    "deferred": "yellow",
    "held": "magenta",
    "quarantined": "magenta",
    "outcome-unknown": "bold red",
    "delivered": "green",
    "relayed": "green",
    "failed": "bold red",
    "rejected-oversize": "red",
    "discarded": "dim",
}

_UPPER_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")  # U+007F to U+009F, which JSON need not escape
_FORMULA = re.compile(r"""(?:^|(?<=;))(?=["']*[ ]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")

Part = str | tuple[str, str]  # a text, or a text and its style


@dataclass(slots=True)
class Sheet:
    """Lines that are not printed but kept, each of texts with their styles; `width` is how many characters one may have."""

    width: int
    lines: list[list[tuple[str, str]]] = field(default_factory=list)


_sheet: ContextVar[Sheet | None] = ContextVar("sheet", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table. Only one with `least` is ever cut, and to no fewer characters than that.

    What is cut of one with `in_full` is told below the table: the row's first cell, `in_full`, the whole text.
    """

    title: str
    right: bool = False
    least: int | None = None
    styles: Mapping[str, str] | None = None  # by the cell's text
    from_width: int = 0  # left out where the output is narrower
    in_full: str | None = None


def width() -> int | None:
    """Return how many characters a line may have, None where nothing limits it."""
    if (sheet := _sheet.get()) is not None:
        return max(sheet.width, LEAST_WIDTH)
    if (said := os.environ.get("COLUMNS", "")).isdecimal() and int(said) > 0:
        return max(int(said), LEAST_WIDTH)
    if not sys.stdout.isatty():
        return None
    return max(os.get_terminal_size(sys.stdout.fileno()).columns or UNKNOWN_WIDTH, LEAST_WIDTH)


@contextmanager
def on_sheet(width: int) -> Iterator[Sheet]:
    """Keep what is printed within, for a screen of so many characters' width to show."""
    sheet = Sheet(width)
    token = _sheet.set(sheet)
    try:
        yield sheet
    finally:
        _sheet.reset(token)


def line(*parts: Part) -> None:
    """Print one line; styles show on a terminal only."""
    shown = [(clean(part), "") if isinstance(part, str) else (clean(part[0]), part[1]) for part in parts]
    if (sheet := _sheet.get()) is not None:
        sheet.lines.append(shown)
    elif _styled():
        _terminal().print(_text(shown), soft_wrap=True)
    else:
        sys.stdout.write("".join(text for text, _ in shown).rstrip() + "\n")


def paragraph(*parts: Part, first: str = "", indent: int = 0) -> None:
    """Print running text behind `first`, wrapped, further lines indented by so many characters.

    A styled part stands at the beginning only.
    """
    lead = [part for part in parts if not isinstance(part, str)]
    opening = "".join(text for text, _ in lead)
    body = clean(opening + "".join(part for part in parts if isinstance(part, str)))
    wrapped = textwrap.wrap(
        body,
        width=(width() or PAGE_WIDTH) - indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    head = first.ljust(indent)
    if lead and wrapped and wrapped[0].startswith(opening):
        line(head, (opening, lead[0][1]), wrapped[0][len(opening) :])
    else:
        line(head, *wrapped[:1])
    for more in wrapped[1:]:
        line(" " * indent, more)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. Rows have a cell for every column, also for one that is left out."""
    cut: dict[str, list[str]] = {}
    for parts in laid_out(columns, rows, width(), cut):
        line(*parts)
    for text, labels in cut.items():
        more = f" and {len(labels) - 1:,} more" if labels[1:] else ""
        paragraph(f"{labels[0]}{more}{text}", indent=2)


def laid_out(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    limit: int | None,
    cut: dict[str, list[str]] | None = None,
) -> Iterator[list[Part]]:
    """Yield the lines of a table, the first with the titles, in no more than so many characters where columns can be cut.

    `cut` is given what is to be told in full, with the first cells of the rows in which it is cut.
    """
    kept = [n for n, column in enumerate(columns) if limit is None or limit >= column.from_width]
    chosen = [columns[n] for n in kept]
    cells = ([clean(row[n]) for n in kept] for row in rows)
    measured = list(islice(cells, MEASURED_ROWS))
    widths = _widths(chosen, measured, limit)
    yield [(GAP.join(_fitted(c.title, w, c) for c, w in zip(chosen, widths, strict=True)).rstrip(), "bold")]
    for row in chain(measured, cells):
        yield list(_row(chosen, widths, row))
        if cut is not None:
            for text in _cut_from(chosen, widths, row):
                cut.setdefault(text, []).append(row[0])


def json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line; times are RFC 3339 in UTC."""
    sys.stdout.flush()
    options = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    octets = orjson.dumps(value, option=options)
    sys.stdout.buffer.write(_UPPER_CONTROL.sub(lambda found: b"\\u00%02x" % found[0][-1], octets))


def comma_separated(titles: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV (RFC 4180) with a header line; None: it was printed before.

    As clean as the lines of a table. What a spreadsheet would take for a formula gets a `'`, also behind a semicolon, at
    which some split a line.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if titles is not None:
        writer.writerow(titles)
    writer.writerows([_plain(value) for value in row] for row in rows)


def clean(text: str) -> str:
    """Return text on one line without control characters, which could do anything to a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def escaped(json_text: str) -> str:
    """Return JSON that says the same without control characters, nor what else is not to be seen."""
    if json_text.isprintable():
        return json_text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json_text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return _FORMULA.sub("'", clean(value)) if isinstance(value, str) else value


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None) -> list[int]:
    """The width of each column: what its cells need, less where that is too much for a line."""
    widths = [
        max([cells(column.title), *(cells(row[n]) for row in rows)]) for n, column in enumerate(columns)
    ]
    over = 0 if limit is None else sum(widths) + len(GAP) * (len(widths) - 1) - limit
    for _ in range(max(over, 0)):
        cuttable = [n for n, c in enumerate(columns) if c.least is not None and widths[n] > c.least]
        if not cuttable:
            break
        widths[max(cuttable, key=lambda n: widths[n])] -= 1
    return widths


def _cut_from(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> Iterator[str]:
    for column, size, cell in zip(columns, widths, row, strict=True):
        if column.in_full is not None and cells(cell) > size:
            yield column.in_full + cell


def _row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> Iterator[Part]:
    last = len(columns) - 1
    for n, (column, size, cell) in enumerate(zip(columns, widths, row, strict=True)):
        style = (column.styles or {}).get(cell, "")
        shown = _fitted(cell, size, column)
        yield (shown.rstrip() if n == last and not column.right else shown, style)
        yield GAP if n < last else ""


def _fitted(cell: str, size: int, column: Column) -> str:
    """Cut or fill a cell to its column's width."""
    length = cells(cell)
    if length > size and column.least is not None:
        kept = cell
        while kept and cells(kept) > size - 1:
            kept = kept[:-1]
        cell = kept + CUT
        length = cells(cell)
    filling = " " * max(size - length, 0)
    return filling + cell if column.right else cell + filling


def cells(text: str) -> int:
    """Return how many places a text takes on a terminal; East Asian characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _styled() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@cache
def _terminal() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _text(parts: Sequence[tuple[str, str]]) -> Any:
    from rich.text import Text

    return Text.assemble(*parts)


def counted(number: int, word: str) -> str:
    """Return a number with its noun: "1 event", "2,000 events"."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")
