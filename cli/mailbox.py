"""`mailgate mailbox`: how each mailbox does, a poll at once, and taking what is there as seen.

Beside a running gateway a poll is asked for; without one it happens here (`poll`). Adopting looks at the listing under the
mailbox's lease, so that nobody fetches meanwhile, and takes as seen exactly what was shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import context, render, stale, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Misuse, nearest
from cli.person import check_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Engine

    from engine.settings import Mailbox, Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Health of each mailbox; poll now; adopt what is there.",
)

HEALTH_STYLES = {"ok": "green", "failing": "bold red", "suspended": "bold magenta", "new": "cyan"}
FACTS = (
    *("name", "configured", "host", "username", "health", "since", "kind", "permanent", "text", "present"),
    *("downloaded", "last_new_at", "next_poll_at", "polling"),
    *("withheld", "more_withheld", "undeleted", "more_undeleted"),
)
COLUMNS = (
    render.Column(title="MAILBOX", least=12),
    render.Column(title="HEALTH", styles=HEALTH_STYLES),
    render.Column(title="SINCE", from_width=70),
    render.Column(title="PRESENT", right=True),
    render.Column(title="DOWNLOADED", right=True),
    render.Column(title="LAST NEW"),
    render.Column(title="NEXT POLL"),
)


@app.command("list")
def list_mailboxes(
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one mailbox a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> int:
    """Show how each mailbox does.

    Also which messages it lists and does not give, and which it refuses to delete. Exit code 1 if one needs attention.
    """
    if json and csv:
        raise Misuse("--json and --csv don't go together")
    settings = context.settings()
    with context.opened(settings) as engine:
        rows = rows_of(settings, engine)
        stale.warn(settings, engine)
    if csv:
        flat = (row | {"withheld": len(row["withheld"]), "undeleted": len(row["undeleted"])} for row in rows)
        render.comma_separated(FACTS, ([row[name] for name in FACTS] for row in flat))
    elif json:
        for row in rows:
            render.json_line(row)
    else:
        _print_rows(rows)
    return EXIT_DONE if all(well(row) for row in rows) else EXIT_BAD_NEWS


@app.command()
def poll(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every mailbox.")] = False,
) -> int:
    """Poll mailboxes now.

    By the gateway where one runs, else here, with the work that follows. Exit code 1 if a poll failed, or a message is listed
    and not to be had, or the server refuses to delete one. The gateway is waited for, 15 seconds at most: of a poll that
    takes longer, only that is said.
    """
    from cli import poll as polling

    settings = context.settings()
    if everything == bool(names):
        raise Misuse("name the mailboxes to poll, or give --all")
    chosen = [mailbox(settings, name).name for name in names or [m.name for m in settings.mailboxes]]
    from engine.log_lines import log_to_stderr
    from engine.presence import gateway_runs

    context.ensure_store(settings)
    with context.opened(settings, checkpoints=True) as engine:
        if gateway_runs(engine):
            stale.warn(settings, engine)
            return polling.ask_gateway(settings, engine, chosen)
        log_to_stderr()
        return polling.poll_here(settings, engine, chosen)


@app.command()
def adopt(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; goes on record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> int:
    """Take everything in a mailbox as seen.

    It is neither fetched nor deleted, ever. Also the way on after "uidl-reset-suspected".
    """
    from cli import adopt as adoption

    settings = context.settings()
    chosen = mailbox(settings, name)
    check_reason(settings, reason)
    context.ensure_store(settings)
    with context.opened(settings) as engine:
        return adoption.adopt(engine, chosen, reason, yes=yes)


def mailbox(settings: Settings, name: str) -> Mailbox:
    """Return a configured mailbox. Raises Misuse with the name that is nearest."""
    known = {one.name: one for one in settings.mailboxes}
    if name not in known:
        raise Misuse(f"there is no mailbox {name!r}{nearest(name, known)}")
    return known[name]


# -- list


def rows_of(settings: Settings, engine: Engine) -> list[dict[str, Any]]:
    """Return what `--json` prints: the configured mailboxes in the file's order, then those on record only."""
    from store import mailbox_queries, queries
    from store.database import reading
    from store.mailbox_events import mailbox_stream

    with reading(engine) as connection:
        known = mailbox_queries.mailbox_rows(connection)
        names = {one.name for one in settings.mailboxes} | {row["name"] for row in known}
        planned = {name: queries.lease(connection, mailbox_stream(name)) for name in names}
    return standings(settings, known, planned, times.now())


