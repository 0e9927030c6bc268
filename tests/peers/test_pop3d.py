"""The POP3 peer behaves as a server should, and each fault does what it says. By poplib and raw octets."""

import base64
import poplib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers.certificates import client_context, server_context
from tests.peers.faults import Occasion
from tests.peers.pop3d import ACTIONS, Pop3Peer
from tests.peers.raw import RawClient
from tests.peers.thread import PeerThread

ONE = b"Subject: one\r\n\r\nfirst\r\n.\r\n..two dots\r\n"
TWO = b"Subject: two\r\n\r\nline 1\r\nline 2\r\nline 3\r\n"


@contextmanager
def running(
    prepare: Callable[[Pop3Peer], object] | None = None, **options: Any
) -> Iterator[tuple[Pop3Peer, int]]:
    """A peer with the user info and two messages."""
    peer = Pop3Peer(**options)
    peer.add_user("info", "secret", token="ya29")
    peer.put("info", ONE, uidl="first")
    peer.put("info", TWO, uidl="second")
    if prepare:
        prepare(peer)
    with PeerThread(peer) as port:
        yield peer, port


@contextmanager
def logged_in(port: int) -> Iterator[RawClient]:
    with RawClient(port) as client:
        assert client.line().startswith(b"+OK")
        assert client.ask(b"USER info") == b"+OK\r\n"
        assert client.ask(b"PASS secret").startswith(b"+OK")
        yield client


def closed(peer: Pop3Peer, number: int = 1) -> None:
    peer.wait_until(
        lambda: len(peer.sessions) >= number and peer.sessions[number - 1].closed_at_seconds is not None
    )


def test_poplib_reads_the_whole_mailbox() -> None:
    with running() as (peer, port):
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        assert set(client.capa()) >= {"UIDL", "TOP", "PIPELINING", "RESP-CODES"}
        client.user("info")
        client.pass_("secret")
        assert client.stat() == (2, len(ONE) + len(TWO))
        assert client.list()[1] == [b"1 %d" % len(ONE), b"2 %d" % len(TWO)]
        assert client.uidl()[1] == [b"1 first", b"2 second"]
        assert client.uidl(2) == b"+OK 2 second"
        assert client.retr(1)[1] == [b"Subject: one", b"", b"first", b".", b"..two dots"]
        assert client.top(2, 1)[1] == [b"Subject: two", b"", b"line 1"]
        client.dele(1)
        assert client.stat() == (1, len(TWO))
        client.rset()
        client.dele(2)
        client.noop()
        client.quit()
        assert peer.uidls("info") == ["first"]
        assert peer.retrievals("info") == ["first"]
        assert peer.deletions("info") == ["second"]
        assert peer.sessions[0].ended == "quit"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.lists(st.sampled_from([b"\r\n", b".", b"\n", b"\r", b"a", b"\x00", b"\xff"])).map(b"".join))
def test_retr_is_byte_exact_after_unstuffing(content: bytes) -> None:
    content += b"\r\n"
    with running(lambda peer: peer.put("info", content)) as (_, port), logged_in(port) as client:
        client.say(b"RETR 3\r\n")
        assert client.line() == b"+OK %d octets\r\n" % len(content)
        client.say(b"QUIT\r\n")
        stuffed, _, farewell = client.rest().rpartition(b".\r\n+OK")
        assert farewell == b" bye\r\n"
        assert (b"\r\n" + stuffed).replace(b"\r\n.", b"\r\n")[2:] == content
        assert b"\r\n.\r\n" not in b"\r\n" + stuffed


def test_content_without_a_last_line_ending_gets_one() -> None:
    with (
        running(lambda peer: peer.put("info", b"Subject: cut\r\n\r\nno end")) as (_, port),
        logged_in(port) as client,
    ):
        client.say(b"RETR 3\r\n")
        assert client.until(b"\r\n.\r\n").endswith(b"no end\r\n.\r\n")


