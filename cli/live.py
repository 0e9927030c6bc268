"""The full screen of `mailgate top`: panels that are kept up to date, and the way down to one message.

The store is asked in a thread beside the screen, never more than once at a time: one that is busy, gone or down is named in
the line at the top, and nothing waits for it. Everything is drawn in the terminal's own colours, and can be read without any.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, ClassVar, cast

from rich.text import Text
from sqlalchemy import Connection
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from cli import context, found, panels, times
from cli.context import Failure
from cli.live_pages import Found, Help, Level, Page
from cli.live_panel import Panel, drawn
from cli.snapshot import Snapshot, Watch, require_file
from store.database import reading, unreachable
from store.errors import StoreError
from store.mailbox_events import MAILBOX_PREFIX

EVERY_SECONDS = 1.0
LEAVE_SECONDS = 1.0
FIXED_LINES = 8  # the first, the last, the flow
SILENT_SECONDS = 3.0  # the store has not answered for so long: that is worth a word
KEYS = (
    *(("Tab", "next panel"), ("↑↓", "mark"), ("Enter", "look into it"), ("/", "find")),
    *(("p", "pause"), ("?", "help"), ("q", "quit")),
)

Question = Callable[[Connection], Any]


class Answer(Message):
    """What the store answered, or why it didn't; `then` takes it."""

    def __init__(
        self, then: Callable[[Any], None], answer: Any = None, error: Exception | None = None
    ) -> None:
        super().__init__()
        self.then = then
        self.answer = answer
        self.error = error


