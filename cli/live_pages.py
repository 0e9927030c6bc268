"""What lies below the panels of the full screen: a list of messages, one message's page, the help, and what asks for words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from cli import panels, render, show, times
from cli.found import SHOWN, Question, by_words
from cli.live_panel import Panel, drawn, keys
from cli.show import Entry
from store.life import fold

if TYPE_CHECKING:
    from cli.live import Live

Json = dict[str, Any]

LIST_KEYS = (("↑↓", "mark"), ("Enter", "its page"), ("Esc", "back"), ("/", "find"), ("q", "quit"))
PAGE_KEYS = (("↑↓ PgUp PgDn", "read on"), ("Esc", "back"), ("/", "find"), ("q", "quit"))
HELP_KEYS = (("Esc", "back"), ("q", "quit"))

HELP = """\
 Tab, Shift-Tab  the next panel, the one before
 ↑ ↓ PgUp PgDn   mark a row; Home and End: the first and the last
 Enter           look into it: the messages of a next hop or a mailbox, then
                 one message's page, the same that 'mailgate show' prints
 Esc             back
 /               find messages by words of subject and addresses (inv* for
                 those that begin so), or by an id
 p               pause; again: go on
 q, Ctrl-C       quit

 FLOW       received: messages that came in. Of what went out, the answers:
            delivered (the home server has it), relayed (another server has
            it), deferred (refused for now), refused (for good, or too
            large). NOW/S is the mean of the last five seconds. Each line is
            as high as its own highest. A + says: so many, and maybe more.
 NEXT HOP   What is open, by where it waits; first what needs a person, and
            next hops in trouble.
 MAILBOX    Those in trouble first. PRESENT: known to be in the mailbox.
 TIME       The last events, the newest first, in this machine's time zone.
"""


class Bottom(Horizontal):
    """The last line: what the keys do, or, while that is asked for, the words to find messages by."""

    def __init__(self, known: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._known = known
        self.line = Static(keys(known), id="keys")
        self.place = Label("")
        self.asks = Label("Find: ", id="asks")
        # There from the start: what is typed fast must not go elsewhere.
        self.field = Input(compact=True, placeholder="words of subject and addresses, or an id")
        self.turn(asking=False)

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield from (self.line, self.asks, self.field, self.place)

    @property
    def asking(self) -> bool:
        """Whether words are asked for."""
        return self.field.display

    def tell(self, trouble: str) -> None:
        """Tell of the store's trouble in place of the keys; "" for none."""
        line = Text(trouble, "bold red", no_wrap=True, overflow="ellipsis") if trouble else keys(self._known)
        self.line.update(line)

    def turn(self, *, asking: bool) -> None:
        """Ask, or name the keys."""
        self.line.display = not asking
        self.asks.display = self.field.display = asking
        self.field.value = ""


class Level(Screen[None]):
    """A screen with a last line in which to ask for messages."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", show=False)]
    KEYS: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.bottom = Bottom(self.KEYS)
        self._before: Widget | None = None  # what had the focus when words were asked for

    @property
    def live(self) -> Live:
        """The application."""
        return cast("Live", self.app)

    @property
    def asking(self) -> bool:
        """Whether words are asked for."""
        return self.bottom.asking

    def find(self) -> None:
        """Ask for words."""
        self._before = self.focused
        self.bottom.turn(asking=True)
        self.set_focus(self.bottom.field)

    def action_back(self) -> None:
        """Ask no more, or leave."""
        if self.asking:
            self._ask_no_more()
        else:
            self.leave()

    def reload(self) -> None:
        """Ask the store again, where that is worth it."""

    def leave(self) -> None:
        """Go up one level."""
        self.app.pop_screen()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look for what was written."""
        asked = event.value.strip()
        self._ask_no_more()
        if asked:
            self.live.open_list(f"What has {asked!r} in its subject or addresses", by_words(asked))

    def _ask_no_more(self) -> None:
        self.bottom.turn(asking=False)
        self.set_focus(self._before)


class Found(Level):
    """Messages that a question finds."""

    KEYS = LIST_KEYS

    def __init__(self, title: str, question: Question) -> None:
        super().__init__()
        self._asked = title
        self._question = question
        self._answered = False
        self._line = Static(Text(title, "bold", no_wrap=True, overflow="ellipsis"), id="title")
        self._panel = Panel(panels.FOUND, id="found", nothing="looking …")

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield from (self._line, self._panel, self.bottom)

    def on_mount(self) -> None:
        """Ask."""
        self._panel.focus()
        self.reload()

    def reload(self) -> None:
        """Ask, until there is an answer: the list stands still while a person reads it."""
        if not self._answered:
            self.live.ask(self._question, self._fill)

    def _fill(self, rows: Sequence[Json]) -> None:
        self._answered = True
        self._panel.nothing = "no message fits"
        self._panel.fill(panels.messages(rows, times.now()))
        many = f" (the first {SHOWN})" if len(rows) >= SHOWN else ""
        self._line.update(Text(self._asked + many, "bold", no_wrap=True, overflow="ellipsis"))


class Page(Level):
    """One message's page, the same that `mailgate show` prints; kept up to date."""

    KEYS = PAGE_KEYS

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream
        self._entries: Sequence[Entry] | None = None
        self._body = Static(Text("looking …", "dim"))
        self._scroll = VerticalScroll(self._body, id="page")

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield from (self._scroll, self.bottom)

    def on_mount(self) -> None:
        """Ask."""
        self.reload()

        self.watch(self._scroll, "scroll_y", self._say_where, init=False)

    def on_resize(self, _: Resize) -> None:
        """Wrap it anew, once its place on the screen is known."""
        self.call_after_refresh(self._draw)

    def reload(self) -> None:
        """Ask again."""
        self.live.ask(lambda connection: show.life(connection, self._stream), self._take)

    def _take(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._draw()

    def _draw(self) -> None:
        if self._entries is not None:
            at_end = 0 < self._scroll.max_scroll_y <= self._scroll.scroll_offset.y
            self._body.update(self._page(self._scroll.size.width))
            self.call_after_refresh(self._drawn, at_end)

    def _drawn(self, at_end: bool) -> None:
        """Who looks at the end goes on looking at it."""
        if at_end:
            self._scroll.scroll_end(animate=False)
        self._say_where()

    def _say_where(self) -> None:
        """Say which lines are seen, where not all are."""
        every, seen, first = self._body.size.height, self._scroll.size.height, self._scroll.scroll_offset.y
        more = every > seen > 0
        self.bottom.place.update(f"{first + 1}-{min(first + seen, every)} of {every}" if more else "")

    def _page(self, width: int) -> Text:
        entries = self._entries or ()
        message = fold(self._stream, ((cast(Any, entry.event), entry.at) for entry in entries))
        if message is None:
            return Text(f"there is no message {self._stream}")
        with render.on_sheet(width) as sheet:
            show.page(message, entries, times.now())
        return Text("\n").join(drawn(line) for line in sheet.lines)


class Help(Level):
    """What the keys do, and what the figures mean."""

    KEYS = HELP_KEYS

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield Static(Text("mailgate top", "bold"), id="title")
        with VerticalScroll(id="page"):
            yield Static(Text(HELP))
        yield self.bottom