def test_a_broken_session_deletes_nothing_and_frees_the_mailbox() -> None:
    with running() as (peer, port):
        with logged_in(port) as client:
            assert client.ask(b"DELE 1") == b"+OK\r\n"
        closed(peer)
        assert peer.uidls("info") == ["first", "second"]
        assert peer.sessions[0].ended == "broken"
        assert not peer.mailboxes["info"].in_use


def test_a_mailbox_in_use_is_refused_until_quit() -> None:
    with running() as (_, port), logged_in(port) as first, RawClient(port) as second:
        second.line()
        second.ask(b"USER info")
        assert second.ask(b"PASS secret").startswith(b"-ERR [IN-USE]")
        assert first.ask(b"QUIT").startswith(b"+OK")
        assert second.ask(b"PASS secret").startswith(b"+OK")


def test_a_session_does_not_see_mail_that_came_after_login() -> None:
    with running() as (peer, port), logged_in(port) as client:
        peer.put("info", ONE)
        assert client.ask(b"STAT") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))


def test_pipelined_commands_are_answered_in_order_and_noted() -> None:
    with running() as (peer, port), logged_in(port) as client:
        client.say(b"DELE 1\r\nDELE 2\r\nSTAT\r\nQUIT\r\n")
        assert client.rest() == b"+OK\r\n+OK\r\n+OK 0 0\r\n+OK bye\r\n"
        assert [command.pipelined for command in peer.commands] == [False, False, False, True, True, True]
        assert peer.deletions() == ["first", "second"]


@pytest.mark.parametrize("verb", ["CAPA", "UIDL", "TOP"])
def test_a_capability_left_out_is_neither_offered_nor_known(verb: str) -> None:
    with running(without=[verb]) as (_, port), logged_in(port) as client:
        assert client.ask(verb.encode() + (b" 1 0" if verb == "TOP" else b"")).startswith(b"-ERR")
        if verb != "CAPA":
            client.say(b"CAPA\r\n")
            assert verb.encode() not in client.until(b".\r\n").split()


def test_pipelining_can_be_left_out_and_lines_added_to_capa() -> None:
    with running(without=["PIPELINING"], extra=["LOGIN-DELAY 60", "EXPIRE 7"]) as (_, port):
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        offered = client.capa()
        client.quit()
        assert "PIPELINING" not in offered
        assert offered["LOGIN-DELAY"] == ["60"]
        assert offered["EXPIRE"] == ["7"]


def test_a_command_line_above_255_octets_is_refused() -> None:
    with running() as (_, port), RawClient(port) as client:
        client.line()
        assert client.ask(b"USER " + b"x" * 248) == b"+OK\r\n"
        assert client.ask(b"USER " + b"x" * 249).startswith(b"-ERR")


def test_commands_out_of_place_are_refused() -> None:
    with running() as (_, port), RawClient(port) as client:
        client.line()
        for command in (b"STAT", b"RETR 1", b"STLS", b"APOP info x", b"AUTH PLAIN", b"NONSENSE"):
            assert client.ask(command).startswith(b"-ERR"), command
    with running() as (_, port), logged_in(port) as client:
        for command in (b"RETR 3", b"RETR 0", b"RETR x", b"RETR \xb2", b"DELE 9", b"TOP 1", b"USER info"):
            assert client.ask(command).startswith(b"-ERR"), command


def test_implicit_tls() -> None:
    with running(tls="implicit", tls_context=server_context()) as (peer, port):
        client = poplib.POP3_SSL("127.0.0.1", port, timeout=30, context=client_context())
        client.user("info")
        client.pass_("secret")
        assert len(client.retr(1)[1]) == 5
        client.quit()
        assert peer.sessions[0].secure


def test_stls_is_offered_once_and_logins_can_be_made_to_need_it() -> None:
    with running(tls="starttls", tls_context=server_context(), login_needs_tls=True) as (_, port):
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        assert "STLS" in client.capa()
        with pytest.raises(poplib.error_proto):
            client.user("info")
        client.stls(client_context())
        assert "STLS" not in client.capa()
        client.user("info")
        client.pass_("secret")
        client.quit()


