"""`mailgate demo`: the whole life of some sample mail, on this machine, with nothing to set up.

The gateway is the real one, on a store that stays; the mailbox and the home server are stand-ins and end with the command.
Touches one folder only, and only if that is new, empty, or left by an earlier demo.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import context, render, times
from cli.context import Failure, Misuse

MARK = "# Written by 'mailgate demo', with stand-ins for mailbox and home server that ended with it.\n"
PROGRAM = "mailgate"
CONFIGURATION = "mailgate.toml"
STORE = "mailgate.db"
MADE = (CONFIGURATION, STORE, *(STORE + end for end in ("-wal", "-shm", ".lock")))
PASSES = 8  # the second is enough; a slow machine may need another

USERNAME = "demo"
PASSWORD = "demo"  # noqa: S105 - of a stand-in that listens on loopback for some seconds
EVENT_INDENT = 12


def demo(
    keep: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to keep configuration and store in.")
    ] = Path("mailgate-demo"),
) -> None:
    """See sample mail fetched and delivered, deferred, refused, too large; then look at it yourself."""
    _prepare(keep)
    context.name_configuration(str(keep / CONFIGURATION))
    logging.getLogger("mailgate").setLevel(logging.ERROR)  # the story is told from the log of events
    from engine.loops import start

    render.line(("mailgate demo", "bold"), ": a stand-in mailbox, the real gateway, a stand-in home server")
    render.line()
    taken, left = start(_play(keep))
    _tell(taken, left)
    _point_on(keep)


def _prepare(folder: Path) -> None:
    """Make the folder, or clear what an earlier demo left in it. Raises Misuse where it is somebody's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not _is_ours(folder):
            raise Misuse(f"{folder} is there already, and no demo made it: name another folder with --keep")
        for name in MADE:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from None


def _is_ours(folder: Path) -> bool:
    file = folder / CONFIGURATION
    return file.is_file() and file.read_text(errors="replace").startswith(MARK)


def _configuration(mailbox_port: int, home_port: int) -> str:
    from cli.demo_mail import DOMAIN

    return f"""{MARK}
[gateway]
hostname = "gate.{DOMAIN}"
postmaster = "postmaster@{DOMAIN}"
domains = ["{DOMAIN}"]

[store]
url = "sqlite:///{STORE}"

[[mailbox]]
name = "demo"
host = "127.0.0.1"
port = {mailbox_port}
tls = "none"
username = "{USERNAME}"
password = "{PASSWORD}"
multidrop = {{ headers = ["Delivered-To"], domains = ["{DOMAIN}"] }}
fallback = "postmaster@{DOMAIN}"
remove = "delivered"
oversize = "notify"

[next_hop.home]
host = "127.0.0.1"
port = {home_port}
tls = "none"

[retry]
first = "1s"
"""


async def _play(folder: Path) -> tuple[int, int]:
    """Run the gateway between the stand-ins; returns how many messages each of them has at the end."""
    from cli.demo_mail import (
        DEFERRED_RECIPIENT,
        HOME_SIZE_LIMIT_OCTETS,
        REFUSED_RECIPIENT,
        demo_messages,
    )
    from cli.stand_in_home import StandInHome
    from cli.stand_in_mailbox import StandInMailbox

    mail = {message.uidl: message.octets for message in demo_messages(now=times.now())}
    mailbox = StandInMailbox(username=USERNAME, password=PASSWORD, messages=mail)
    home = StandInHome(
        clock=times.now,
        size_limit_octets=HOME_SIZE_LIMIT_OCTETS,
        refused=(REFUSED_RECIPIENT,),
        deferrals={DEFERRED_RECIPIENT: 1},
    )
    try:
        file = folder / CONFIGURATION
        file.write_text(_configuration(await mailbox.start(), await home.start()))
        file.chmod(0o600)
        await _run_gateway()
        return len(home.ledger), len(mailbox.uidls)
    finally:
        await mailbox.stop()
        await home.stop()


