"""`explain` says why, by which rule, what comes next and who holds the lease, by the policy as it is now."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from cli import times
from engine import presence
from engine.settings import load
from store import agenda
from store.agenda import Claim
from store.database import writing
from store.events import ContentsPurged, RedeliveryRequested, RejectedOversize, Submitted
from tests.build import POLICY, Builder
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock


@pytest.fixture
def builder(mailgate: Mailgate, sqlite_url: str) -> Iterator[Builder]:
    """A store of the test's own, where it is now."""
    made = Builder(sqlite_url, times.now() - timedelta(hours=1))
    configure(mailgate.folder, sqlite_url)
    yield made
    made.close()


def explained(mailgate: Mailgate, stream: str) -> dict[str, str]:
    """The page by its labels; what has no label goes with the one above."""
    answer = mailgate("explain", stream, COLUMNS="400")
    assert answer.code == 0, answer.err
    found: dict[str, str] = {}
    label = ""
    for line in answer.lines[1:]:
        label = line[2:16].strip() or label
        found[label] = f"{found[label]}\n{line[16:]}" if label in found else line[16:]
    return found


def test_a_deferral_names_rule_policy_next_attempt_and_when_it_is_given_up(
    mailgate: Mailgate, builder: Builder
) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.later(minutes=59)
    builder.deferred(stream, times.now() + timedelta(minutes=30))
    told = explained(mailgate, stream)
    assert told["State"].startswith("deferred since ")
    assert " deferred until " in told["Why"]
    assert told["Why"].endswith(" by home: 451 4.3.0 try again later")
    assert told["Policy"].startswith(f"{POLICY}; the current one is ")
    assert told["Policy"].endswith(", and decides from now on")
    assert told["To"] == (
        "info@example.com (named by mailbox recipients): deferred; goes to home by own domain example.com"
    )
    assert told["Next"].startswith("Attempt 2, to home, in ")
    assert ", by own domain example.com. If that goes on, it is given up in 4d 2" in told["Next"]
    assert told["Lease"] == "nobody holds it"
    assert told["Next hop"] == "home: nothing known"
    assert told["Gateway"] == "none runs on this store: 'mailgate run' starts one"
    assert f"mailgate raw {stream}: its octets" in told["You can"]
    assert f"mailgate replay {stream}: try it now, and do not wait" in told["You can"]


