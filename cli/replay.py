"""`mailgate replay`: deliver messages again, by id or by the filters of `list`.

What it comes to is shown first: how many by next hop, who is left out and why. Each replay has an id, which is on record
with every message it concerned: given again, it goes on where it was interrupted, and does nothing twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, filters, render, stale, times, words
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, EXIT_INTERRUPTED, Failure, Misuse
from cli.message import AsJson
from cli.operator import Ids, Reason, Yes
from cli.person import can_be_asked, check_reason, is_terminal, operator
from cli.replayed import Summary, print_object
from engine.core.replaying import Again, Nothing, Request
from store import queries
from store.database import reading
from store.queries import Filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from engine.core.policy import Policy
    from engine.replay import Replay
    from engine.settings import Settings

_RATE = re.compile(r"([0-9]{1,6})/([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

To = Annotated[
    str | None,
    typer.Option("--to", metavar="NEXT_HOP", help="Through this next hop, whatever the routes say."),
]
Instead = Annotated[
    list[str] | None,
    typer.Option(
        "--recipients",
        metavar="ADDRESS",
        show_default=False,
        help="To this address instead of its own recipients. May be given again.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Also to recipients that have it already.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it comes to, and stop.")]
Rate = Annotated[
    str | None,
    typer.Option("--rate", metavar="N/UNIT", help="No faster than so many messages: 10/s, 10/m, 10/h."),
]
Name = Annotated[
    str | None,
    typer.Option("--id", metavar="NAME", help="Of this replay: given again, it does nothing twice."),
]


@filters.taken
def replay(
    ids: Ids = None,
    *,
    to: To = None,
    recipients: Instead = None,
    force: Force = False,
    rate: Rate = None,
    name: Name = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Deliver messages again, whatever became of them: failed, delivered, quarantined, discarded.

    Recipients with a positive answer on record are left out unless --force. What was too large is fetched again, as long as
    its mailbox has it. The plan is shown first. Exit code 1 where nothing is to be done, and nothing was under the same --id.
    """
    by_ids, by_filter = bool(ids), wanted != Filter()
    if by_ids == by_filter:
        raise Misuse("name the messages to replay, or give filters" + (", not both" if by_ids else ""))
    if not yes and not dry_run and by_filter and (as_json or not can_be_asked()):
        raise Misuse("there is nobody to ask: add --yes, or --dry-run to see what it comes to")
    settings = context.settings()
    if not dry_run:
        check_reason(settings, reason)
    request = _request(name, to, recipients or (), reason, force=force)
    with context.opened(settings) as engine:
        stale.warn(settings, engine)
        work = _replay(settings, engine, request, _per_second(rate))
        streams = _named(engine, ids or ()) if by_ids else _fitting(engine, wanted)
        if not streams:
            return _none_fits(engine, name, as_json=as_json)
        if not as_json or dry_run:
            going, repeated = _plan(engine, work, request, streams, as_json=as_json)
            if dry_run or not going:
                return EXIT_DONE if going or repeated else EXIT_BAD_NEWS
        if by_filter and not yes and not typer.confirm("Go on?"):
            render.line("nothing was changed")
            return EXIT_BAD_NEWS
        if name is None and len(streams) > 1 and not as_json:
            render.line(f"its id is {request.replay}: --id {request.replay} goes on where it was interrupted")
        return _carry_out(work, request, streams, as_json=as_json)


def _request(
    name: str | None, to: str | None, recipients: Iterable[str], reason: str, *, force: bool
) -> Request:
    if name is not None and not _NAME.fullmatch(name):
        raise Misuse("--id: expected letters, digits, dots, underscores and hyphens, at most 63")
    return Request(
        replay=name or _new_name(),
        operator=operator(),
        reason=reason,
        next_hop=to,
        recipients=tuple(_address(one) for one in recipients),
        force=force,
    )


def _new_name() -> str:
    import secrets

    return f"{times.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _address(written: str) -> str:
    from engine.core import envelope

    address = written.strip().strip("<>")
    if not envelope.valid(address):
        raise Misuse(f"--recipients: {written!r} is no address")
    return address


