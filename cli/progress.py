"""How far a long command is: bars on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cli.person import is_terminal


@contextmanager
def progress(*, wanted: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows how far it is: a bar for each step on a terminal, nothing elsewhere, or where it isn't wanted."""
    if not wanted or not is_terminal(sys.stderr):
        yield lambda doing, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    bars: dict[str, TaskID] = {}
    # What is printed meanwhile may go to a file: it is not rich's to put on the terminal.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as shown:

        def show(doing: str, done: int, total: int) -> None:
            if doing not in bars:
                bars[doing] = shown.add_task(doing, total=total)
            shown.update(bars[doing], completed=done, total=total)

        yield show