def test_a_next_hop_that_is_down_is_said_to_be(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    again = times.now() + timedelta(minutes=30)
    builder.deferred(stream, again, code=421, reply="4.4.1 connection refused", scope="next-hop")
    waiting = builder.downloaded()
    told = explained(mailgate, waiting)
    assert told["Next hop"].startswith("home: down for 1h, failed once, tried again in ")
    assert told["Next hop"].endswith(": 4.4.1 connection refused")
    assert told["Next"].startswith("Attempt 1, to home, once that is up again (one message tries in ")


def scans(mailgate: Mailgate) -> None:
    """Have the configuration name a scanner."""
    file = mailgate.folder / "mailgate.toml"
    file.write_text(file.read_text() + '[[scanner]]\nkind = "clamd"\naddress = "127.0.0.1:3310"\n')


def test_what_waits_for_a_next_hop_is_not_laid_on_the_scanner(mailgate: Mailgate, builder: Builder) -> None:
    scans(mailgate)
    stream = builder.downloaded()
    builder.attempted(stream)
    again = times.now() + timedelta(minutes=30)
    builder.deferred(stream, again, code=421, reply="4.4.1 connection refused", scope="next-hop")
    told = explained(mailgate, builder.downloaded(next_hop="home"))
    assert told["Next"].startswith(
        "clamd will be asked about it, once home is up again (one message tries in "
    )
    assert "Setting" not in told
    told = explained(mailgate, stream)
    assert told["Next"].startswith("clamd will be asked about it, in ")
    assert told["Setting"].startswith("retry.first and retry.cap: ")
    assert "on_error" not in told["Setting"]


def test_what_waits_for_a_scanner_may_be_let_go_on_without_it(mailgate: Mailgate, builder: Builder) -> None:
    scans(mailgate)
    stream = builder.downloaded(next_hop="home")
    again = times.now() + timedelta(minutes=1)
    builder.scanned(stream, "error", retry_at=again, blame="scanner", detail="clamd: can't connect")
    told = explained(mailgate, stream)
    assert told["Setting"] == '[[scanner]] on_error: "pass" lets it go on unscanned where the scanner fails'
    assert told["Scanner"].startswith("clamd: clamd: can't connect; waited for since ")
    assert "mailgate replay" not in told["You can"]


def test_a_changed_route_is_what_counts(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded(recipients=("info@other.example",))
    told = explained(mailgate, stream)
    assert told["To"] == (
        "info@other.example (named by mailbox recipients): received;"
        " has no next hop: other.example is not an own domain and there are no routes"
    )
    assert told["Next"] == (
        "It will be held as unroutable: other.example is not an own domain and there are no routes"
    )
    file = mailgate.folder / "mailgate.toml"
    route = '[[route]]\nrecipients = ["*@other.example"]\nnext_hop = "home"\n'
    file.write_text(file.read_text() + route)
    told = explained(mailgate, stream)
    assert told["To"].endswith("goes to home by route 1: recipients *@other.example")
    assert told["Next"].startswith("Attempt 1, to home, as soon as a gateway runs, by route 1: recipients ")


def test_the_next_hop_that_a_person_named_is_told_everywhere(mailgate: Mailgate, builder: Builder) -> None:
    configuration = mailgate.folder / "mailgate.toml"
    configuration.write_text(configuration.read_text() + '[next_hop.backup]\nhost = "b.example"\n')
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.failed(stream)
    assert mailgate("replay", stream, "--to", "backup").code == 0
    told = explained(mailgate, stream)
    assert told["To"].endswith("; goes to backup by a request to deliver it again")
    assert told["Next"].startswith("Attempt 2, to backup, as soon as a gateway runs, by a request ")
    assert told["Next hop"].startswith("backup: ")
    assert "[[route]]" not in told["Setting"]
    assert "It is tried again at backup as soon as a gateway runs" in " ".join(
        mailgate("show", stream).out.split()
    )
    (row,) = mailgate("queue", "--json").json
    assert row["next_hop"] == "backup"
    assert row["recipients"][0]["next_hop"] == "home"  # where it was tried last
    assert mailgate("queue").out.split("\n\n")[1].splitlines()[1].startswith("backup ")
    (waits,) = mailgate("top", "--once", "--json").json[0]["queue"]
    assert (waits["next_hop"], waits["open"]) == ("backup", 1)


def test_programs_get_the_same_answers_apart(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    again = times.now() + timedelta(minutes=5)
    builder.deferred(stream, again, code=451, reply="4.3.2 later")
    claim = Claim("gate:1", times.now() + timedelta(minutes=1))
    with writing(builder.engine) as connection:
        agenda.claim(connection, "home", claim, again, 1)
    [found] = mailgate("explain", stream, "--json").json
    assert (found["id"], found["state"], found["lease"]["holder"]) == (stream, "deferred", "gate:1")
    assert found["recipients"] == [
        {
            "address": "info@example.com",
            "state": "deferred",
            "routed_by": "mailbox recipients",
            "next_hop": "home",
            "rule": "own domain example.com",
        }
    ]
    then = found["next"]
    assert (then["action"], then["next_hop"], then["attempt"]) == ("hand-over", "home", 2)
    assert then["at"] == times.exact(again)
    assert then["text"].startswith("Attempt 2, to home, in ")
    builder.later(minutes=1)
    gone = builder.downloaded()
    builder.attempted(gone)
    builder.delivered(gone)
    [found] = mailgate("explain", gone, "--json").json
    assert (found["next"], found["lease"], found["state"]) == (None, None, "delivered")


def test_the_holder_of_the_lease_is_named(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    now = times.now()
    with writing(builder.engine) as connection:
        agenda.claim(connection, agenda.FRESH, Claim("gate:77:ab", now + timedelta(minutes=1)), now, 1)
    told = explained(mailgate, stream)
    assert told["Lease"].startswith("held by gate:77:ab until ")
    assert told["Lease"].endswith(": it is being worked on")


def test_a_lease_that_ran_out_is_nobodys(
    mailgate: Mailgate, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = builder.downloaded()
    now = times.now()
    monkeypatch.setattr(times, "now", lambda: now)
    then = now - timedelta(minutes=2)
    with writing(builder.engine) as connection:
        agenda.claim(connection, agenda.FRESH, Claim("gate:77:ab", then), then, 1)
    told = explained(mailgate, stream)
    assert told["Lease"] == "of gate:77:ab, run out 2m ago: the next gateway takes over"


def test_a_gateway_that_runs_is_seen(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    running = presence.arrive(builder.engine)
    try:
        told = explained(mailgate, stream)
    finally:
        running.leave()
    assert told["Gateway"] == "runs on this store"
    assert told["Next"].startswith("Attempt 1, to home, now, ")


def test_a_gateway_with_another_configuration_is_to_be_restarted(
    mailgate: Mailgate, builder: Builder
) -> None:
    stream = builder.downloaded()
    running = presence.arrive(builder.engine, "0badcafe")
    told = explained(mailgate, stream)
    assert told["Gateway"] == "the gateway that runs was started with another configuration: restart it"
    running.leave()


def test_an_attempt_too_late_is_the_last(mailgate: Mailgate, builder: Builder) -> None:
    builder.later(days=-10)
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.deferred(stream, times.now() + timedelta(minutes=30))
    assert explained(mailgate, stream)["Next"].endswith(" It is given up if that is deferred too.")


@pytest.mark.parametrize(
    ("kind", "why", "what_next"),
    [
        ("delivered", "delivered to home at 192.0.2.25:25, in 212ms ", "Nothing more: it is delivered, "),
        ("held", "held as unroutable: no header named an own address", "Nothing, until a person decides"),
        ("oversize", "rejected-oversize: 48.3 MB, and home takes 10.0 MB", "Nothing more: it is too large."),
        ("unknown", "held as outcome-unknown: home: no answer on record", "Nothing, until a person decides"),
        ("failed", "failed: rejected by home: 550 5.1.1 no such user here", "Nothing more: it is not tried"),
        ("received", "downloaded from mailbox info, UIDL ", "Attempt 1, to home, "),
    ],
)
def test_every_state_has_its_reason(kind: str, why: str, what_next: str, stock: Stock) -> None:
    told = explained(stock.mailgate, stock.ids[kind])
    assert why in told["Why"]
    assert told["Next"].startswith(what_next)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("held", "fallback of [[mailbox]] info: who gets what names nobody, from now on"),
        ("unknown", 'next_hop.home.on_unknown: is "retry"; "hold" keeps it for a person'),
        ("oversize", "next_hop.NAME.max_size: what is taken at most, if the server itself takes as much"),
        ("deferred", "retry.first and retry.cap: how often: 5m, doubled up to 1h"),
    ],
)
def test_what_to_change_is_named(kind: str, setting: str, stock: Stock) -> None:
    assert explained(stock.mailgate, stock.ids[kind])["Setting"].startswith(setting)


def test_where_no_setting_decides_none_is_named(stock: Stock) -> None:
    for kind in ("delivered", "failed"):
        assert "Setting" not in explained(stock.mailgate, stock.ids[kind])


def test_what_was_too_large_can_be_fetched_after_all(stock: Stock) -> None:
    told = explained(stock.mailgate, stock.ids["oversize"])
    assert "fetch and deliver it after all, once the limit is raised" in " ".join(told["You can"].split())


def test_each_recipient_has_its_own_reason(stock: Stock) -> None:
    told = explained(stock.mailgate, stock.ids["mixed"])
    why = told["Why"].split("\n")
    assert [line.split()[2] for line in why] == ["delivered", "failed", "deferred"]
    to = told["To"].split("\n")
    assert [line.split(": ")[1].split(";")[0] for line in to] == ["delivered", "failed", "deferred"]


def test_a_hold_is_the_reason_also_behind_a_request_for_somebody_else(
    mailgate: Mailgate, builder: Builder
) -> None:
    stream = builder.downloaded()
    builder.held(stream, why="operator", rule="operator", operator="anna", reason="the lawyer looks first")
    held = times.stamp(builder.at)
    builder.later(minutes=5)
    request = RedeliveryRequested(added=1, operator="carl", policy=POLICY, recipients=("bob@example.com",))
    builder.append(stream, request)
    told = explained(mailgate, stream)
    assert told["State"].startswith(f"held since {held} (1h ago)")
    first, second = told["Why"].split("\n")
    assert first == f"{held} held by anna: the lawyer looks first"
    assert second.endswith(" redelivery-requested by carl for bob@example.com")


def test_of_several_it_says_for_whom_it_stays(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded(recipients=("info@example.com", "sales@example.com"))
    builder.held(stream, why="operator", rule="hold 1", numbers=(1,))
    told = explained(mailgate, stream)
    assert told["Why"].endswith(" held by the configuration for sales@example.com: hold 1")
    assert told["Next"].startswith("Attempt 1, to home, as soon as a gateway runs")
    assert told["Next"].endswith(". For sales@example.com it stays until a person decides.")


def test_a_new_reason_to_hold_what_is_held_counts(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    for reason in ("the lawyer looks first", "and the auditor"):
        builder.held(stream, why="operator", rule="operator", operator="anna", reason=reason)
        builder.later(minutes=5)
    assert explained(mailgate, stream)["Why"].endswith(" held by anna: and the auditor")


def test_it_is_deferred_since_the_first_time_not_since_the_last(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.later(minutes=10)
    since = times.stamp(builder.at)
    for _ in range(3):
        builder.attempted(stream)
        builder.deferred(stream, builder.at + timedelta(minutes=5))
        builder.later(minutes=5)
    assert explained(mailgate, stream)["State"].startswith(f"deferred since {since} (50m")


def test_it_is_deferred_since_then_whatever_becomes_of_others(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded(recipients=("anna@example.com", "bob@example.com"))
    builder.attempted(stream)
    since = times.stamp(builder.at)
    builder.deferred(stream, builder.at + timedelta(minutes=5))
    builder.later(minutes=5)
    builder.attempted(stream, (0,))
    builder.attempted(stream, (1,), hop="other")
    builder.delivered(stream, (0,))
    builder.deferred(stream, times.now() + timedelta(minutes=30), numbers=(1,))
    assert explained(mailgate, stream)["State"].startswith(f"deferred since {since}")


def test_the_policy_named_is_that_which_decided(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.delivered(stream)
    builder.append(stream, ContentsPurged(reason="[retention] contents", policy="another"))
    assert explained(mailgate, stream)["Policy"].startswith(f"{POLICY}; the current one is ")


def test_a_limit_that_a_refusal_taught_is_said_not_to_be_the_only_one(
    mailgate: Mailgate, builder: Builder
) -> None:
    refused = builder.downloaded()
    builder.attempted(refused)
    refusal = RejectedOversize(
        mailbox=None,
        uidl=None,
        size_octets=250_200,
        limit_octets=250_200,
        limit_from="next-hop",
        next_hop="home",
        recipient_count=1,
        policy=POLICY,
    )
    builder.append(refused, refusal)
    told = explained(mailgate, builder.downloaded())
    assert told["Next hop"].endswith(
        "no more than 250.2 kB, as a refusal taught, or less if its EHLO says so"
    )
    file = mailgate.folder / "mailgate.toml"
    file.write_text(file.read_text().replace("[next_hop.home]\n", '[next_hop.home]\nmax_size = "9MB"\n'))
    told = explained(mailgate, builder.downloaded())
    assert told["Next hop"].endswith("no more than 9.0 MB, by its max_size, or less if its EHLO says so")


def sent(builder: Builder, **facts: Any) -> str:
    """A message that a client handed us and the smart host refused."""
    stream, octets = builder.new_id(), b"Subject: Offer\r\n\r\nHello\r\n"
    opening = Submitted(
        direction="outbound",
        protocol="ESMTP",
        tls="none",
        size_octets=len(octets),
        content=sha256(octets).hexdigest(),
        bare_newlines=False,
        recipient_count=1,
        policy=POLICY,
        recipients=("bob@customer.example",),
        **facts,
    )
    builder.append(stream, opening, octets=octets)
    builder.attempted(stream, hop="smart")
    builder.failed(stream, hop="smart")
    return stream


def test_who_was_told_of_a_failure_is_named(mailgate: Mailgate, builder: Builder) -> None:
    stream = sent(builder, reverse_path="info@example.com")
    notice = builder.notice(stream, recipient="info@example.com")
    assert explained(mailgate, stream)["Told"].endswith(f" info@example.com (failure), by message {notice}")


def test_whoever_was_told_of_mail_that_is_too_large_is_named(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.oversize()
    notice = builder.notice(stream, kind="oversize", recipient="info@example.com")
    assert explained(mailgate, stream)["Told"].endswith(f" info@example.com (oversize), by message {notice}")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, "it has the null reverse-path"),
        ({"reverse_path": "info@example.com", "notify": ("NEVER",)}, "the client asked for no report"),
    ],
)
def test_why_nobody_was_told_of_a_failure_is_said(
    facts: dict[str, Any], why: str, mailgate: Mailgate, builder: Builder
) -> None:
    assert explained(mailgate, sent(builder, **facts))["Told"] == f"nobody: {why}"


def test_that_nobody_was_told_of_a_refused_report_is_said(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded(reverse_path="")
    builder.failed(stream)
    assert explained(mailgate, stream)["Told"] == "nobody: it has the null reverse-path"


def test_only_commands_that_exist_are_proposed(stock: Stock) -> None:
    from cli.main import PLACES

    for stream in stock.ids.values():
        for line in explained(stock.mailgate, stream)["You can"].split("\n"):
            assert line.split()[0] == "mailgate"
            assert line.split()[1] in PLACES


def test_what_is_proposed_does_something(mailgate: Mailgate, builder: Builder) -> None:
    discarded = builder.downloaded()
    builder.quarantined(discarded, "spam")
    assert mailgate("discard", discarded).code == 0
    taken, nobody, both = builder.downloaded(), builder.downloaded(recipients=()), builder.downloaded()
    for stream in (taken, both):
        builder.attempted(stream)
        builder.delivered(stream)
    builder.held(nobody)
    assert mailgate("discard", nobody, "--reason", "an old list").code == 0
    assert mailgate("replay", both, "--recipients", "anna@example.com", "--to", "home").code == 0
    assert mailgate("discard", both, "--recipients", "anna@example.com").code == 0
    for stream, offered in (
        (discarded, f"replay {discarded}: deliver it again"),
        (taken, f"replay --force {taken}: deliver it again, to who has it already"),
        (nobody, f"replay --recipients ADDRESS {nobody}: deliver it to somebody"),
        (both, f"replay {both}: deliver it again"),
    ):
        *_, last = explained(mailgate, stream)["You can"].split("\n")
        assert last == f"mailgate {offered}"
        words = last.partition(":")[0].replace("ADDRESS", "dora@example.com").split()[1:]
        assert mailgate(*words, "--dry-run").code == 0
        assert "release" not in explained(mailgate, stream)["You can"]


def test_who_decided_about_what_names_nobody_is_said(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded(recipients=())
    builder.held(stream)
    mailgate("discard", stream, "--reason", "an old list", SUDO_USER="anna")
    assert explained(mailgate, stream)["Why"].endswith(" discarded by anna: an old list")


@pytest.mark.real
def test_it_asks_a_server_too(mailgate: Mailgate, postgres_url: str) -> None:
    builder = Builder(postgres_url)
    configure(mailgate.folder, postgres_url)
    stream = builder.downloaded()
    told = explained(mailgate, stream)
    assert told["Gateway"] == "none runs on this store: 'mailgate run' starts one"
    running = presence.arrive(builder.engine)
    assert explained(mailgate, stream)["Gateway"] == "runs on this store"
    others = [presence.arrive(builder.engine, one) for one in ("0badcafe", "f00dcafe")]
    assert explained(mailgate, stream)["Gateway"] == (
        "2 gateways that run were started with another configuration: restart them"
    )
    same = presence.arrive(builder.engine, load(mailgate.folder / "mailgate.toml").fingerprint)
    assert explained(mailgate, stream)["Gateway"].startswith("2 of 3 gateways that run were started with ")
    others.pop().leave()
    assert explained(mailgate, stream)["Gateway"] == (
        "1 of 2 gateways that run was started with another configuration: restart it"
    )
    for one in (running, same, *others):
        one.leave()
    builder.close()