def test_what_came_before_tls_is_thrown_away() -> None:
    with running(tls="starttls", tls_context=server_context()) as (peer, port), RawClient(port) as client:
        client.line()
        client.say(b"STLS\r\nUSER injected\r\n")
        assert client.line().startswith(b"+OK")
        client.start_tls(client_context())
        assert client.ask(b"PASS secret").startswith(b"-ERR")
        client.ask(b"QUIT")
        closed(peer)
        assert not peer.said("USER")
        assert peer.sessions[0].thrown_away_octets == len(b"USER injected\r\n")


def test_apop() -> None:
    with running(apop=True) as (peer, port):
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        with pytest.raises(poplib.error_proto):
            client.apop("info", "wrong")
        client.apop("info", "secret")
        client.quit()
        assert peer.sessions[0].user == "info"


@pytest.mark.parametrize("at_once", [True, False])
def test_auth_plain_with_and_without_initial_response(at_once: bool) -> None:
    response = base64.b64encode(b"\0info\0secret")
    with running(sasl=["PLAIN"]) as (_, port), RawClient(port) as client:
        client.line()
        if at_once:
            assert client.ask(b"AUTH PLAIN " + response).startswith(b"+OK")
        else:
            assert client.ask(b"AUTH PLAIN") == b"+ \r\n"
            assert client.ask(b"*").startswith(b"-ERR")
            assert client.ask(b"AUTH PLAIN") == b"+ \r\n"
            assert client.ask(response).startswith(b"+OK")
        assert client.ask(b"STAT").startswith(b"+OK")


def test_xoauth2_takes_the_token_and_explains_a_refusal_before_the_error() -> None:
    with running(sasl=["XOAUTH2"]) as (_, port), RawClient(port) as client:
        client.line()
        client.ask(b"AUTH XOAUTH2")
        assert client.ask(base64.b64encode(b"user=info\x01auth=Bearer old\x01\x01")).startswith(b"+ ")
        assert client.ask(b"").startswith(b"-ERR [AUTH]")
        client.ask(b"AUTH XOAUTH2")
        assert client.ask(base64.b64encode(b"user=info\x01auth=Bearer ya29\x01\x01")).startswith(b"+OK")


def test_a_wrong_password_is_marked_auth() -> None:
    with running() as (_, port), RawClient(port) as client:
        client.line()
        client.ask(b"USER info")
        assert client.ask(b"PASS wrong").startswith(b"-ERR [AUTH]")


COMMANDS = {
    "capa": b"CAPA",
    "stat": b"STAT",
    "list": b"LIST",
    "uidl": b"UIDL",
    "retr": b"RETR 2",
    "top": b"TOP 2 1",
    "dele": b"DELE 2",
    "rset": b"RSET",
    "noop": b"NOOP",
    "quit": b"QUIT",
}
LONG_COMMANDS = {stage: COMMANDS[stage] for stage in ("capa", "list", "uidl", "retr", "top")}


@pytest.mark.parametrize("stage", COMMANDS)
def test_drop_closes_without_an_answer(stage: str) -> None:
    with running(lambda peer: peer.fault(stage, "drop")) as (_, port), logged_in(port) as client:
        assert client.ask(COMMANDS[stage]) == b""


@pytest.mark.parametrize("stage", COMMANDS)
def test_err_answers_with_the_text_and_the_session_goes_on(stage: str) -> None:
    with running(lambda peer: peer.fault(stage, "err", text="[SYS/TEMP] busy")) as (peer, port):
        with logged_in(port) as client:
            assert client.ask(COMMANDS[stage]) == b"-ERR [SYS/TEMP] busy\r\n"
            assert client.ask(b"NOOP") == (b"" if stage == "quit" else b"+OK\r\n")
        closed(peer)
        assert peer.uidls("info") == ["first", "second"]


