"""What monitoring is told: figures as Prometheus reads them, whether the gateway lives, whether it can work."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine import metrics as watched
from engine import question
from engine.adapters import metrics_server
from engine.adapters.metrics_server import MetricsServer, MetricsTrouble
from engine.budget import OctetBudget
from engine.metrics import Metrics
from engine.watched import Configured, Outlook
from store import followers
from store.agenda import Claim
from store.database import reading, writing
from store.followers import Failure
from store.log import Append, Unit
from store.mailbox_events import PollFailed
from tests.build import NOON, Builder, varied

PATIENCE_SECONDS = 20.0  # only ends a hung test


@pytest.fixture
def builder(database_url: str) -> Iterator[Builder]:
    built = Builder(database_url, NOON)
    yield built
    built.close()


@pytest.fixture
def metrics(builder: Builder) -> Metrics:
    def read(function: Any) -> Any:
        with reading(builder.engine) as connection:
            return function(connection)

    configured = Configured(mailboxes=("info",), hops=("home",))
    return Metrics(read=read, budget=OctetBudget(1 << 20), now=lambda: builder.at, configured=configured)


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    made = MetricsServer("127.0.0.1", 0, metrics)
    yield made
    made.close()


def ask(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def figures(server: MetricsServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, text = ask(server, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_waits_is_counted_by_next_hop_and_state_with_its_age(
    server: MetricsServer, builder: Builder
) -> None:
    varied(builder)
    found = figures(server)
    deferred = (("next_hop", "home"), ("state", "deferred"))
    assert found["mailgate_open_messages", deferred] == 2
    assert found["mailgate_oldest_open_seconds", deferred] > 3600
    assert found["mailgate_open_messages", (("next_hop", ""), ("state", "held"))] == 1
    assert found["mailgate_next_hop_up", (("next_hop", "home"),)] == 0
    assert found["mailgate_mailbox_well", (("mailbox", "info"),)] == 0
    assert found["mailgate_in_flight_limit_octets", ()] == 1 << 20


def test_what_was_configured_once_is_not_told_of_and_the_domains_of_direct_delivery_are_one(
    server: MetricsServer, builder: Builder
) -> None:
    for name in ("info", "gone"):
        builder.mailbox_event(name, PollFailed(mailbox=name, kind="auth", permanent=True, text="-ERR no"))
    for hop in ("home", "gone", "mx:one.example", "mx:two.example"):
        stream = builder.downloaded()
        builder.later(seconds=60)
        builder.attempted(stream, hop=hop)
        builder.deferred(stream, builder.at, hop=hop, scope="next-hop")
    found = figures(server)

    def told(name: str) -> set[str]:
        return {value for (told, labels), _ in found.items() for _, value in labels[:1] if told == name}

    assert told("mailgate_mailbox_well") == told("mailgate_mailbox_downloaded") == {"info"}
    assert told("mailgate_next_hop_up") == {"home"}
    assert told("mailgate_open_messages") == {"home", "gone", "mx"}  # that it waits there is so
    mx = (("next_hop", "mx"), ("state", "deferred"))
    assert (found["mailgate_open_messages", mx], found["mailgate_oldest_open_seconds", mx]) == (2, 120)


def test_no_number_of_lookers_asks_the_store_more_than_one(
    server: MetricsServer, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = figures(server)
    builder.downloaded()
    assert figures(server) == before
    monkeypatch.setattr(watched, "REMEMBERED_SECONDS", 0.0)
    received = (("next_hop", ""), ("state", "received"))
    assert figures(server)["mailgate_open_messages", received] == 1


def test_events_and_commits_are_counted_as_they_are_committed(
    server: MetricsServer, metrics: Metrics, builder: Builder
) -> None:
    event = PollFailed(mailbox="info", kind="auth", permanent=True, text="-ERR no")
    message = builder.message(builder.downloaded())
    append = Append.__new__(Append)
    append.events = (event, event)
    metrics.watch([Unit((append,))], 0.003)
    found = figures(server)
    assert message.open
    assert found["mailgate_events_total", (("event", "poll-failed"),)] == 2
    assert found["mailgate_commit_seconds_count", ()] == 1
    assert found["mailgate_commit_seconds_bucket", (("le", "0.005"),)] == 1
    assert found["mailgate_commit_seconds_bucket", (("le", "0.0025"),)] == 0


def test_alive_as_long_as_the_loop_moves_and_ready_as_long_as_the_store_answers(
    server: MetricsServer, metrics: Metrics, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(server, "/livez") == (200, "alive\n")
    assert ask(server, "/readyz") == (200, "ready\n")
    monkeypatch.setattr(metrics, "_read", _broken)
    assert ask(server, "/readyz") == (503, "the store can't be asked: gone away\n")
    assert ask(server, "/livez")[0] == 200
    monkeypatch.setattr(watched, "ALIVE_SECONDS", 0.0)
    assert ask(server, "/livez") == (503, "the event loop stands still\n")
    assert ask(server, "/readyz")[0] == 503


def test_not_ready_where_nothing_can_be_kept_and_where_new_mail_is_refused(metrics: Metrics) -> None:
    failed: list[str | None] = [None]
    short: list[str | None] = [None]

    def standing(*, refuses: bool) -> tuple[int, str, float, float]:
        outlook = Outlook(commits=lambda: failed[0], shortage=lambda: short[0], refuses=refuses)
        watched = Metrics(read=metrics._read, budget=OctetBudget(1 << 20), now=lambda: NOON, outlook=outlook)
        with closing(MetricsServer("127.0.0.1", 0, watched)) as server:
            found = figures(server)
            status, said = ask(server, "/readyz")
            return status, said, found["mailgate_store_writable", ()], found["mailgate_disk_room", ()]

    assert standing(refuses=True) == (200, "ready\n", 1, 1)
    short[0] = "2 MB are free"
    assert standing(refuses=True) == (503, "new mail is refused: 2 MB are free\n", 1, 0)
    assert standing(refuses=False) == (200, "ready\n", 1, 0)
    failed[0] = "disk is full"
    for refuses in (True, False):
        assert standing(refuses=refuses) == (503, "nothing can be kept: disk is full\n", 0, 0)


def _broken(_: Any) -> Any:
    raise OSError("gone\naway")


def test_nothing_else_is_there_and_nothing_is_taken(server: MetricsServer) -> None:
    assert ask(server, "/") == (404, "there are /metrics, /livez and /readyz\n")
    assert ask(server, "/metrics", "POST")[0] == 405


def test_figures_that_can_t_be_had_are_a_503_and_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    broken = Metrics(read=_broken, budget=OctetBudget(1 << 20), now=lambda: NOON)
    with closing(MetricsServer("127.0.0.1", 0, broken)) as server:
        assert ask(server, "/metrics") == (503, "the store can't be asked: gone away\n")
    assert capfd.readouterr().err == ""


def test_a_store_that_gives_no_answer_takes_nothing_from_who_asks_whether_the_gateway_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a table is locked, or the machine of the database stands still."""
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.3)
    over = threading.Event()
    hanging = Metrics(read=lambda _: over.wait(), budget=OctetBudget(1 << 20), now=lambda: NOON)
    threads = threading.active_count()
    with closing(MetricsServer("127.0.0.1", 0, hanging)) as server:
        for _ in range(metrics_server.CONNECTIONS + 1):
            for path in ("/readyz", "/metrics"):
                assert ask(server, path) == (503, "the store can't be asked: no answer within 0.3 s\n")
            assert ask(server, "/livez") == (200, "alive\n")
        assert threading.active_count() <= threads + 2 + metrics_server.CONNECTIONS
        over.set()
        monkeypatch.setattr(hanging, "_read", lambda _: 0)
        monkeypatch.setattr(question, "ANSWER_SECONDS", PATIENCE_SECONDS)
        assert ask(server, "/readyz") == (200, "ready\n")


