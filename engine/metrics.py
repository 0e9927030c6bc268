"""What monitoring asks: counters and gauges of one gateway, for Prometheus, and whether it is alive and ready.

What happens here is counted as it is committed; what waits is asked of the store when somebody looks, and remembered for a
moment, so that no number of lookers costs more than one.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from engine.budget import OctetBudget
from engine.question import Question
from engine.watched import Configured, Outlook
from store import followers, mailbox_queries, queries
from store.log import Unit
from store.message import DOMAIN_HOP
from store.rows import DIRECTLY

REMEMBERED_SECONDS: Final = 5.0
ALIVE_SECONDS: Final = 30.0  # since the event loop last moved
COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

NOTHING: Final = Configured()

Read = Callable[[Callable[[Connection], Any]], Any]


class Metrics:
    """The figures of one gateway. `watch` and `beat` are told what happens; everything else is asked."""

    def __init__(
        self,
        *,
        read: Read,
        budget: OctetBudget,
        now: Callable[[], datetime],
        configured: Configured = NOTHING,
        outlook: Outlook | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._read = read
        self._events = Counter(
            "mailgate_events", "Events on record since the start.", ("event",), registry=self.registry
        )
        self._commits = Histogram(
            "mailgate_commit_seconds",
            "How long a commit took.",
            buckets=COMMIT_SECONDS,
            registry=self.registry,
        )
        in_flight = Gauge("mailgate_in_flight_octets", "Octets of mail in memory.", registry=self.registry)
        in_flight.set_function(lambda: budget.used_octets)
        limit = Gauge("mailgate_in_flight_limit_octets", "The memory budget.", registry=self.registry)
        limit.set(budget.total_octets)
        self._outlook = outlook or Outlook()
        _well(
            self.registry,
            "mailgate_store_writable",
            "1 where the last commit did not fail.",
            self._outlook.commits,
        )
        _well(
            self.registry,
            "mailgate_disk_room",
            "1 where the store's disk has room to spare.",
            self._outlook.shortage,
        )
        self.registry.register(_Standing(read, now, configured))
        self._asked = Question(lambda: self._read(queries.open_count))
        self._beat_at = time.monotonic()

    def watch(self, units: Sequence[Unit], seconds: float) -> None:
        """Take note of a commit."""
        self._commits.observe(seconds)
        for unit in units:
            for append in unit.appends:
                for event in append.events:
                    self._events.labels(event.NAME).inc()

    def beat(self) -> None:
        """Take note that the event loop moves."""
        self._beat_at = time.monotonic()

    def alive(self) -> bool:
        """Whether the gateway does anything at all."""
        return time.monotonic() - self._beat_at < ALIVE_SECONDS

    def ready(self) -> str | None:
        """Return why the gateway can't do its work now, None where it can."""
        if not self.alive():
            return "the event loop stands still"
        try:
            self._asked.answer()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return f"the store can't be asked: {' '.join(str(error).split())}"
        if trouble := self._outlook.commits():
            return f"nothing can be kept: {trouble}"
        shortage = self._outlook.shortage() if self._outlook.refuses else None
        return shortage and f"new mail is refused: {shortage}"


def _well(registry: CollectorRegistry, name: str, meaning: str, trouble: Callable[[], str | None]) -> None:
    """Tell whether there is no trouble, asked anew each time."""
    Gauge(name, meaning, registry=registry).set_function(lambda: trouble() is None)


def _place(next_hop: str | None) -> str:
    """The domains of direct delivery count as one: there may be any number of them."""
    return DIRECTLY if next_hop is not None and next_hop.startswith(DOMAIN_HOP) else next_hop or ""


class _Standing(Collector):
    """What waits, and how mailboxes and next hops stand, as the store has it."""

    def __init__(self, read: Read, now: Callable[[], datetime], configured: Configured) -> None:
        self._question = Question(lambda: list(read(self._families)))
        self._told = configured
        self._now = now
        self._asked_at = 0.0
        self._answer: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked before somebody looks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families, asked anew where the last answer is too old."""
        if not self._answer or time.monotonic() - self._asked_at >= REMEMBERED_SECONDS:
            self._answer = self._question.answer()
            self._asked_at = time.monotonic()
        yield from self._answer

    def _families(self, connection: Connection) -> list[Metric]:
        families = (self._queue, self._hops, self._mailboxes, self._webhooks)
        return [metric for family in families for metric in family(connection)]

    def _queue(self, connection: Connection) -> Iterator[Metric]:
        count = GaugeMetricFamily(
            "mailgate_open_messages", "Messages without a fate.", labels=("next_hop", "state")
        )
        oldest = GaugeMetricFamily(
            "mailgate_oldest_open_seconds", "Age of the oldest of them.", labels=("next_hop", "state")
        )
        numbers: Counts[tuple[str, str]] = Counts()
        since: dict[tuple[str, str], datetime] = {}
        for row in queries.open_by_hop(connection):
            labels = (_place(row["next_hop"]), row["state"])
            numbers[labels] += row["messages"]
            since[labels] = min(since.get(labels, row["oldest"]), row["oldest"])
        for labels, number in numbers.items():
            count.add_metric(labels, number)
            oldest.add_metric(labels, max(0.0, (self._now() - since[labels]).total_seconds()))
        yield from (count, oldest)

    def _hops(self, connection: Connection) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "mailgate_next_hop_up", "1 where the last attempt found it up.", labels=("next_hop",)
        )
        for row in queries.hops(connection):
            if row["next_hop"] in self._told.hops:
                up.add_metric((row["next_hop"],), row["failures"] == 0)
        yield up

    def _mailboxes(self, connection: Connection) -> Iterator[Metric]:
        well = GaugeMetricFamily(
            "mailgate_mailbox_well", "1 where it is polled and the last poll went well.", labels=("mailbox",)
        )
        taken = GaugeMetricFamily(
            "mailgate_mailbox_downloaded", "Messages fetched from it.", labels=("mailbox",)
        )
        for row in mailbox_queries.mailbox_health(connection):
            if row["name"] in self._told.mailboxes:
                well.add_metric((row["name"],), row["health"] == "ok")
                taken.add_metric((row["name"],), row["downloaded"])
        yield from (well, taken)

    def _webhooks(self, connection: Connection) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "mailgate_webhook_lag_events", "Events behind the last that it took.", labels=("webhook",)
        )
        up = GaugeMetricFamily(
            "mailgate_webhook_up", "1 where it took the last that it was sent.", labels=("webhook",)
        )
        for one in followers.every(connection) if self._told.webhooks else ():
            if one.name in self._told.webhooks:
                lag.add_metric((one.name,), one.lag)
                up.add_metric((one.name,), one.failures == 0)
        yield from (lag, up)
