"""`mailgate audit erase` and `mailgate audit scrub`: take what is personal of messages off the record, lawfully.

What would go is shown first. It can't be undone, so a reason is asked for, and a yes. What was deleted still stands in the
database's files until they are written anew, which is done at once where no gateway runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure, Misuse
from cli.erasure_plan import Plan, that_stay
from cli.person import can_be_asked
from cli.render import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from engine.erasure import Erasing, Erasure, Found, Target
    from engine.settings import Settings

SCRUBBED = "the store's files were written anew: what was deleted is in none of them"
STILL = "what was deleted is still in the store's files, out of sight"
LATER = f"{STILL}: 'mailgate audit scrub' writes them anew while no gateway runs"
READ = "somebody still reads what was there before: run 'mailgate audit scrub' again when they are done"

Addresses = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        show_default=False,
        help="Every message whose facts name this person. May be given again.",
    ),
]
EvenOpen = Annotated[bool, typer.Option("--even-open", help="Discard what is still open, and erase it too.")]
EvenKept = Annotated[
    bool, typer.Option("--even-kept", help="Erase also what is to be kept ('audit retention --keep').")
]
Scrub = Annotated[
    bool, typer.Option("--scrub/--no-scrub", help="Write the store's files anew, if no gateway runs.")
]


def erase(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", show_default=False, help="Messages, by id or any unique beginning."),
    ] = None,
    addresses: Addresses = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; stays on record with your name.")
    ] = "",
    even_open: EvenOpen = False,
    even_kept: EvenKept = False,
    scrub: Scrub = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object a line; the last one sums up.")
    ] = False,
) -> int:
    """Erase what is personal of messages.

    That is addresses, subjects, replies, octets. What happened, and when, stays.

    Of a message that names a person all personal facts go, also those of its other recipients. Exit code 1 if something
    could not be done.
    """
    if bool(ids) == bool(addresses):
        raise Misuse("name the messages to erase, or a person by --address" + (", not both" if ids else ""))
    those = tuple(_bare(address) for address in addresses or ())
    if not dry_run:
        _check_reason(reason, those)
        if not yes and (as_json or not can_be_asked()):
            raise Misuse("there is nobody to ask: add --yes, or --dry-run to see what would go")
    settings = context.settings()
    with context.opened(settings) as engine:
        work = _erasure(settings, engine, reason, even_open=even_open, even_kept=even_kept)
        found, every = _meant(engine, ids or (), those)
        plan = _plan(engine, work, found, every, as_json=as_json and dry_run, quiet=as_json and not dry_run)
        if dry_run or not plan.going:
            return _without_doing(plan, as_json=as_json, dry_run=dry_run)
        if not yes and not typer.confirm("This can't be undone. Go on?"):
            render.line("nothing was changed")
            return EXIT_BAD_NEWS
        done = _carry_out(work, every, found, as_json=as_json)
    return _finished(settings, done, scrub=scrub, as_json=as_json)


def scrub(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False) -> int:
    """Write the store's files anew, without what was deleted. Not while a gateway runs; it takes as long as a copy."""
    done = _scrubbed(context.settings())
    if as_json:
        render.json_line({"scrubbed": done})
    else:
        render.line(SCRUBBED if done else READ)
    return EXIT_DONE if done else EXIT_BAD_NEWS


def _bare(written: str) -> str:
    from engine.core import envelope

    address = written.strip().strip("<>")
    if "*" in address:
        raise Misuse(
            f"--address: {written!r} is a pattern, and one person is meant: 'mailgate list --from' and '--to' take"
            " patterns; give the ids that they print"
        )
    if not envelope.valid(address):
        raise Misuse(f"--address: {written!r} is no address")
    return address


def _check_reason(reason: str, addresses: Sequence[str]) -> None:
    if not reason.strip():
        raise Misuse("--reason is missing: it stays on record, with your name")
    if any(address.lower() in reason.lower() for address in addresses):
        raise Misuse("--reason: it stays on record, so it must not name the person who is erased")