@pytest.mark.parametrize("stage", COMMANDS)
def test_garbage_is_neither_ok_nor_err(stage: str) -> None:
    with running(lambda peer: peer.fault(stage, "garbage")) as (_, port), logged_in(port) as client:
        line = client.ask(COMMANDS[stage])
        assert line
        assert not line.startswith((b"+OK", b"-ERR"))


@pytest.mark.parametrize("stage", COMMANDS)
def test_an_endless_line_has_no_line_ending(stage: str) -> None:
    with (
        running(lambda peer: peer.fault(stage, "endless-line", octets=200_000)) as (_, port),
        logged_in(port) as client,
    ):
        client.say(COMMANDS[stage] + b"\r\n")
        said = client.rest()
        assert len(said) >= 200_000
        assert b"\n" not in said


@pytest.mark.parametrize("stage", COMMANDS)
def test_drop_mid_closes_amid_the_answer(stage: str) -> None:
    with running() as (_, port), logged_in(port) as client:
        client.say(COMMANDS[stage] + b"\r\nQUIT\r\n")
        whole = client.rest().removesuffix(b"+OK bye\r\n") or b"+OK bye\r\n"
    with running(lambda peer: peer.fault(stage, "drop-mid")) as (_, port), logged_in(port) as client:
        client.say(COMMANDS[stage] + b"\r\n")
        assert client.rest() == whole[: len(whole) // 2]


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stall_lasts_until_it_is_released(stage: str) -> None:
    with running() as (peer, port), logged_in(port) as client:
        stall = peer.fault(stage, "stall")
        client.say(COMMANDS[stage] + b"\r\n")
        peer.wait_until(lambda: stall.fired == 1)
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(30)
        stall.release()
        assert client.line().startswith(b"+OK")


@pytest.mark.parametrize("stage", LONG_COMMANDS)
def test_a_stall_in_the_middle_says_the_rest_when_it_is_released(stage: str) -> None:
    with running() as (peer, port), logged_in(port) as client:
        stall = peer.fault(stage, "stall-mid", octets=5)
        client.say(LONG_COMMANDS[stage] + b"\r\n")
        assert client.until(b"+OK")
        peer.wait_until(lambda: stall.stalled)
        stall.release()
        assert client.until(b"\r\n.\r\n").endswith(b"\r\n.\r\n")


def test_a_stalled_session_ends_when_the_client_leaves() -> None:
    with running() as (peer, port):
        stall = peer.fault("retr", "stall")
        with logged_in(port) as client:
            client.say(b"RETR 1\r\n")
            peer.wait_until(lambda: stall.fired == 1)
        closed(peer)
        assert peer.sessions[0].ended == "broken"


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_drip_says_everything(stage: str) -> None:
    with running(lambda peer: peer.fault(stage, "drip")) as (_, port), logged_in(port) as client:
        assert client.ask(COMMANDS[stage]).startswith(b"+OK")


@pytest.mark.parametrize("stage", LONG_COMMANDS)
def test_a_flood_goes_on_past_every_size(stage: str) -> None:
    with (
        running(lambda peer: peer.fault(stage, "flood", octets=300_000)) as (_, port),
        logged_in(port) as client,
    ):
        client.say(LONG_COMMANDS[stage] + b"\r\n")
        said = client.rest()
        assert said.startswith(b"+OK")
        assert len(said) >= 300_000
        assert b"\r\n.\r\n" not in said


def test_a_flood_ends_when_the_client_leaves() -> None:
    with running(lambda peer: peer.fault("retr", "flood")) as (peer, port):
        with logged_in(port) as client:
            client.say(b"RETR 1\r\n")
            client.line()
        closed(peer)
        assert peer.retrievals() == []


@pytest.mark.parametrize("stage", LONG_COMMANDS)
def test_no_final_dot_sends_the_rest_and_closes(stage: str) -> None:
    with running() as (_, port), logged_in(port) as client:
        client.say(LONG_COMMANDS[stage] + b"\r\n")
        whole = client.until(b"\r\n.\r\n")
    with running(lambda peer: peer.fault(stage, "no-final-dot")) as (_, port), logged_in(port) as client:
        client.say(LONG_COMMANDS[stage] + b"\r\n")
        assert client.rest() == whole[:-3]


@pytest.mark.parametrize("action", sorted(ACTIONS["connect"]))
@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_faults_at_connect_come_before_everything(action: str, tls: str) -> None:
    options: dict[str, Any] = {"tls": tls, "tls_context": server_context()} if tls == "implicit" else {}
    with running(**options) as (peer, port):
        stall = peer.fault("connect", action)
        with RawClient(port) as client:
            if action == "drop":
                assert client.rest() == b""
            else:
                peer.wait_until(lambda: stall.fired)
                stall.release()
                if tls == "implicit":
                    client.start_tls(client_context())
                assert client.line().startswith(b"+OK")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("drop", b""),
        ("drop-mid", b"+OK peer"),
        ("err", b"-ERR [SYS/TEMP] fault\r\n"),
        ("garbage", "\x00\ufffd not POP3\r\n".encode()),
        ("drip", b"+OK peer ready\r\n"),
    ],
)
def test_faults_of_the_greeting(action: str, expected: bytes) -> None:
    with running(lambda peer: peer.fault("greeting", action)) as (_, port), RawClient(port) as client:
        assert client.line() == expected


