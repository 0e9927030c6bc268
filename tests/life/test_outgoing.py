"""Outgoing mail by its routes: to smart hosts by sender and by user, and directly to the mail servers that DNS names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.life.house import House, house
from tests.life.taken_in import submission, submit
from tests.peers.certificates import server_context
from tests.peers.dnsd import DnsPeer
from tests.peers.smtpd import HomePeer
from tests.peers.thread import PeerThread

HOSTS = ("127.0.0.2", "127.0.0.3")
DIRECTLY = '[[route]]\nrecipients = ["*"]\nnext_hop = "mx"\n'
RUNS_AT_MOST = 20  # until something deferred is due; each takes a second or so


class World:
    """A house whose mail goes out directly, and two foreign mail servers, at one port."""

    def __init__(
        self, opened: House, dns: DnsPeer, servers: list[HomePeer], threads: list[PeerThread]
    ) -> None:
        self.house = opened
        self.dns = dns
        self.servers = servers
        self.threads = threads

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.house.json("events", "--event", name) if event["name"] == name]

    def listed(self) -> dict[str, dict[str, Any]]:
        """The recipients of all messages, by address."""
        return {
            one["address"]: one
            for row in self.house.json("list", "--limit", "0")
            for one in row["recipients"]
        }

    def once(self) -> int:
        done = self.house.run("run", "--once")
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    def until_closed(self) -> None:
        """Run until nothing is open."""
        for _ in range(RUNS_AT_MOST):
            if self.once() == 0:
                return
        raise AssertionError(self.house.run("queue").stdout)


@contextmanager
def world(folder: Path, store_url: str, *records: str, more: str = "") -> Iterator[World]:
    """`records` are what DNS knows."""
    dns, servers = DnsPeer(*records), [HomePeer(), HomePeer()]
    with ExitStack() as stack:
        opened = stack.enter_context(house(folder, store_url))
        at = stack.enter_context(PeerThread(dns))
        threads = [PeerThread(servers[0], 0, HOSTS[0])]
        port = stack.enter_context(threads[0])
        threads.append(PeerThread(servers[1], port, HOSTS[1]))
        stack.enter_context(threads[1])
        opened.more = f'{DIRECTLY}{more}[next_hop.mx]\nport = {port}\nnameservers = ["127.0.0.1:{at}"]\n'
        yield World(opened, dns, servers, threads)
        assert opened.problems() == []


def customer(name: str, *hosts: str) -> list[str]:
    """A domain's records: a mail server at each of these addresses, the best first."""
    records = [f"{name} MX {n} mx{n}.{name}" for n in range(len(hosts))]
    return records + [f"mx{n}.{name} A {host}" for n, host in enumerate(hosts)]


def test_each_domain_gets_its_recipients_and_our_own_go_home(tmp_path: Path, database_url: str) -> None:
    records = [*customer("a.example", HOSTS[0]), *customer("b.example", HOSTS[1])]
    with world(tmp_path, database_url, *records) as there:
        people = ("x@a.example", "y@b.example", "z@A.example", "info@example.com")
        submit(there.house, submission(*people))
        assert there.once() == 0
        assert [taken.recipients for taken in there.servers[0].ledger] == [("x@a.example", "z@A.example")]
        assert [taken.recipients for taken in there.servers[1].ledger] == [("y@b.example",)]
        assert [taken.recipients for taken in there.house.home.ledger] == [("info@example.com",)]
        found = there.listed()
        assert {address: (one["state"], one["next_hop"]) for address, one in found.items()} == {
            "x@a.example": ("relayed", "mx:a.example"),
            "y@b.example": ("relayed", "mx:b.example"),
            "z@A.example": ("relayed", "mx:a.example"),
            "info@example.com": ("delivered", "home"),
        }
        assert {event["data"]["next_hop"] for event in there.events("relayed")} == {
            "mx:a.example",
            "mx:b.example",
        }


