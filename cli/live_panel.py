"""A panel of the full screen: a table that keeps its mark on the same row, wherever that row goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from cli import panels, render
from cli.panels import Row
from cli.render import Column, Part


class Panel(Widget, can_focus=True):
    """A line with titles, and rows below it. `marks`: whether a row can be marked and chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "move(-1000000)", show=False),
        Binding("end", "move(1000000)", show=False),
        Binding("enter", "choose", show=False),
    ]
    marked: reactive[int] = reactive(0)

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, panel: Panel, row: Row) -> None:
            super().__init__()
            self.panel = panel
            self.row = row

    def __init__(self, columns: Sequence[Column], *, id: str, nothing: str = "", marks: bool = True) -> None:
        super().__init__(id=id)
        self.can_focus = marks
        self._columns = columns
        self.nothing = nothing
        self._rows: Sequence[Row] = ()
        self._top = 0

    @property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        return self._rows

    def fill(self, rows: Sequence[Row]) -> None:
        """Show these rows. Somebody who has moved the mark keeps the row; at the top it stays at the top."""
        key = self._rows[self.marked].key if self._rows and self.marked else None
        places = {row.key: place for place, row in enumerate(rows)}
        self._rows = rows
        self.marked = places.get(key, min(self.marked, max(len(rows) - 1, 0))) if key is not None else 0
        self.refresh()

    def action_move(self, steps: int) -> None:
        """Move the mark up or down."""
        self.marked = max(min(self.marked + steps, len(self._rows) - 1), 0)

    def action_page(self, pages: int) -> None:
        """Move the mark by as much as is seen."""
        self.action_move(pages * max(self.size.height - 2, 1))

    def action_choose(self) -> None:
        """Tell that the marked row was chosen."""
        if self._rows:
            self.post_message(self.Chosen(self, self._rows[self.marked]))

    @property
    def whole_height(self) -> int:
        """The height that shows every row."""
        return 1 + max(len(self._rows), 1)

    def render(self) -> Text:
        """Return the titles, and the rows around the mark."""
        width, height = self.size.width, max(self.size.height - 1, 1)
        self._top = max(min(self._top, self.marked, len(self._rows) - height), self.marked - height + 1, 0)
        found = panels.lines(self._columns, self._rows, width)
        lines = [self._titles(drawn(next(found)), width, height)]
        for place, parts in enumerate(found):
            if self._top <= place < self._top + height:
                lines.append(self._row(parts, width, marked=place == self.marked))
        if not self._rows:
            lines.append(Text(self.nothing, "dim"))
        return Text("\n", no_wrap=True).join(lines)

    def _titles(self, titles: Text, width: int, height: int) -> Text:
        """The line with titles; to its right which rows are seen, where not all are."""
        titles.stylize("bold reverse" if self.has_focus else "bold underline")
        last = min(self._top + height, len(self._rows))
        place = f" {self._top + 1}-{last} of {len(self._rows)}" if last - self._top < len(self._rows) else ""
        titles.truncate(max(width - len(place), 0))
        filling = " " * (width - titles.cell_len - len(place))
        return titles.append(filling + place, "reverse" if self.has_focus else "underline")

    def _row(self, parts: Iterable[Part], width: int, *, marked: bool) -> Text:
        row = drawn(parts)
        row.truncate(width)
        if marked and self.has_focus:
            row.append(" " * (width - row.cell_len))
            row.stylize("reverse")
        return row


def drawn(parts: Iterable[Part]) -> Text:
    """Return the parts of a line as rich draws them; what strangers wrote has no control characters left."""
    shown = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((render.clean(text), style) for text, style in shown), no_wrap=True)


def keys(known: Iterable[tuple[str, str]]) -> Text:
    """Return the line that names keys and what they do."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, does in known:
        line.append(key, "bold reverse")
        line.append(f" {does}  ")
    return line