@pytest.mark.parametrize("stage", ["user", "pass"])
@pytest.mark.parametrize(("action", "expected"), [("drop", b""), ("err", b"-ERR [LOGIN-DELAY] wait\r\n")])
def test_faults_of_the_login(stage: str, action: str, expected: bytes) -> None:
    with (
        running(lambda peer: peer.fault(stage, action, text="[LOGIN-DELAY] wait")) as (_, port),
        RawClient(port) as client,
    ):
        client.line()
        if stage == "pass":
            client.ask(b"USER info")
        assert client.ask(b"USER info" if stage == "user" else b"PASS secret") == expected


def test_auth_apop_and_stls_have_faults() -> None:
    def prepare(peer: Pop3Peer) -> None:
        for stage in ("auth", "apop", "stls"):
            peer.fault(stage, "err", text=stage)

    with running(prepare, apop=True, sasl=["PLAIN"]) as (_, port), RawClient(port) as client:
        client.line()
        assert client.ask(b"AUTH PLAIN") == b"-ERR auth\r\n"
        assert client.ask(b"APOP info x") == b"-ERR apop\r\n"
        assert client.ask(b"STLS") == b"-ERR stls\r\n"


def test_lie_size_tells_another_size_for_one_message() -> None:
    with (
        running(lambda peer: peer.fault("list", "lie-size", number=2, octets=7)) as (_, port),
        logged_in(port) as client,
    ):
        client.say(b"LIST\r\n")
        assert client.until(b".\r\n") == b"+OK\r\n1 %d\r\n2 7\r\n.\r\n" % len(ONE)
        assert client.ask(b"LIST 2") == b"+OK 2 %d\r\n" % len(TWO)


def test_lie_size_is_told_in_a_single_listing_too() -> None:
    with (
        running(lambda peer: peer.fault("list", "lie-size", number=2, octets=7)) as (_, port),
        logged_in(port) as client,
    ):
        assert client.ask(b"LIST 2") == b"+OK 2 7\r\n"