class Overview(Level):
    """All panels."""

    KEYS = KEYS

    def __init__(self) -> None:
        super().__init__()
        self.head = Static(id="head")
        self.flow = Panel(panels.FLOW, id="flow", marks=False)
        self.queue = Panel(panels.QUEUE, id="queue", nothing=panels.NOTHING_WAITS)
        self.mailboxes = Panel(panels.MAILBOXES, id="mailboxes", nothing=panels.NO_MAILBOX)
        self.events = Panel(panels.EVENTS, id="events", nothing=panels.NO_EVENT)

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield self.head
        with Vertical():
            yield from (self.flow, self.queue, self.mailboxes, self.events)
        yield self.bottom

    def on_mount(self) -> None:
        """Begin at the events."""
        self.events.focus()

    def on_resize(self, _: Resize) -> None:
        """Share the height out anew."""
        self.share()

    def leave(self) -> None:
        """There is nothing above."""

    def share(self) -> None:
        """Share out the height: the events have what is left, and a third at least."""
        room = (self.size.height - FIXED_LINES) * 2 // 3
        boxes = min(self.mailboxes.whole_height, max(room // 2, room - self.queue.whole_height))
        self.mailboxes.styles.height = max(boxes, 2)
        self.queue.styles.height = max(min(self.queue.whole_height, room - boxes), 2)


class Live(App[Exception]):
    """The application. Ends with an error that is none of the store's, if there is one."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #head, #title, Bottom { height: 1; }
    Vertical { height: 1fr; }
    #flow { height: 6; }
    #events, #found, #page { height: 1fr; }
    #page { background: ansi_default; scrollbar-size-vertical: 0; }
    #keys, Input { width: 1fr; }
    #asks { width: auto; text-style: bold; }
    Input { background: ansi_default; color: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", show=False),
        # Before what follows it is given to whatever has the focus now: a slow line brings many keys at once.
        Binding("slash", "find", show=False, priority=True),
        Binding("p", "pause", show=False),
        Binding("question_mark", "explain", show=False),
    ]

    def __init__(self, watch: Watch, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._watch = watch
        self._every = every_seconds
        self._overview = Overview()
        self._store = panels.store_name(watch.engine)
        self._plain = not panels.draws_blocks(getattr(sys.__stderr__, "encoding", None))
        self._found: Snapshot | None = None
        self._trouble = ""
        self._asked_at: float | None = None  # of the look that is under way
        self._paused = False
        self._asking: list[threading.Thread] = []

    def watch_until_quit(self) -> int:
        """Run it on the terminal; returns the exit code. The mouse is left to the terminal, which selects text with it."""
        error = self.run(mouse=False)
        if error is not None:
            raise error
        return context.EXIT_DONE if self.return_code in (0, None) else context.EXIT_DEFECT

    def get_default_screen(self) -> Screen[None]:
        """Return the screen at the bottom."""
        return self._overview

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self._look()
        self.set_interval(self._every, self._tick)

    # -- asking the store

    def ask(self, question: Question, then: Callable[[Any], None]) -> None:
        """Ask the store something beside the screen; `then` takes the answer."""

        def answered() -> Any:
            require_file(self._watch.settings)
            with reading(self._watch.engine) as connection:
                return question(connection)

        self._beside(answered, then)

    def _beside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        # A thread that waits for a store that is locked must not keep the program from ending.
        thread = threading.Thread(target=self._answer, args=(work, then), daemon=True)
        self._asking = [*(one for one in self._asking if one.is_alive()), thread]
        thread.start()

    def _answer(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            answer = Answer(then, work())
        except Exception as error:  # noqa: BLE001 - told on the screen, or ends it
            answer = Answer(then, error=error)
        with suppress(RuntimeError):  # the screen has ended meanwhile
            self.post_message(answer)

    def on_unmount(self) -> None:
        """Let the store's answers come in, so that its connections end in good order; not for long."""
        until = monotonic() + LEAVE_SECONDS
        for thread in self._asking:
            thread.join(max(until - monotonic(), 0.0))

    def on_answer(self, message: Answer) -> None:
        """Take an answer; the store's trouble is told, anything else ends the screen."""
        if message.then == self._looked:
            self._asked_at = None
        if message.error is None:
            self._trouble = ""
            message.then(message.answer)
        elif trouble := self._said(message.error):
            self._trouble = trouble
        else:
            self.exit(message.error)
        self._show_head()

    def _said(self, error: Exception) -> str:
        if isinstance(error, Failure | StoreError):
            return str(error)
        trouble = unreachable(self._watch.engine, error)
        return "" if trouble is None else str(trouble)

    def _tick(self) -> None:
        if not self._paused and self._asked_at is None:
            self._look()
        self._show_head()

    def _look(self) -> None:
        self._asked_at = monotonic()
        self._beside(self._watch.look, self._looked)

    def _looked(self, snapshot: Snapshot) -> None:
        self._found = snapshot
        if not self._paused:
            self.show_found()
            for screen in self.screen_stack:
                cast(Level, screen).reload()

    # -- what is on the screen

    def show_found(self) -> None:
        """Fill the panels with what was found last."""
        if self._found is None:
            return
        overview, found = self._overview, self._found
        width = overview.flow.size.width or None
        overview.flow.fill(panels.flow(self._watch.flow, found.second, width, plain=self._plain))
        overview.queue.fill(panels.queue(found))
        overview.mailboxes.fill(panels.mailboxes(found))
        overview.events.fill(panels.events(found.events, found.at))
        overview.share()

    def _show_head(self) -> None:
        line = Text(no_wrap=True, overflow="ellipsis")
        if self._paused:
            line.append("PAUSED", "bold reverse")
            line.append("  ")
        trouble = self._trouble or self._silence()
        for screen in self.screen_stack[1:]:
            cast(Level, screen).bottom.tell(trouble)
        if trouble:
            line.append(f"{times.clock(times.now())[:8]}  {trouble}", "bold red")
        elif self._found is not None:
            line.append_text(drawn(panels.head(self._found, self._store)))
        else:
            line.append("mailgate", "bold")
        self._overview.head.update(line)

    def _silence(self) -> str:
        silent = 0.0 if self._asked_at is None else monotonic() - self._asked_at
        return f"the store has not answered for {silent:.0f}s" if silent > SILENT_SECONDS else ""

    # -- what a person does

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does this now; a / may also be written."""
        return action != "find" or (isinstance(self.screen, Level) and not self.screen.asking)

    def action_find(self) -> None:
        """Ask for words."""
        cast(Level, self.screen).find()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        self._tick()

    def action_explain(self) -> None:
        """Say what the keys do and what the figures mean."""
        if not isinstance(self.screen, Help):
            self.push_screen(Help())

    def open_list(self, title: str, question: Question) -> None:
        """Show the messages that a question finds."""
        self.push_screen(Found(title, question))

    def open_message(self, stream: str) -> None:
        """Show one message's page."""
        self.push_screen(Page(stream))

    def on_panel_chosen(self, message: Panel.Chosen) -> None:
        """Look into the row that was marked when Enter was pressed."""
        row, panel = message.row, message.panel.id
        if panel == "found":
            self.open_message(row.key)
        elif panel == "queue":
            self.open_list(f"Waiting: {row.cells[0]}", found.waiting_at(row.key))
        elif panel == "mailboxes":
            self._open_mailbox(row.key)
        elif panel == "events" and (stream := row.cells[1]).startswith(MAILBOX_PREFIX):
            self._open_mailbox(stream.removeprefix(MAILBOX_PREFIX))
        elif panel == "events":
            self.open_message(row.cells[1])

    def _open_mailbox(self, name: str) -> None:
        self.open_list(f"From mailbox {name}, the newest first", found.of_mailbox(name))
