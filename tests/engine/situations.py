"""What several tests of the engine start from or look for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from engine import intake
from engine.core.policy import Policy
from engine.core.routing import MailboxRule, RouteRule
from engine.opening import opening_of
from engine.ports import Submission
from store import agenda
from store.agenda import Claim, Lease
from store.database import writing
from store.log import Append, Unit
from store.mailbox_events import Adopted, Adoption, mailbox_stream
from tests.engine.rig import INFO, Rig, mail
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer

SALES = "sales@example.com"
DESK = "desk@branch.example"
TWO = {"info": {"rule": MailboxRule(recipients=(INFO, SALES))}}
TWO_HOPS = {
    "routes": (
        RouteRule(recipients=("*@example.com",), next_hop="home"),
        RouteRule(recipients=("*@branch.example",), next_hop="branch"),
    )
}
MULTIDROP = MailboxRule(headers=("Delivered-To",), domains=("example.com",))


def states(rig: Rig) -> list[str]:
    return [message.state for message in rig.messages() if message.direction == "inbound"]


OUTGOING = {
    "routes": (
        RouteRule(recipients=("*@example.com",), next_hop="home"),
        RouteRule(recipients=("*",), next_hop="smart"),
    )
}


def outgoing(url: str, smart: HomePeer | None = None, **options: Any) -> Rig:
    """A gateway between a home server and a smart host."""
    homes = {"home": HomePeer(), "smart": smart or HomePeer(hostname="smart.example")}
    return Rig(url, homes=homes, **{"policy": OUTGOING} | options)


async def submit(rig: Rig, *recipients: str, octets: bytes | None = None, **facts: Any) -> str:
    """Take in a message that a client hands us; returns its id."""
    usual: dict[str, Any] = {
        "peer": "192.0.2.9",
        "helo": "exchange.example.com",
        "protocol": "ESMTP",
        "tls": "none",
        "user": None,
        "reverse_path": INFO,
    }
    submission = Submission(recipients=recipients, **usual | facts)
    append = await opened_by(submission, octets or mail(1), rig.policy, rig.clock())
    await rig.journal.append(Unit((append,)))
    rig.worker.wake()
    return append.stream


@contextmanager
def refusing(rig: Rig, event: str) -> Iterator[None]:
    """The store takes no event of this name."""
    with writing(rig.engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                f"CREATE TRIGGER refusing BEFORE INSERT ON events WHEN NEW.name = '{event}'"
                " BEGIN SELECT RAISE(ABORT, 'refused for a test'); END"
            )
        else:
            connection.exec_driver_sql(
                f"ALTER TABLE events ADD CONSTRAINT refusing CHECK (name <> '{event}') NOT VALID"
            )
    yield
    with writing(rig.engine) as connection:
        drop = "DROP TRIGGER refusing"
        if connection.dialect.name != "sqlite":
            drop = "ALTER TABLE events DROP CONSTRAINT refusing"
        connection.exec_driver_sql(drop)


async def claimed(rig: Rig, holder: str | None = None) -> Lease:
    """A lease on the only message, in the name of the worker or of somebody else."""
    claim = Claim(holder or rig.holder, rig.clock() + agenda.LEASE_TERM)
    name, now = rig.message().id, rig.clock()
    lease = await rig.journal.call(lambda c: agenda.claim_stream(c, name, agenda.FRESH, claim, now))
    assert lease is not None
    return lease


def box(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"info": changes}


def nameless() -> Pop3Peer:
    """A server without UIDL."""
    return Pop3Peer(without={"UIDL"})


async def adopt(rig: Rig, name: str = "info") -> None:
    """As the command does: everything listed is taken as seen."""
    listed = [(one.uidl, len(one.octets)) for one in rig.provider.mailboxes[name].messages]
    event = Adopted(
        mailbox=name,
        uidls=tuple(Adoption(uidl=uidl, size_octets=size) for uidl, size in listed),
        operator="anna",
        reason="moved to another server",
    )
    before = rig.mailbox(name)
    await rig.journal.append(Unit((Append(mailbox_stream(name), before, (event,), rig.clock()),)))


async def opened_by(submission: Submission, octets: bytes, policy: Policy, now: datetime) -> Append:
    """What opens the stream of a message that a client handed us."""
    return intake.submitted(await opening_of(submission, octets, policy, now), octets)