@pytest.mark.parametrize(
    ("stage", "action", "number", "expected"),
    [
        ("uidl", "dup-uidl", None, b"1 first\r\n2 first\r\n"),
        ("uidl", "dup-uidl", 2, b"1 first\r\n2 first\r\n"),
        ("uidl", "repeat", 1, b"1 first\r\n1 first\r\n2 second\r\n"),
        ("uidl", "omit", 1, b"2 second\r\n"),
        ("uidl", "uidl-changes", None, b"1 1-first\r\n2 1-second\r\n"),
        ("list", "repeat", 2, b"1 %d\r\n2 %d\r\n2 %d\r\n" % (len(ONE), len(TWO), len(TWO))),
        ("list", "omit", None, b""),
    ],
)
def test_faults_of_the_listings(stage: str, action: str, number: int | None, expected: bytes) -> None:
    with (
        running(lambda peer: peer.fault(stage, action, number=number)) as (_, port),
        logged_in(port) as client,
    ):
        client.say(COMMANDS[stage] + b"\r\n")
        assert client.until(b".\r\n") == b"+OK\r\n" + expected + b".\r\n"


def test_uidl_changes_in_each_session() -> None:
    with running(lambda peer: peer.fault("uidl", "uidl-changes", times=None)) as (_, port):
        answers = []
        for _ in range(2):
            with logged_in(port) as client:
                answers.append(client.ask(b"UIDL 1"))
                client.ask(b"QUIT")
        assert answers == [b"+OK 1 1-first\r\n", b"+OK 1 2-first\r\n"]


@pytest.mark.parametrize(
    ("action", "left"), [("drop-committed", ["second"]), ("drop-undone", ["first", "second"])]
)
def test_a_dropped_quit_has_deleted_or_not_as_chosen(action: str, left: list[str]) -> None:
    with running(lambda peer: peer.fault("quit", action)) as (peer, port):
        with logged_in(port) as client:
            client.ask(b"DELE 1")
            assert client.ask(b"QUIT") == b""
        closed(peer)
        assert peer.uidls("info") == left
        assert peer.said("QUIT")[0].reply is None


def test_a_fault_strikes_only_its_message_only_so_often_and_only_after() -> None:
    with running() as (peer, port), logged_in(port) as client:
        fault = peer.fault("dele", "err", number=2, after=1, times=2)
        answers = [
            client.ask(command)[:1] for command in (b"DELE 1", b"DELE 2", b"RSET", b"DELE 2", b"DELE 2")
        ]
        assert answers == [b"+", b"+", b"+", b"-", b"-"]
        assert client.ask(b"DELE 2") == b"+OK\r\n"
        assert fault.fired == 2


def test_a_fault_can_be_for_one_user_or_one_unique_id() -> None:
    with running() as (peer, port):
        peer.add_user("sales", "secret")
        peer.fault("pass", "err", matching="sales", times=None)
        peer.fault("retr", "err", matching="second", times=None)
        with logged_in(port) as client:
            assert client.ask(b"RETR 2").startswith(b"-ERR")
            assert client.ask(b"RETR 1").startswith(b"+OK")
        with RawClient(port) as client:
            client.line()
            client.ask(b"USER sales")
            assert client.ask(b"PASS secret").startswith(b"-ERR [SYS/TEMP]")


def test_heal_takes_every_fault_back() -> None:
    with (
        running(lambda peer: peer.fault("stat", "err", times=None)) as (peer, port),
        logged_in(port) as client,
    ):
        assert client.ask(b"STAT").startswith(b"-ERR")
        peer.heal()
        assert client.ask(b"STAT").startswith(b"+OK")


@pytest.mark.parametrize(
    ("stage", "action"), [("retrieve", "drop"), ("retr", "dropped"), ("connect", "err"), ("stat", "flood")]
)
def test_a_fault_that_does_not_exist_is_an_error(stage: str, action: str) -> None:
    with pytest.raises(ValueError, match="there are"):
        Pop3Peer().fault(stage, action)


def test_a_hook_for_a_stage_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="there are"):
        Pop3Peer().on("quit-done", lambda occasion: None)