def test_where_the_first_server_is_down_the_second_takes_it(tmp_path: Path, database_url: str) -> None:
    with world(tmp_path, database_url, *customer("a.example", *HOSTS)) as there:
        there.threads[0].go_away()
        submit(there.house, submission("x@a.example"))
        assert there.once() == 0
        assert len(there.servers[1].ledger) == 1
        (event,) = there.events("relayed")
        assert event["data"]["address"].startswith("127.0.0.3:")


def test_a_greylisted_recipient_is_tried_again_and_another_is_not(tmp_path: Path, database_url: str) -> None:
    with world(tmp_path, database_url, *customer("a.example", *HOSTS)) as there:
        there.servers[0].fault("rcpt", "reply", matching="x@", code=451, text="4.7.1 greylisted")
        submit(there.house, submission("x@a.example", "y@a.example"))
        assert there.once() == 1
        assert there.listed()["x@a.example"]["reply"] == "451 4.7.1 greylisted"
        assert there.listed()["y@a.example"]["state"] == "relayed"
        there.until_closed()
        assert [taken.recipients for taken in there.servers[0].ledger] == [("y@a.example",), ("x@a.example",)]
        assert there.servers[1].ledger == []


def test_what_dns_says_for_good_fails_at_once(tmp_path: Path, database_url: str) -> None:
    with world(tmp_path, database_url, "null.example MX 0 .") as there:
        people = ("x@null.example", "x@gone.example", "x@[127.0.0.2]")
        submit(there.house, submission(*people))
        assert there.once() == 0
        found = there.listed()
        assert {found[address]["state"] for address in people} == {"failed"}
        assert found["anna@example.com"]["state"] == "delivered"  # the report, at the home server
        assert [found[address]["reply"] for address in people] == [
            "556 5.1.10 not sent by mailgate: null.example: the domain takes no mail (null MX)",
            "550 5.1.2 not sent by mailgate: gone.example: there is no such domain",
            "550 5.1.2 not sent by mailgate: [127.0.0.2]: address literals are not delivered to: name a domain",
        ]


def test_servfail_is_waited_for_and_named_in_the_queue(tmp_path: Path, database_url: str) -> None:
    with world(tmp_path, database_url, *customer("a.example", HOSTS[0])) as there:
        there.dns.failing.add("a.example")
        (message,) = submit(there.house, submission("x@a.example"))
        assert there.once() == 1
        queue = there.house.run("queue").stdout
        assert "mx:a.example" in queue
        explained = there.house.run("explain", message).stdout
        assert "goes to mx:a.example, the mail servers DNS names for its domain, by route 1" in " ".join(
            explained.split()
        )
        there.dns.failing.clear()
        there.until_closed()
        assert len(there.servers[0].ledger) == 1


def test_an_alias_and_a_domain_without_mx_are_delivered_to(tmp_path: Path, sqlite_url: str) -> None:
    records = [
        *customer("real.example", HOSTS[0]),
        "alias.example CNAME real.example",
        "plain.example A 127.0.0.3",
    ]
    with world(tmp_path, sqlite_url, *records) as there:
        submit(there.house, submission("x@alias.example"), submission("x@plain.example"))
        assert there.once() == 0
        assert [len(server.ledger) for server in there.servers] == [1, 1]


def test_a_dead_domain_is_probed_by_few_and_delays_no_other(tmp_path: Path, database_url: str) -> None:
    records = [*customer("dead.example", "127.0.0.9"), *customer("well.example", HOSTS[0])]
    with world(tmp_path, database_url, *records) as there:
        there.house.retry = {"first": "1h"}
        submit(there.house, *(submission(f"{n}@{d}.example") for n in range(30) for d in ("dead", "well")))
        assert there.once() == 1
        assert len(there.servers[0].ledger) == 30
        tried = [event["data"].get("tried", True) for event in there.events("deferred")]
        assert len(tried) == 30
        assert 1 <= sum(tried) <= 4  # as many as there may be connections to one domain
        submit(there.house, submission("late@dead.example"))
        assert there.once() == 1  # another process: the log says that the domain rests
        assert there.listed()["late@dead.example"]["attempts"] == 0


