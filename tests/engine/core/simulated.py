"""Lives as a gateway with a given configuration would have recorded them: its own decisions, with answers and people at random.

Give it a `random.Random`, or hypothesis' own. Decisions fall some time before they are on record, as where a
store is slow.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from engine.core import orders, replaying, tagging
from engine.core.arrival import FIXED, Candidate, ListenerTerms, MailboxTerms
from engine.core.decide import decide, untried
from engine.core.holding import HoldRule
from engine.core.outcome import Answer, LeftOut, NoAnswer, Outcome, Reply
from engine.core.plan import HandOver, Record, Scan, plan
from engine.core.policy import HopPolicy, Policy, Retention, backoff
from engine.core.relaying import Rules
from engine.core.retention import outdated
from engine.core.routing import MailboxRule, RouteRule
from engine.core.verdict import TOO_LARGE_TO_ASK, ScannerPolicy
from store.events import Attempted, Downloaded, Held, MessageEvent, RejectedOversize, Scanned, Submitted
from store.life import Message, evolve
from tests.engine.core.lives import BRANCH, INFO, NOON, SALES, VERSION, policy

REDIRECT = "spam@example.com"
NOBODY = "no header named an own address"
STEPS = 14


class Gateway:
    """Records lives under one configuration."""

    def __init__(self, random: Random, candidate: Candidate) -> None:
        self.random = random
        self.candidate = candidate
        self.policy = candidate.policy
        self.now = NOON
        self.story: list[tuple[MessageEvent, datetime]] = []
        self.message: Message | None = None

    def life(self) -> list[tuple[MessageEvent, datetime]]:
        """Return the events of one message, from its beginning."""
        self.now, self.story, self.message = NOON, [], None
        self.random.choice((self.download, self.download, self.download, self.submit, self.too_large))()
        for _ in range(STEPS):
            assert self.message is not None
            if self.message.content is None:
                break
            self.step(self.message)
        return self.story

    # -- how it begins

    def download(self) -> None:
        name = self.random.choice(sorted(self.candidate.mailboxes))
        rule = self.candidate.mailboxes[name].rule
        recipients, by = rule.recipients, (FIXED,) * len(rule.recipients)
        if not recipients:
            those = self.random.sample(("anna@example.com", "dora@example.com"), self.random.randrange(3))
            recipients, by = (
                tuple(those),
                tuple(f"header {rule.headers[0]}, instance {n}" for n in range(len(those))),
            )
            if not those and rule.fallback:
                recipients, by = (rule.fallback,), (f"fallback: {NOBODY}",)
        opening = Downloaded(
            **self.common(recipients),
            mailbox=name,
            uidl="u1",
            listed_octets=self.size(name),
            routed_by=by,
        )
        held = Held(why="unroutable", rule=NOBODY, policy=self.policy.version)
        self.record(opening, *(() if recipients else (held,)))

    def submit(self) -> None:
        assert self.candidate.listener is not None
        recipients = tuple(
            self.random.sample((INFO, SALES, "bob@partner.example"), self.random.randrange(1, 4))
        )
        own = all(one.endswith("@example.com") for one in recipients)
        opening = Submitted(
            **self.common(recipients),
            direction="inbound" if own else "outbound",
            protocol="ESMTP",
            tls="none",
            peer="192.0.2.9",
            user=self.random.choice((None, "alice")),
        )
        self.record(opening)

    def too_large(self) -> None:
        limit = self.candidate.mailboxes["info"].max_size_octets
        if limit is None:
            self.download()
            return
        event = RejectedOversize(
            mailbox="info",
            uidl="u1",
            size_octets=90_000,
            limit_octets=limit,
            limit_from="config",
            policy=self.policy.version,
            recipient_count=1,
            recipients=(INFO,),
        )
        self.record(event)

    def common(self, recipients: tuple[str, ...]) -> dict[str, Any]:
        return {
            "size_octets": self.random.choice((1_000, 30_000)),
            "content": "00" * 32,
            "bare_newlines": False,
            "recipient_count": len(recipients),
            "recipients": recipients,
            "policy": self.policy.version,
            "reverse_path": self.random.choice(("alice@customer.example", "")),
        }

    def size(self, mailbox: str) -> int:
        limit = self.candidate.mailboxes[mailbox].max_size_octets
        return self.random.choice((900, limit or 40_000))

    # -- what becomes of it

    def step(self, message: Message) -> None:
        if self.random.random() < 0.15:
            self.person(message)
            return
        if self.random.random() < 0.1 and (gone := outdated(message, self.policy, self.now)):
            self.record(*gone)
            return
        match plan(message, self.policy, self.now):
            case HandOver() as step if self.random.random() < 0.1:
                retry_at = self.now + timedelta(minutes=3)
                down = f"{step.next_hop} is down: refused"
                self.record(untried(message, step, self.policy, retry_at, down, self.now))
            case HandOver() as step:
                self.attempt(message, step)
            case Scan(scanners):
                self.scan(message, scanners)
            case Record(events):
                self.record(*events)
            case _:
                due = message.due_at
                later = due if due is not None and due > self.now else self.now
                self.now = later + timedelta(seconds=self.random.choice((0, 1, 70, 90_000)))

    def attempt(self, message: Message, step: HandOver) -> None:
        attempted = Attempted(
            numbers=step.numbers,
            next_hop=step.next_hop,
            attempt=step.attempt,
            tags=tagging.outgoing(message, b"Subject: x\r\n\r\n", self.policy).tags,
            policy=self.policy.version,
            recipients=step.recipients,
            rule=step.rule,
        )
        self.record(attempted)
        if self.random.random() < 0.1:
            return  # killed
        assert self.message is not None
        self.now += timedelta(seconds=self.random.choice((0, 0.2, 40)))
        answers = tuple(self.answer() for _ in step.numbers)
        outcome = Outcome(answers, "192.0.2.25:25", "none", 12)
        jitter = self.random.random()
        resting = self.now + backoff(self.policy, self.random.randrange(1, 9), jitter)
        self.record(
            *decide(self.message, step, outcome, self.policy, self.now, jitter=jitter, hop_retry_at=resting)
        )

    def answer(self) -> Answer:
        return self.random.choice(
            (
                Reply(250, "2.0.0 taken", "2.0.0", "message"),
                Reply(451, "4.3.0 later", "4.3.0", "message"),
                Reply(450, "4.2.1 busy", "4.2.1", "recipient"),
                Reply(550, "5.1.1 no such user", "5.1.1", "recipient"),
                Reply(550, "5.7.1 rejected as spam", "5.7.1", "message"),
                Reply(552, "5.3.4 too large", "5.3.4", "message"),
                Reply(None, "4.4.1 refused", "4.4.1", "next-hop"),
                NoAnswer("the connection broke behind the dot"),
                LeftOut(Reply(452, "4.5.3 too many")),
            )
        )

    def scan(self, message: Message, scanners: tuple[str, ...]) -> None:
        self.record(*(self.verdict(message, name) for name in scanners))

    def verdict(self, message: Message, name: str) -> Scanned:
        scanner = self.policy.scanner(name)
        assert scanner is not None
        common = {"scanner": name, "duration_ms": 3, "policy": self.policy.version}
        limit = scanner.max_size_octets
        if limit is not None and message.size_octets > limit:
            detail = f"{TOO_LARGE_TO_ASK}{limit} octets that it is asked about"
            return Scanned(**common, verdict="unscannable", detail=detail)
        kind = self.random.choice(("clean", "clean", "found", "error"))
        if kind == "error":
            again = None if scanner.on_error == "pass" else self.now + timedelta(seconds=10)
            blame = self.random.choice(("scanner", "message"))
            return Scanned(**common, verdict="error", retry_at=again, blame=blame, detail="it broke")
        if scanner.kind == "clamd":
            found = kind == "found"
            return Scanned(
                **common, verdict="infected" if found else "clean", signature="Eicar" if found else None
            )
        score = self.random.choice((-1.0, 4.9, 5.0, 7.5, 16.0))
        return Scanned(**common, verdict="spam" if score >= 5 else "clean", score=score, threshold=5.0)

    def person(self, message: Message) -> None:
        """Somebody decides something, where it can be decided."""
        verb = self.random.choice(("hold", "release", "discard", "fail", "replay"))
        if verb == "replay":
            to = self.random.choice((None, "branch"))
            request = replaying.Request(replay=f"r{len(self.story)}", operator="anna", next_hop=to)
            again = replaying.ask(message, request, self.policy, worked_on=True, kept=message.kept)
            self.record(*((again.event,) if isinstance(again, replaying.Again) else ()))
            return
        order = orders.Order(verb=verb, operator="anna")
        answer = orders.carry_out(message, order, self.policy, worked_on=True)
        self.record(*(answer.events if isinstance(answer, orders.Decided) else ()))

    def record(self, *events: MessageEvent) -> None:
        """Put them on record in one go, some time after they were decided."""
        self.now += timedelta(microseconds=self.random.choice((0, 1, 700, 45_000_000)))
        for event in events:
            self.message = evolve(self.message, "m1", event, self.now)
            self.story.append((event, self.now))


def configuration(random: Random) -> Candidate:
    """A configuration at random: whatever a decision may depend on."""
    return Candidate(
        policy=_policy(random),
        mailboxes={
            "info": MailboxTerms(
                rule=MailboxRule(recipients=random.choice(((INFO,), (INFO, SALES), (INFO, BRANCH)))),
                max_size_octets=random.choice((None, 50_000)),
            ),
            "all": MailboxTerms(
                rule=MailboxRule(
                    headers=("Delivered-To",),
                    domains=("example.com",),
                    fallback=random.choice((None, "postmaster@example.com")),
                )
            ),
        },
        listener=ListenerTerms(
            rules=Rules(allow=_network(), postmaster="postmaster@example.com", domains=("example.com",)),
            users=frozenset({"alice"}),
            max_size_octets=random.choice((30_000, 35_000_000)),
        ),
    )


def _network() -> Any:
    from ipaddress import ip_network

    return (ip_network("192.0.2.0/24"),)


def _policy(random: Random) -> Policy:
    hop = replace(
        HopPolicy(),
        on_unknown=random.choice(("retry", "hold")),
        spam_refusals=random.choice(((), ("550 5.7.1 *spam*",))),
    )
    routes = random.choice(
        (
            (),
            (RouteRule(recipients=("*@example.com",), next_hop="home"), RouteRule(next_hop="branch")),
            (
                RouteRule(recipients=(SALES,), next_hop="branch"),
                RouteRule(recipients=("*@branch.example",), next_hop="gone"),
            ),
            (RouteRule(senders=("*@customer.example",), next_hop="branch"),),
        )
    )
    scanners = [
        ScannerPolicy(
            name="virus",
            kind="clamd",
            on_found=random.choice(("quarantine", "discard", "pass", "tag")),
            on_error=random.choice(("defer", "pass")),
            on_unscannable=random.choice(("pass", "tag", "quarantine")),
            max_size_octets=random.choice((None, 20_000)),
        ),
        ScannerPolicy(
            name="spam",
            kind="spamd",
            on_found=random.choice(("quarantine", "tag", "redirect")),
            redirect=REDIRECT,
            threshold=random.choice((None, 5.0, 6.0)),
            quarantine_from=random.choice((None, 10.0)),
            directions=random.choice((("inbound",), ("inbound", "outbound"))),
            scl=random.choice(((), ((5.0, 6),))),
        ),
    ]
    return policy(
        version=VERSION if random.random() < 0.5 else "another",
        hops={"home": hop, "branch": HopPolicy()},
        routes=routes,
        holds=random.choice(
            (
                *((),) * 4,
                (HoldRule(recipients=(SALES,)),),
                (HoldRule(next_hop="branch", until=NOON + timedelta(seconds=90)),),
                (HoldRule(users=("alice",)), HoldRule(senders=("*@customer.example",), recipients=(INFO,))),
            )
        ),
        scanners=tuple(random.sample(scanners, random.randrange(3))),
        first=timedelta(minutes=random.choice((1, 5))),
        give_up_after=random.choice((timedelta(hours=2), timedelta(days=5))),
        retention=Retention(quarantined=random.choice((timedelta(hours=1), timedelta(days=30)))),
    )