async def _run_gateway() -> None:
    """As `mailgate run --once`, again when something deferred falls due."""
    from engine import service
    from engine.gateway import Roles

    settings = context.settings()
    context.ensure_store(settings)
    with context.opened(settings, checkpoints=True) as engine:
        for _ in range(PASSES):
            if (await service.once(settings, engine, Roles())).open == 0:
                return
            await asyncio.sleep(_seconds_to_next(engine))
    raise Failure("the gateway did not come to an end with the sample mail: please report this")


def _seconds_to_next(engine: Any) -> float:
    from store import queries
    from store.database import reading

    with reading(engine) as connection:
        due = [row["due_at"] for row in queries.queue(connection) if row["due_at"] is not None]
    return max((min(due, default=times.now()) - times.now()).total_seconds(), 0.0)


# -- what came of it


def _tell(taken: int, left: int) -> None:
    """Print each message's life, the notices behind the mail they are about."""
    from cli.demo_mail import demo_messages
    from store import queries
    from store.database import reading

    shows = {message.uidl: message.shows for message in demo_messages(now=times.now())}
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        rows = sorted(queries.every(connection, queries.Filter()), key=lambda row: row["position"])
        for row in (row for row in rows if row["direction"] == "inbound"):
            _life(connection, row, shows.get(row["uidl"], ""))
        notices = [row for row in rows if row["direction"] != "inbound"]
        if notices:
            render.line(("Notices the gateway wrote", "bold"))
        for row in notices:
            to = ", ".join(one["address"] for one in row["recipients"])
            state = (row["state"], render.STATE_STYLES[row["state"]])
            render.line("  ", state, f" to {to}: {row['subject']}")
    render.line()
    render.line(f"The home server took {taken} messages. The mailbox still holds {left}: what nobody took.")
    render.line()


def _life(connection: Any, row: Mapping[str, Any], shows: str) -> None:
    from cli import show, story

    to = ", ".join(one["address"] for one in row["recipients"])
    state = (row["state"], render.STATE_STYLES[row["state"]])
    render.line((row["subject"] or "(no subject)", "bold"), f", to {to}: ", state)
    render.line((f"  shows {shows}", "dim"))
    entries = show.life(connection, row["id"])
    for entry in entries:
        first = f"  +{times.span(entry.at - entries[0].at)}"
        words = story.sentence(entry.event, entry.at, [one["address"] for one in row["recipients"]])
        render.paragraph(
            (entry.event.NAME, "bold"), words, first=first.ljust(EVENT_INDENT), indent=EVENT_INDENT
        )
    render.line()


def _point_on(folder: Path) -> None:
    """Name the commands to look further, with ids that are there."""
    from store import queries
    from store.database import reading

    with context.opened(context.settings()) as engine, reading(engine) as connection:
        rows = list(queries.every(connection, queries.Filter(direction="inbound")))
    ids = {row["state"]: row["id"] for row in rows}
    program = f"{_program()} --config {shlex.quote(str(folder / CONFIGURATION))}"
    render.line(("Now look yourself; the store is kept:", "bold"))
    commands = _commands(ids, rows)
    longest = max(len(words) for words, _ in commands)
    beside = f"  {program} {' ' * longest}  # {max((about for _, about in commands), key=len)}"
    for words, about in commands:
        if len(beside) <= (render.width() or len(beside)):
            render.line(f"  {program} {words.ljust(longest)}", (f"  # {about}", "dim"))
        else:
            render.line((f"  # {about}", "dim"))
            render.line(f"  {program} {words}")


def _program() -> str:
    """Return how to call us again: by the path we were called by, where no search path leads here."""
    called, found = Path(sys.argv[0]), shutil.which(PROGRAM)
    if called.name != PROGRAM or (found is not None and called.exists() and called.samefile(found)):
        return PROGRAM
    return shlex.quote(sys.argv[0])


def _commands(ids: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    delivered = next(row["id"] for row in reversed(rows) if row["state"] == "delivered")
    return [
        ("list", "all messages"),
        (f"show {ids['failed']}", "one message's life"),
        (f"explain {ids['rejected-oversize']}", "why it is where it is"),
        (f"raw {delivered}", "its octets, as they arrived"),
        ("events", "the whole log"),
        ("queue", "what is open"),
    ]