def test_hooks_run_before_the_effect_after_the_commit_and_after_the_answer() -> None:
    seen: list[tuple[str, int | None, list[str]]] = []

    def prepare(peer: Pop3Peer) -> None:
        def note(occasion: Occasion) -> None:
            seen.append((occasion.stage, occasion.number, peer.uidls("info")))

        for stage in ("dele", "quit", "quit-committed", "quit-answered"):
            peer.on(stage, note)

    with running(prepare) as (peer, port):
        with logged_in(port) as client:
            client.ask(b"DELE 2")
            client.ask(b"QUIT")
        closed(peer)
        assert seen == [
            ("dele", 2, ["first", "second"]),
            ("quit", None, ["first", "second"]),
            ("quit-committed", None, ["first"]),
            ("quit-answered", None, ["first"]),
        ]


CHILD = """
import poplib, sys
client = poplib.POP3("127.0.0.1", int(sys.argv[1]))
client.user("info")
client.pass_("secret")
client.dele(1)
client.quit()
"""


@pytest.mark.parametrize(
    ("seam", "left"),
    [
        ("dele", ["first", "second"]),
        ("quit", ["second"]),
        ("quit-committed", ["second"]),
        ("quit-answered", ["second"]),
    ],
)
def test_a_hook_can_kill_a_child_process_at_a_seam(seam: str, left: list[str]) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def kill(_occasion: Occasion) -> None:
        children[0].kill()
        children[0].wait(30)

    with running(lambda peer: peer.on(seam, kill)) as (peer, port):
        held = threading.Event()

        def wait(_occasion: Occasion) -> None:
            held.wait(30)

        peer.on("greeting", wait)
        with subprocess.Popen([sys.executable, "-c", CHILD, str(port)]) as child:
            children.append(child)
            held.set()
            child.wait(30)
        closed(peer)
        assert peer.uidls("info") == left


def test_commands_are_in_the_ledger_before_their_answer() -> None:
    with running() as (peer, port):
        noted: list[list[str]] = []
        peer.on("retr", lambda occasion: noted.append([command.verb for command in peer.commands]))
        with logged_in(port) as client:
            client.say(b"RETR 1\r\nQUIT\r\n")
            client.rest()
        closed(peer)
        assert noted == [["USER", "PASS", "RETR"]]
        times = [command.at_seconds for command in peer.commands]
        assert times == sorted(times)


def test_a_peer_can_go_away_and_come_back_at_the_same_port() -> None:
    peer = Pop3Peer()
    peer.add_user("info", "secret")
    thread = PeerThread(peer).open()
    try:
        with logged_in(thread.port) as client:
            thread.go_away()
            assert client.line() == b""
        with pytest.raises(ConnectionRefusedError):
            RawClient(thread.port)
        thread.come_back()
        with logged_in(thread.port) as client:
            assert client.ask(b"QUIT").startswith(b"+OK")
    finally:
        thread.close()


def test_an_error_in_a_hook_is_raised_when_the_peer_stops() -> None:
    peer = Pop3Peer()

    def fail(_occasion: Occasion) -> None:
        raise RuntimeError("seen")

    peer.on("greeting", fail)
    thread = PeerThread(peer).open()
    with RawClient(thread.port) as client:
        assert client.rest() == b""
    with pytest.raises(RuntimeError, match="seen"):
        thread.close()


def test_waiting_in_vain_says_for_what() -> None:
    peer = Pop3Peer()
    with pytest.raises(TimeoutError, match=r"peer\.commands"):
        peer.wait_until(lambda: peer.commands, timeout_seconds=0)


async def test_until_wakes_a_coroutine_on_the_peers_own_loop() -> None:
    peer = Pop3Peer()
    peer.add_user("info", "secret")
    port = await peer.start()
    with RawClient(port):
        await peer.until(lambda: peer.sessions)
    await peer.until(lambda: peer.sessions[0].ended == "broken")
    await peer.stop()


def test_one_answered_hook_sees_the_whole_answer_noted() -> None:
    with running() as (peer, port):
        whole: list[bool] = []
        peer.on("retr-answered", lambda occasion: whole.append(peer.said("RETR")[0].whole))
        with logged_in(port) as client:
            client.say(b"RETR 2\r\nQUIT\r\n")
            client.rest()
        closed(peer)
        assert whole == [True]