def standings(
    settings: Settings,
    rows: Sequence[dict[str, Any]],
    planned: Mapping[str, dict[str, Any] | None],
    current: datetime,
) -> list[dict[str, Any]]:
    """Return how mailboxes do: of what the store has of them (`mailbox_queries`), and of their places in the agenda."""
    configured = {one.name: one for one in settings.mailboxes}
    known = {row["name"]: row for row in rows}
    names = [*configured, *(name for name in known if name not in configured)]
    return [_row(name, configured.get(name), known.get(name), planned.get(name), current) for name in names]


def _row(
    name: str,
    configured: Mailbox | None,
    known: dict[str, Any] | None,
    planned: dict[str, Any] | None,
    current: datetime,
) -> dict[str, Any]:
    held = planned is not None and planned["lease_until"] is not None and planned["lease_until"] > current
    seen = known or {}
    return {
        "name": name,
        "configured": configured is not None,
        "host": configured.host if configured else None,
        "username": configured.username if configured else None,
        "health": seen.get("health", "ok" if planned else "new"),
        "since": seen.get("since"),
        "kind": seen.get("kind"),
        "permanent": seen.get("permanent", False),
        "text": seen.get("text"),
        "present": seen.get("present", 0),
        "downloaded": seen.get("downloaded", 0),
        "last_new_at": seen.get("last_new_at"),
        "withheld": seen.get("withheld", []),
        "more_withheld": seen.get("more_withheld", 0),
        "undeleted": seen.get("undeleted", []),
        "more_undeleted": seen.get("more_undeleted", 0),
        "next_poll_at": planned["wake_at"] if planned and configured else None,
        "polling": held,
    }


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        render.line("no mailbox is configured: add a [[mailbox]]")
        return
    current = times.now()
    render.table(COLUMNS, (_cells(row, current) for row in rows))
    for row in rows:
        print_trouble(row)


def well(row: dict[str, Any]) -> bool:
    """Whether a mailbox needs no attention."""
    return row["health"] in ("ok", "new") and not row["withheld"] and not row["undeleted"]


def print_trouble(row: dict[str, Any]) -> None:
    """Say what a mailbox needs attention for."""
    if row["text"]:
        render.paragraph(*_trouble(row), indent=2)
    for one in _named(row):
        render.paragraph((f"{row['name']}:", HEALTH_STYLES["failing"]), f" {one}", indent=2)


def _cells(row: dict[str, Any], current: datetime) -> list[str]:
    return [
        row["name"],
        row["health"],
        times.brief(row["since"], current) if row["since"] else "-",
        f"{row['present']:,}",
        f"{row['downloaded']:,}",
        times.away(row["last_new_at"], current) if row["last_new_at"] else "-",
        next_poll(row, current),
    ]


def next_poll(row: dict[str, Any], current: datetime) -> str:
    """Return when a mailbox is polled next, in a word or two."""
    if row["polling"]:
        return "polling"
    if not row["configured"]:
        return "not configured"
    due = times.away(row["next_poll_at"], current) if row["next_poll_at"] else "-"
    return "due" if due == "now" or due.endswith("ago") else due


def _trouble(row: dict[str, Any]) -> list[render.Part]:
    """What is wrong, and what a person can do."""
    from cli.trial import EXPIRED, RENEW

    hint = ""
    if row["health"] == "suspended":
        hint = (
            f"; nothing is fetched until 'mailgate mailbox adopt {row['name']}' takes what is there as seen"
        )
    elif EXPIRED in row["text"]:
        hint = f"; {RENEW}: 'mailgate check --connect' says how to go on until then"
    elif row["permanent"]:
        hint = "; waiting won't help: 'mailgate check --connect' says what might"
    kind = f"{row['kind']}: " if row["kind"] else ""
    return [(f"{row['name']}:", HEALTH_STYLES[row["health"]]), f" {kind}{row['text']}{hint}"]


def _named(row: dict[str, Any]) -> Iterator[str]:
    """Which messages are not to be had, and which are not deleted, how, and since when."""
    from engine.core.withheld import in_words, others
    from store.mailbox_events import Undeleted, Withheld

    for name, kind in (("withheld", Withheld), ("undeleted", Undeleted)):
        for one in row[name]:
            yield f"since {times.brief(one['since'], times.now())}: {in_words(kind(**one))}"
        if more := row[f"more_{name}"]:
            yield others(more)
