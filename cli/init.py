"""`mailgate init`: a commented configuration to start from. Never replaces one unless told to."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from cli import context, render
from cli.context import EXIT_CONFIGURATION, Failure
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
    try:
        _write(path, starting_config(socket.gethostname()), force=force)
    except FileExistsError:
        raise Failure(f"{path} is there already: --force replaces it") from None
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}", EXIT_CONFIGURATION) from None
    _say_what_next(path)


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a new file that nobody else may read; what it replaces is replaced whole or not at all."""
    target = path.with_name(f".{path.name}.new") if force else path
    how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    with os.fdopen(os.open(target, how, MODE), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), MODE)
        file.write(text)
    if force:
        target.replace(path)


def _say_what_next(path: Path) -> None:
    named = "" if str(path) == DEFAULT_FILE else f" --config {path}"
    render.line(f"{path} is written. Next:")
    render.line("  1. put your mailboxes and your own server into it: the comments say how")
    render.line(f"  2. mailgate{named} check --connect   tries it out, and changes nothing")
    render.line(f"  3. mailgate{named} run --once        fetches and delivers once")
    render.line(f"  4. mailgate{named} run               goes on until stopped")