def _erasure(settings: Settings, engine: Engine, reason: str, *, even_open: bool, even_kept: bool) -> Erasure:
    from cli.person import operator
    from engine.core.erasing import Request
    from engine.erasure import Erasure
    from engine.wiring import policy_of

    return Erasure(
        engine,
        Request(operator=operator(), reason=reason, even_open=even_open, even_kept=even_kept),
        policy=policy_of(settings),
        gateway_runs=lambda: context.gateway_runs(engine) is not False,
        now=times.now,
    )


def _meant(engine: Engine, ids: Sequence[str], addresses: Sequence[str]) -> tuple[Found, list[Target]]:
    from cli import words
    from engine import erasure
    from store.database import reading

    with reading(engine) as connection:
        if addresses:
            found = erasure.find(connection, addresses)
        else:
            found = erasure.Found({words.message_id(connection, one): () for one in ids})
        every = list(erasure.targets(connection, found.facts))
    if not every:
        kept = f"; {that_stay(found)}" if found.kept else ""
        raise Failure(f"no message names {' or '.join(addresses)}{kept}")
    return found, every


# -- what would go


def _plan(
    engine: Engine, work: Erasure, found: Found, every: Sequence[Target], *, as_json: bool, quiet: bool
) -> Plan:
    from store.database import reading

    plan = Plan(found)
    with reading(engine) as connection:
        for one in work.foreseen(connection, every):
            plan.add(one)
            if as_json:
                _object(one, done=False)
    if not as_json and not quiet:
        plan.show()
    return plan


def _without_doing(plan: Plan, *, as_json: bool, dry_run: bool) -> int:
    if as_json:
        _sum(plan, done=False, scrubbed=False)
    return EXIT_DONE if plan.going or (plan.repeated and not plan.staying and not dry_run) else EXIT_BAD_NEWS


# -- what came of it


def _carry_out(work: Erasure, every: Sequence[Target], found: Found, *, as_json: bool) -> Plan:
    from cli.progress import progress

    done = Plan(found)
    with progress() as advance:
        for number, one in enumerate(work.carry_out(every), start=1):
            done.add(one)
            if as_json:
                _object(one, done=True)
            advance("erase", number, len(every))
    return done


def _finished(settings: Settings, done: Plan, *, scrub: bool, as_json: bool) -> int:
    scrubbed, text = False, LATER
    if scrub and done.going:
        try:
            scrubbed = _scrubbed(settings)
            text = SCRUBBED if scrubbed else READ
        except Failure as failure:
            text = f"{STILL}: {failure}; then 'mailgate audit scrub' writes them anew"
    if as_json:
        _sum(done, done=True, scrubbed=scrubbed)
    else:
        render.line(f"{counted(done.going, 'message')} erased; {text}")
        for left in done.left:
            render.line(f"left as it is: {left}")
    return EXIT_DONE if done.going and not done.staying and (scrubbed or not scrub) else EXIT_BAD_NEWS


def _scrubbed(settings: Settings) -> bool:
    from cli.db import alone
    from store.scrubbing import scrub

    busy = "it works on the files that are to be written anew"
    with context.opened(settings, checkpoints=True) as engine, alone(engine, busy):
        return scrub(engine)


def _object(one: Erasing, *, done: bool) -> None:
    """Print one; where nothing is done, what would go."""
    from engine.core.erasing import Going

    going = one.answer if isinstance(one.answer, Going) else None
    render.json_line(
        {
            "id": one.target.stream,
            "named_in": list(one.target.facts),
            "about": one.target.about[0] if one.target.about else None,
            "erased": done and going is not None,
            "events": going.facts if going else 0,
            "octets": going.octets if going else False,
            "discarded": one.discarded,
            "recipients": len(one.message.recipients) if one.message else 0,
            "error": None if isinstance(one.answer, Going) else one.answer.text,
        }
    )


def _sum(plan: Plan, *, done: bool, scrubbed: bool) -> None:
    render.json_line(
        {
            "messages": plan.going,
            "events": plan.facts,
            "left": plan.staying,
            "erased_before": plan.repeated,
            "events_that_stay": plan.found.kept,
            "done": done,
            "scrubbed": scrubbed,
        }
    )
