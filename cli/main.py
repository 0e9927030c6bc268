"""The command line: `mailgate [--config FILE] COMMAND …`.

Owns which commands there are and where they live, and what a person sees when something goes wrong: one line, never
a traceback. A command's module is imported only when that command is called, so that `mailgate run` starts fast and
`mailgate --help` at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli import context
from cli.asked import Command, Plain
from cli.context import Failure, Misuse, nearest
from store.errors import Conflict, Damaged, LeaseLost, ProofError, StoreError

TRACEBACK = "MAILGATE_TRACEBACK"
PROGRAM = "mailgate"
NO_NUMBER = "Input should be a valid integer, unable to parse string as an integer"  # pydantic's words


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command lives, and its line in the list of commands."""

    module: str
    attribute: str
    help: str


SECTIONS: Mapping[str, Mapping[str, Place]] = {
    "The gateway": {
        "init": Place("cli.init", "init", "Write a commented mailgate.toml to start from."),
        "check": Place("cli.check", "check", "Validate the configuration; --connect tries it out."),
        "run": Place("cli.run", "run", "Fetch and deliver until stopped; --once: one round."),
        "demo": Place("cli.demo", "demo", "See the whole life of some sample mail on this machine."),
    },
    "Where is it, and why": {
        "list": Place("cli.message", "list_messages", "Find messages."),
        "show": Place("cli.show", "show", "Show one message's life, event by event."),
        "explain": Place("cli.explain", "explain", "Say why a message is where it is, and what comes next."),
        "raw": Place("cli.message", "raw", "Print a message's octets."),
        "events": Place("cli.log", "events", "Print the log; --follow goes on as it grows."),
        "diff": Place("cli.difference", "diff", "Say what changed between two times."),
        "top": Place("cli.top", "top", "Watch it all on a full screen, as it happens."),
        "queue": Place("cli.queue", "queue", "Show what is open, by next hop and by age."),
        "stats": Place("cli.stats", "stats", "Count what came, went and was found; how long it took."),
        "report": Place("cli.report", "report", "Write a page with pictures of a period."),
    },
    "Setting things right": {
        "import": Place("cli.importing", "import_files", "Take in messages from files, and deliver them."),
        "replay": Place("cli.replay", "replay", "Deliver messages again, by id or by filters."),
        "hold": Place(
            "cli.operator", "hold", "Keep messages back, until a time or a person lets them go on."
        ),
        "release": Place("cli.operator", "release", "Let go on what is held."),
        "discard": Place("cli.operator", "discard", "Decide that messages go nowhere; nobody is told."),
        "fail": Place("cli.operator", "fail", "Give messages up; the sender of outgoing mail is told."),
        "rescan": Place("cli.rescan", "rescan", "Scan kept messages again, with today's signatures."),
        "quarantine": Place(
            "cli.quarantine", "app", "What is in quarantine, and why; let it go or discard it."
        ),
        "mailbox": Place("cli.mailbox", "app", "Health of each mailbox; poll now; adopt what is there."),
        "route": Place("cli.route", "route", "Say who would get a message, by which rule, sent where."),
        "db": Place("cli.db", "app", "Schema, read tables, backup."),
    },
    "Proof": {
        "audit": Place("cli.audit", "app", "Does everything add up; seals; a bundle for an auditor."),
    },
}
PLACES = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Commands(Plain, TyperGroup):
    """The commands, each loaded when it is called and not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of the help."""
        return list(PLACES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that knows its name and help: enough to be listed and completed."""
        place = PLACES.get(cmd_name)
        return None if place is None else TyperCommand(name=cmd_name, help=place.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the real command, and its arguments."""
        name, *rest = args
        if name in PLACES:
            return name, _loaded(name), rest
        if ctx.resilient_parsing:  # completing a line that isn't right yet
            return None, None, rest
        hint = nearest(name, PLACES) or f" (try '{PROGRAM} --help')"
        raise Misuse(f"there is no command {name!r}{hint}")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in their sections."""
        longest = max(map(len, PLACES))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(longest), place.help) for name, place in section.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Raises ReaderGone where nobody reads what it writes."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        else:
            return answer


class ReaderGone(Exception):
    """Whoever read our output has stopped reading, as `head` does."""


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"{PROGRAM} {version(PROGRAM)}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _frame(
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The configuration; else $MAILGATE_CONFIG, ./mailgate.toml, /etc/mailgate/mailgate.toml.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Fetch mail from POP3 mailboxes, relay it to your own server, and tell the life of every message."""
    context.name_configuration(config)


def main() -> int:
    """Run the command line; returns the exit code. A command's own answer counts where it is a number."""
    _open_what_is_closed()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a stranger's subject must not end a list
    code = _run()
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
    return code


def _open_what_is_closed() -> None:
    """Give a stream that was closed a number of its own: what is opened next would take it, and be written to.

    Nobody is there to be asked where it is stdin, which stays None.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)
            if name != "stdin":
                setattr(sys, name, os.fdopen(nowhere, "w"))


def _run() -> int:
    try:
        _refuse_what_is_no_text(sys.argv[1:])
        answer = typer.main.get_command(app)(standalone_mode=False, prog_name=PROGRAM)
    except Failure as failure:
        return _said(str(failure), failure.code)
    except StoreError as error:
        bad_news = isinstance(error, Damaged | Conflict | LeaseLost | ProofError)
        return _said(str(error), context.EXIT_BAD_NEWS if bad_news else context.EXIT_STORE)
    except ReaderGone:
        return context.EXIT_READER_GONE
    except typer.Abort:
        return context.EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  # no traceback ever reaches a person who did not ask for it
        return _unexpected(error)
    return answer if isinstance(answer, int) else context.EXIT_DONE


def _refuse_what_is_no_text(arguments: Iterable[str]) -> None:
    """Raises Misuse for octets that mean no characters: nothing could be looked for with them, or go on record."""
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= character <= "\udfff" for character in argument):
            shown = argument.encode(errors="replace").decode()
            raise Misuse(f"{shown!r} is no text in {sys.getfilesystemencoding().upper()}")


def _loaded(name: str) -> Any:
    """Import a command: a function is one command, a Typer app a group of them."""
    place = PLACES[name]
    found = getattr(import_module(place.module), place.attribute)
    if isinstance(found, typer.Typer):
        found.info.name = name
        found.rich_markup_mode = None
        for one in found.registered_commands:
            one.cls = Command
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name, cls=Command)(found)
    return typer.main.get_command(alone)


def _unexpected(error: Exception) -> int:
    """Say what typer found wrong with the arguments, or what we did not foresee."""
    if hasattr(error, "format_message"):
        return _misused(error)
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return _said(f"{file}{error.strerror}", context.EXIT_BAD_NEWS)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return _said(f"an error in mailgate itself: {what} ({TRACEBACK}=1 shows where)", context.EXIT_DEFECT)


def _misused(error: Any) -> int:
    """An error of typer's, or its way of printing help."""
    asked = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())  # noqa: T201
        return context.EXIT_DONE
    text = " ".join(error.format_message().split()).rstrip(".").replace(NO_NUMBER, "it is no whole number")
    hint = f" (try '{asked.command_path} --help')" if asked is not None else ""
    return _said(text[:1].lower() + text[1:] + hint, context.EXIT_USAGE)


def _said(text: str, code: int) -> int:
    """Print one line on stderr, whatever a far side may have written into it."""
    line = "".join(character if character.isprintable() else " " for character in text)
    print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