def test_a_dead_domain_is_tried_at_once_where_a_person_wants_it(tmp_path: Path, database_url: str) -> None:
    with world(tmp_path, database_url, *customer("a.example", HOSTS[0])) as there:
        there.house.retry = {"first": "1h"}
        there.threads[0].go_away()
        submit(there.house, *(submission(f"{n}@a.example") for n in range(5)))
        assert there.once() == 1
        there.threads[0].come_back()
        assert there.once() == 1
        assert there.house.run("replay", "--state", "deferred", "--yes").returncode == 0
        assert there.once() == 0
        assert len(there.servers[0].ledger) == 5


def test_several_hundred_domains_get_their_mail(tmp_path: Path, sqlite_url: str) -> None:
    with world(tmp_path, sqlite_url, *(f"d{n}.example A {HOSTS[n % 2]}" for n in range(400))) as there:
        submit(there.house, *(submission(f"x@d{n}.example") for n in range(400)))
        assert there.once() == 0
        assert Counter(len(server.ledger) for server in there.servers) == {200: 2}
        assert there.house.json("queue") == []


def test_smart_hosts_by_sender_and_by_user_each_with_its_login(tmp_path: Path, database_url: str) -> None:
    first = HomePeer(users={"shop": "one"}, login_needed=True, tls="starttls", tls_context=server_context())
    second = HomePeer(users={"news": "two"}, login_needed=True, tls="implicit", tls_context=server_context())
    with ExitStack() as stack:
        opened = stack.enter_context(house(tmp_path, database_url))
        ports = [stack.enter_context(PeerThread(peer)) for peer in (first, second)]
        opened.more = "".join(
            f'[next_hop.{name}]\nhost = "127.0.0.1"\nport = {port}\ntls = "{tls}"\ntls_verify = false\n'
            f'username = "{name}"\npassword = "{password}"\n'
            for name, port, tls, password in (
                ("shop", ports[0], "required", "one"),
                ("news", ports[1], "implicit", "two"),
            )
        )
        opened.more += '[[route]]\nusers = ["newsletter"]\nnext_hop = "news"\n'
        opened.more += '[[route]]\nsenders = ["*@shop.example"]\nnext_hop = "shop"\n'
        opened.more += '[[route]]\nrecipients = ["*@partner.example"]\nnext_hop = "home"\n'
        submit(
            opened,
            submission("a@far.example", sender="x@shop.example"),
            submission("b@far.example", sender="x@shop.example", user="newsletter"),
            submission("c@partner.example"),
            submission("info@example.com"),
            submission("d@far.example"),
        )
        assert opened.run("run", "--once").returncode == 1
        assert [taken.recipients for taken in first.ledger] == [("a@far.example",)]
        assert [taken.recipients for taken in second.ledger] == [("b@far.example",)]
        assert sorted(taken.recipients for taken in opened.home.ledger) == [
            ("c@partner.example",),
            ("info@example.com",),
        ]
        states = {row["recipients"][0]["address"]: row["state"] for row in opened.json("list")}
        assert states == {
            "a@far.example": "relayed",
            "b@far.example": "relayed",
            "c@partner.example": "relayed",
            "info@example.com": "delivered",
            "d@far.example": "held",
        }
        assert opened.problems() == []


@pytest.mark.parametrize(("answers", "code"), [(True, 0), (False, 1)])
def test_check_connect_asks_dns_and_no_stranger(
    tmp_path: Path, sqlite_url: str, answers: bool, code: int
) -> None:
    with world(tmp_path, sqlite_url, *customer("example.com", HOSTS[0])) as there:
        assert there.once() == 0
        if not answers:
            there.dns.failing.add("example.com")
        done = there.house.run("check", "--connect")
        assert done.returncode == code, done.stdout
        said = " ".join(done.stdout.split())
        assert "mx: the servers that DNS names, port" in said
        assert "1: to * to the mail servers of its domain, our own domains aside" in said
        assert ("the mail servers of example.com are mx0.example.com" in said) is answers
        assert ("DNS gave no answer" in said) is not answers
        assert there.servers[0].sessions == []
