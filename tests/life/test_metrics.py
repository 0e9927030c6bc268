"""A gateway that is watched: it tells what it did, that it lives, and that it can't work without its store."""

from __future__ import annotations

import http.client
import resource
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.life.gateway import running
from tests.life.house import House, house, mail
from tests.real.process import wait_until


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port: int = found.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_running_gateway_tells_what_it_did(opened: House) -> None:
    port = free_port()
    opened.more = f'[metrics]\naddress = "127.0.0.1:{port}"\n'
    opened.provider.put("info", mail(1), uidl="uidl-1")
    with running(opened) as gateway:
        opened.home.wait_until(lambda: mail(1) in opened.arrived())
        signs = (
            'event="delivered"',
            'mailgate_mailbox_well{mailbox="info"} 1.0',
        )  # it counts after the commit
        wait_until(lambda: all(sign in ask(port, "/metrics")[1] for sign in signs), "it all to be counted")
        told = ask(port, "/metrics")[1]
        assert 'mailgate_events_total{event="downloaded"} 1.0' in told
        assert "mailgate_commit_seconds_count" in told
        assert ask(port, "/livez") == (200, "alive\n")
        assert ask(port, "/readyz") == (200, "ready\n")
        assert gateway.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")
    last = opened.json("events")[-1]["position"]
    put_again = opened.json("events", "--after", str(last - 1))
    assert [event["position"] for event in put_again] == [last]


def test_a_gateway_that_can_t_write_to_its_store_is_not_ready_until_it_can(
    tmp_path: Path, sqlite_url: str
) -> None:
    port, unlimited = free_port(), resource.RLIM_INFINITY
    with house(tmp_path, sqlite_url) as opened:
        opened.more = f'[metrics]\naddress = "127.0.0.1:{port}"\n'
        opened.mailbox = {"poll_every": "10s"}
        with running(opened) as gateway:
            wait_until(lambda: ask(port, "/readyz") == (200, "ready\n"), "readiness")
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, unlimited))
            gateway.says("the store can't be used")
            wait_until(lambda: ask(port, "/readyz")[0] == 503, "no readiness")
            assert ask(port, "/readyz")[1].startswith("nothing can be kept: the store can't be used")
            assert "mailgate_store_writable 0.0" in ask(port, "/metrics")[1]
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
            gateway.says("the store works again")
            wait_until(lambda: ask(port, "/readyz") == (200, "ready\n"), "readiness")
            assert gateway.stop() == 0


def test_a_port_that_is_taken_is_one_line(opened: House) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        opened.more = f'[metrics]\naddress = "127.0.0.1:{port}"\n'
        done = opened.run("run")
    assert done.returncode == 3
    said = done.stderr.splitlines()[-1]
    assert f"metrics.address: can't listen on 127.0.0.1:{port}: address already in use" in said
