"""`mailgate init`: a commented configuration to start from. Never replaces one unless told to."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli import context, render
from cli.context import EXIT_CONFIGURATION, Failure, Misuse
from cli.starting_config import starting_config

DEFAULT_FILE = "mailgate.toml"
MODE = 0o600  # passwords may stand in it


def init(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help=f"[default: what --config names, else {DEFAULT_FILE}]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    path = Path(file or context.named_configuration() or DEFAULT_FILE)
    if force and path.exists() and not path.is_file():
        raise Misuse(f"{path} is no file that could be replaced: name another")
    try:
        _write(path, starting_config(socket.gethostname()), force=force)
    except FileExistsError:
        raise Failure(f"{path} is there already: --force replaces it") from None
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}", EXIT_CONFIGURATION) from None
    _say_what_next(path)


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a new file that nobody else may read; what it replaces is replaced whole or not at all."""
    if not force:
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        return
    path = path.resolve()  # a link goes on leading to it
    # Under a name of its own: whoever else may write to the folder may have put something under any other.
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _say_what_next(path: Path) -> None:
    named = "" if str(path) == DEFAULT_FILE else f" --config {path}"
    render.line(f"{path} is written. Next:")
    render.line("  1. put your mailboxes and your own server into it: the comments say how")
    render.line(f"  2. mailgate{named} check --connect   tries it out, and changes nothing")
    render.line(f"  3. mailgate{named} run --once        fetches and delivers once")
    render.line(f"  4. mailgate{named} run               goes on until stopped")
