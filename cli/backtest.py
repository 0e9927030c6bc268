"""`mailgate audit backtest`: what another configuration would have made of the mail that was.

Verdicts, answers and what people decided are taken as they are on record. Counts come first, then each difference, with the
newest message first; what is printed waits in a file meanwhile, so that memory does not grow with the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Any

import orjson
import typer

from cli import context, filters, render, times, words
from cli.context import EXIT_BAD_NEWS, EXIT_CONFIGURATION, EXIT_DONE, Failure
from cli.message import AsJson, Json
from store.database import reading
from store.queries import Filter

if TYPE_CHECKING:
    from engine.backtest import Tested
    from engine.core.backtest import Difference
    from engine.settings import Settings

DEFAULT_LIMIT = 50
SPOOLED_OCTETS = 1 << 20  # in memory; what is more goes into a file
NAMED_RECIPIENTS = 2

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="NEW.toml",
        help="The configuration to try; else the one in force, on its own history.",
    ),
]


@filters.taken
def backtest(
    config: Config = None,
    *,
    limit: Annotated[
        int, typer.Option(metavar="N", help="How many differences to print; 0 for all.")
    ] = DEFAULT_LIMIT,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Compare what was decided with another configuration.

    Says which messages would have fared otherwise under it, and why. Nothing is changed or sent.

    Limits, recipients, routes, thresholds, retries and what follows from verdicts are compared, each decision of each message
    with what is on record. Exit code 1 if anything would differ, or nothing fits.
    """
    from engine.backtest import tested
    from engine.wiring import candidate_of

    limit = words.limit(limit)
    live = context.settings()
    tried = live if config is None else _settings(config)
    candidate = candidate_of(tried)
    with (
        context.opened(live) as engine,
        reading(engine) as connection,
        SpooledTemporaryFile(SPOOLED_OCTETS) as spool,
    ):
        count = _Count(in_force=live.policy_version, tried=tried.policy_version)
        for one in tested(connection, wanted, candidate):
            count.add(one)
            for difference in one.differences:
                if not limit or count.kept < limit:
                    count.kept += 1
                    spool.write(
                        orjson.dumps(_object(one.stream, difference), option=orjson.OPT_UTC_Z) + b"\n"
                    )
        if not count.messages:
            raise Failure("no message fits" if wanted != Filter() else "there are no messages yet")
        spool.seek(0)
        if as_json:
            render.json_line(count.summed())
            for line in _lines(spool):
                render.json_line(line)
        else:
            _print(count, spool, another=config is not None)
    return EXIT_BAD_NEWS if count.differing else EXIT_DONE


def _settings(file: Path) -> Settings:
    from engine.settings import SettingsError, load

    if not file.exists():
        raise Failure(f"{file}: no such file", EXIT_CONFIGURATION)
    try:
        return load(file)
    except SettingsError as error:
        raise Failure(str(error), EXIT_CONFIGURATION) from None


@dataclass(slots=True)
class _Count:
    """What a test adds up to. `in_force` and `tried` are the versions of the two configurations."""

    in_force: str
    tried: str
    messages: int = 0
    differing: int = 0
    differences: int = 0
    kept: int = 0
    untold: int = 0
    by_others: int = 0  # differences from what neither of the two decided, but one that was in force before
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, one: Tested) -> None:
        """Take note of a message."""
        self.messages += 1
        self.untold += one.untold is not None
        self.differing += bool(one.differences)
        for difference in one.differences:
            self.differences += 1
            self.by_others += difference.policy not in ("", self.in_force)
            self.by_kind[_kind(difference.was), _kind(difference.would)] += 1

    def summed(self) -> Json:
        """Return it as JSON has it."""
        return {
            "messages": self.messages,
            "differing": self.differing,
            "differences": self.differences,
            "untold": self.untold,
            "decided_by_former_configurations": self.by_others,
            "configuration": self.tried,
            "in_force": self.in_force,
            "kinds": [
                {"was": was, "would": would, "count": number}
                for (was, would), number in self.by_kind.most_common()
            ],
        }


def _kind(text: str) -> str:
    """Of direct delivery the domains are too many to be counted apart."""
    start, mark, rest = text.partition(" mx:")
    return text if not mark else f"{start} mx{' tagged otherwise' * rest.endswith(' tagged otherwise')}"


def _object(stream: str, difference: Difference) -> Json:
    return {
        "id": stream,
        "revision": difference.revision,
        "at": difference.at,
        "recipients": list(difference.recipients),
        "was": difference.was,
        "would": difference.would,
        "why": difference.why,
        "policy": difference.policy,
    }


def _lines(spool: IO[bytes]) -> Iterator[Json]:
    for line in spool:
        found: dict[str, Any] = orjson.loads(line)
        yield found


def _print(count: _Count, spool: IO[bytes], *, another: bool) -> None:
    would = "nothing would differ" if not count.differing else f"{count.differing:,} would fare otherwise"
    render.line((f"{count.messages:,} {'message' if count.messages == 1 else 'messages'}: {would}", "bold"))
    for (was, would_be), number in count.by_kind.most_common():
        render.line(f"  {number:,}  {was}  ->  {would_be}")
    if count.untold:
        render.line(f"  {count.untold:,} can't be told: erased, or not to be read")
    if count.by_others:
        former = (
            f"{count.by_others:,} of these decisions were made by configurations that are no longer in force"
        )
        if another:
            render.line(f"  {former}: the one in force may differ from them, too")
            render.line("  ('mailgate audit backtest' without --config says where it does)")
        else:
            render.line(f"  {former}: policy in --json is the version that decided")
    for line in _lines(spool):
        at = times.stamp(datetime.fromisoformat(line["at"]))
        whom = f" for {_whom(line['recipients'])}" if line["recipients"] else ""
        render.line(f"{line['id']}  {at}{whom}: {line['would']}, not: {line['was']} ({line['why']})")
    if count.kept < count.differences:
        render.line((f"There are {count.differences - count.kept:,} more; --limit 0 shows all.", "dim"))


def _whom(addresses: list[str]) -> str:
    more = len(addresses) - NAMED_RECIPIENTS
    return ", ".join(addresses[:NAMED_RECIPIENTS]) + (f" and {more} more" if more > 0 else "")