BEGINNING = b"GET /livez HTTP/1.1\r\nX: "


def test_few_may_ask_at_a_time_and_others_are_sent_away(server: MetricsServer) -> None:
    threads = threading.active_count()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(metrics_server.CONNECTIONS)]
    for one in slow:
        one.sendall(BEGINNING)
    for _ in range(20):
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(server, "/livez")
    assert threading.active_count() <= threads + metrics_server.CONNECTIONS
    for one in slow:
        one.close()
    until = time.monotonic() + PATIENCE_SECONDS
    while not answers(server):
        assert time.monotonic() < until


def answers(server: MetricsServer) -> bool:
    try:
        return ask(server, "/livez") == (200, "alive\n")
    except (ConnectionError, http.client.RemoteDisconnected):
        return False


def test_who_asks_octet_by_octet_is_cut_off(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SECONDS", 0.5)
    until = time.monotonic() + PATIENCE_SECONDS
    with closing(socket.create_connection(("127.0.0.1", server.port))) as slow:
        slow.sendall(BEGINNING)
        slow.settimeout(0.1)
        while (heard := heard_by(slow)) is None:
            assert time.monotonic() < until
    assert heard == b""
    assert answers(server)


def heard_by(slow: socket.socket) -> bytes | None:
    """What comes back to one octet more; None for nothing yet, b"" for the end."""
    try:
        slow.send(b"x")
        return slow.recv(1000)
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


def test_a_port_that_is_taken_is_one_line(metrics: Metrics) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            MetricsTrouble, match=rf"^metrics.address: can't listen on 127.0.0.1:{port}: address"
        ):
            MetricsServer("127.0.0.1", port, metrics)


def test_how_far_the_configured_webhooks_are(
    builder: Builder, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Metrics(
        read=metrics._read,
        budget=OctetBudget(1 << 20),
        now=lambda: builder.at,
        configured=Configured(webhooks=("crm",)),
    )
    with writing(builder.engine) as connection:
        followers.begin(connection, ["crm", "gone"])
    builder.downloaded()
    server = MetricsServer("127.0.0.1", 0, told)
    try:
        found = figures(server)
        crm = (("webhook", "crm"),)
        assert (found["mailgate_webhook_lag_events", crm], found["mailgate_webhook_up", crm]) == (1, 1)
        assert ("mailgate_webhook_up", (("webhook", "gone"),)) not in found
        with writing(builder.engine) as connection:
            claim = Claim("me", builder.at + followers.LEASE_TERM)
            assert followers.claim(connection, "crm", claim, builder.at)
            why = Failure(said="answered 500", failures=1, since=builder.at, retry_at=builder.at)
            followers.fail(connection, "crm", "me", 0, why)
        monkeypatch.setattr(watched, "REMEMBERED_SECONDS", 0.0)
        assert figures(server)["mailgate_webhook_up", crm] == 0
    finally:
        server.close()
