"""The full screen of `mailgate top`, without a terminal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from textual.pilot import Pilot
from textual.widgets import Static

from cli import context
from cli.live import Live
from cli.live_pages import Page
from cli.live_panel import Panel
from cli.snapshot import Watch
from engine.settings import load
from tests.cli.command import PATIENCE_SECONDS
from tests.cli.stock import Place


@asynccontextmanager
async def screen(place: Place, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Screen]:
    """Yield the screen, once it has looked."""
    settings = load(place.file)
    with context.opened(settings) as engine:
        app = Live(Watch(engine, settings), every_seconds=0.2)
        async with app.run_test(size=size) as pilot:
            found = Screen(app, pilot)
            await found.until(lambda: bool(found.panel("events").rows))
            yield found


class Screen:
    """A screen without a terminal."""

    def __init__(self, app: Live, pilot: Pilot[Exception]) -> None:
        self.app = app
        self.press = pilot.press
        self.resize = pilot.resize_terminal
        self.pause = pilot.pause

    def panel(self, name: str) -> Panel:
        return self.app.screen.query_one(f"#{name}", Panel)

    def rows(self, name: str) -> dict[str, tuple[str, ...]]:
        return {row.key: row.cells for row in self.panel(name).rows}

    @property
    def head(self) -> str:
        return str(self.app.screen_stack[0].query_one("#head", Static).content)

    @property
    def place(self) -> str:
        """Which lines of a page are seen, as its last line says."""
        found = self.app.screen
        return str(found.bottom.place.content) if isinstance(found, Page) else ""

    @property
    def page(self) -> str:
        found = self.app.screen
        return str(found.query_one("#page Static", Static).content) if isinstance(found, Page) else ""

    async def until(self, seen: Callable[[], bool]) -> None:
        last = monotonic() + PATIENCE_SECONDS
        while not seen():
            assert monotonic() < last, self.app.screen
            await self.pause(0.02)