def _per_second(rate: str | None) -> float | None:
    if rate is None:
        return None
    found = _RATE.fullmatch(rate.strip())
    if found is None or int(found[1]) == 0:
        raise Misuse(f"--rate: expected a number a second, minute or hour, such as 10/m, found {rate!r}")
    return int(found[1]) / _SECONDS[found[2]]


def _replay(settings: Settings, engine: Engine, request: Request, per_second: float | None) -> Replay:
    from engine.replay import Replay
    from engine.wiring import policy_of

    policy = policy_of(settings)
    _check_hop(request, policy)
    return Replay(
        engine,
        request,
        policy=policy,
        gateway_runs=lambda: context.gateway_runs(engine) is not False,
        now=times.now,
        per_second=per_second,
    )


def _check_hop(request: Request, policy: Policy) -> None:
    if request.next_hop is not None and policy.hop(request.next_hop) is None:
        there = ", ".join(sorted(policy.hops)) or "none"
        raise Misuse(f"--to: there is no next hop {request.next_hop!r}; there are {there}")


# -- which


def _named(engine: Engine, beginnings: Iterable[str]) -> list[str]:
    with reading(engine) as connection:
        return list(dict.fromkeys(words.message_id(connection, beginning) for beginning in beginnings))


def _fitting(engine: Engine, wanted: Filter) -> list[str]:
    """Return the ids of those that fit, oldest first: they arrive in the order in which they once did."""
    with reading(engine) as connection:
        found = [row["id"] for row in queries.every(connection, wanted)]
    return found[::-1]


def _none_fits(engine: Engine, name: str | None, *, as_json: bool) -> int:
    """What fitted does no longer once it was replayed: the same command again is no bad news then. Raises Failure."""
    count = 0
    if name is not None:
        with reading(engine) as connection:
            count = sum(1 for _ in queries.every(connection, Filter(replay=name)))
    if not count:
        raise Failure("no message fits")
    if not as_json:
        render.line(f"replay {name}: no message fits any more; {_before(count)}")
    return EXIT_DONE


def _before(count: int) -> str:
    return f"{count:,} {'was' if count == 1 else 'were'} part of it before"


# -- what would come of it


def _plan(
    engine: Engine, work: Replay, request: Request, streams: Sequence[str], *, as_json: bool
) -> tuple[int, int]:
    """Show what a replay comes to; returns how many messages go, and how many were part of it before."""
    summary = Summary(request)
    with reading(engine) as connection:
        for one in work.foreseen(connection, streams):
            summary.add(one)
            if as_json:
                print_object(one, None)
    if not as_json:
        summary.show(len(streams))
    return summary.going, summary.repeated


# -- what came of it


def _carry_out(work: Replay, request: Request, streams: Sequence[str], *, as_json: bool) -> int:
    done = repeated = 0
    with _stoppable(request.replay), _progress(len(streams), quiet=as_json) as advance:
        for one in work.carry_out(streams):
            done += isinstance(one.answer, Again)
            repeated += isinstance(one.answer, Nothing) and one.answer.repeated
            if as_json:
                print_object(one, request.replay)
            advance()
    if not as_json:
        before = f"; {_before(repeated)}" if repeated else ""
        left = len(streams) - done - repeated
        nothing = f"; nothing to do for {left:,}" if left else ""
        render.line(f"replay {request.replay}: {done:,} to be delivered again{before}{nothing}")
    return EXIT_DONE if done or repeated else EXIT_BAD_NEWS


@contextmanager
def _stoppable(replay: str) -> Iterator[None]:
    """Say how to go on where a person stops it: the id may be one that was made up."""
    try:
        yield
    except KeyboardInterrupt:
        text = f"replay {replay} was stopped: the same command with --id {replay} goes on with the rest"
        raise Failure(text, EXIT_INTERRUPTED) from None


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, where there is one."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda: bar.advance(task)
