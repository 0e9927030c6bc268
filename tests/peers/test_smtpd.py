"""The SMTP peer behaves as a server should, and each fault does what it says. By smtplib and raw octets."""

import base64
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers.certificates import client_context, server_context
from tests.peers.faults import Occasion
from tests.peers.raw import RawClient
from tests.peers.smtpd import HomePeer, read_ledger
from tests.peers.thread import PeerThread

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@contextmanager
def running(
    prepare: Callable[[HomePeer], object] | None = None, **options: Any
) -> Iterator[tuple[HomePeer, int]]:
    peer = HomePeer(**options)
    if prepare:
        prepare(peer)
    with PeerThread(peer) as port:
        yield peer, port


@contextmanager
def greeted(port: int) -> Iterator[RawClient]:
    with RawClient(port) as client:
        assert client.line().startswith(b"220 ")
        assert ask(client, b"EHLO gate.example").startswith(b"250-")
        yield client


def ask(client: RawClient, line: bytes) -> bytes:
    client.say(line + b"\r\n")
    return client.reply()


def open_data(client: RawClient, *recipients: bytes) -> bytes:
    """A transaction up to the answer to DATA."""
    ask(client, b"MAIL FROM:<a@out.example>")
    for recipient in recipients or (b"b@home.example",):
        ask(client, b"RCPT TO:<" + recipient + b">")
    return ask(client, b"DATA")


def send(client: RawClient, *recipients: bytes) -> bytes:
    """A whole transaction; the answer to the final dot."""
    assert open_data(client, *recipients).startswith(b"354")
    return ask(client, MAIL + b".")


def closed(peer: HomePeer) -> None:
    peer.wait_until(lambda: peer.sessions and peer.sessions[-1].closed_at_seconds is not None)


def test_smtplib_delivers() -> None:
    with running() as (peer, port):
        with smtplib.SMTP("127.0.0.1", port, local_hostname="gate.example", timeout=30) as client:
            content = b"Subject: one\r\n\r\n.\r\n..two\r\nend\r\n"
            refused = client.sendmail("a@out.example", ["b@home.example", "c@home.example"], content)
            assert refused == {}
            assert client.esmtp_features["size"] == "36000000"
            assert {"pipelining", "8bitmime", "smtputf8"} <= client.esmtp_features.keys()
        closed(peer)
        (entry,) = peer.ledger
        assert entry.reverse_path == "a@out.example"
        assert entry.recipients == ("b@home.example", "c@home.example")
        assert entry.octets == content
        assert entry.helo == "gate.example"
        assert entry.mail_parameters == (f"size={len(content)}",)
        assert peer.taken_for("c@home.example") == [entry]
        assert peer.sessions[0].quit
        assert peer.sessions[0].messages == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.lists(st.sampled_from([b"\r\n", b".", b"\n", b"\r", b"a", b"\x00", b"\xff"])).map(b"".join),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_content_is_byte_exact_and_only_crlf_dot_crlf_ends_it(content: bytes, cuts: list[int]) -> None:
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    wire = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    with running() as (peer, port), greeted(port) as client:
        open_data(client)
        edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        for start, end in pairwise(edges):
            client.say(wire[start:end])
        assert client.reply().startswith(b"250 2.0.0")
        assert peer.ledger[0].octets == content


def test_a_lone_lf_or_cr_does_not_end_the_content_and_is_noted() -> None:
    with running() as (peer, port), greeted(port) as client:
        open_data(client)
        client.say(b"Subject: x\r\n\r\nsmuggled\n.\nMAIL FROM:<evil@x.example>\r\n\r.\r\n.\n\r\n.\r\n")
        assert client.reply().startswith(b"250")
        assert len(peer.ledger) == 1
        assert peer.ledger[0].has_bare_line_endings
        assert len(peer.said("MAIL")) == 1
        assert send(client).startswith(b"250")
        assert not peer.ledger[1].has_bare_line_endings


def test_pipelined_transactions_are_answered_in_order_and_noted() -> None:
    with running() as (peer, port), greeted(port) as client:
        client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@home.example>\r\nDATA\r\n")
        assert [client.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        client.say(MAIL + b".\r\nQUIT\r\n")
        assert [client.reply()[:3] for _ in range(2)] == [b"250", b"221"]
        assert peer.ledger[0].reverse_path == ""
        assert [(command.verb, command.pipelined) for command in peer.commands] == [
            ("EHLO", False),
            ("MAIL", False),
            ("RCPT", True),
            ("DATA", True),
            (".", False),
            ("QUIT", True),
        ]


@pytest.mark.parametrize(
    ("size", "offered"), [(1000, b"SIZE 1000"), (0, b"SIZE 0"), ("bare", b"SIZE"), (None, None)]
)
def test_size_is_offered_as_asked(size: int | str | None, offered: bytes | None) -> None:
    with running(size_octets=size) as (_, port), RawClient(port) as client:
        client.line()
        lines = [line[4:] for line in ask(client, b"EHLO x").splitlines()]
        assert [line for line in lines if line.startswith(b"SIZE")] == ([offered] if offered else [])


def test_size_is_kept_at_mail_and_at_the_final_dot() -> None:
    with running(size_octets=len(MAIL) - 1) as (peer, port), greeted(port) as client:
        assert ask(client, b"MAIL FROM:<a@out.example> SIZE=%d" % len(MAIL)).startswith(b"552 5.3.4")
        assert send(client).startswith(b"552 5.3.4")
        assert peer.ledger == []


def test_a_hidden_limit_shows_only_after_the_content() -> None:
    with running(hidden_limit_octets=len(MAIL) - 1) as (peer, port), greeted(port) as client:
        assert ask(client, b"MAIL FROM:<a@out.example> SIZE=%d" % len(MAIL)).startswith(b"250")
        ask(client, b"RSET")
        assert send(client).startswith(b"552 5.3.4")
        assert peer.ledger == []


@pytest.mark.parametrize(
    "parameter", [b"SIZE=1", b"BODY=8BITMIME", b"SMTPUTF8", b"RET=HDRS", b"ENVID=x", b"X=1"]
)
def test_parameters_of_what_is_not_offered_are_refused(parameter: bytes) -> None:
    with running(extensions=["PIPELINING"], size_octets=None) as (_, port), greeted(port) as client:
        assert ask(client, b"MAIL FROM:<a@out.example> " + parameter).startswith(b"555")


def test_parameters_of_what_is_offered_are_taken() -> None:
    with running(extensions=["8BITMIME", "SMTPUTF8", "DSN"]) as (peer, port), greeted(port) as client:
        mail = "MAIL FROM:<jürgen@out.example> BODY=8BITMIME SMTPUTF8 SIZE=9 RET=HDRS".encode()
        assert ask(client, mail).startswith(b"250")
        assert ask(client, b"RCPT TO:<b@home.example> NOTIFY=NEVER").startswith(b"250")
        ask(client, b"DATA")
        assert ask(client, MAIL + b".").startswith(b"250")
        assert peer.ledger[0].reverse_path == "jürgen@out.example"
        assert peer.ledger[0].mail_parameters == ("BODY=8BITMIME", "SMTPUTF8", "SIZE=9", "RET=HDRS")


def test_dsn_parameters_at_rcpt_need_dsn() -> None:
    with running() as (_, port), greeted(port) as client:
        ask(client, b"MAIL FROM:<>")
        assert ask(client, b"RCPT TO:<b@home.example> NOTIFY=NEVER").startswith(b"555")


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    with running() as (_, port), greeted(port) as client:
        assert ask(client, "MAIL FROM:<jürgen@out.example>".encode()).startswith(b"553 5.6.7")


def test_recipients_above_the_limit_are_deferred_one_by_one() -> None:
    with running(max_recipients=2) as (peer, port), greeted(port) as client:
        ask(client, b"MAIL FROM:<>")
        replies = [ask(client, b"RCPT TO:<r%d@home.example>" % number)[:9] for number in range(4)]
        assert replies == [b"250 2.1.5", b"250 2.1.5", b"452 4.5.3", b"452 4.5.3"]
        ask(client, b"DATA")
        ask(client, MAIL + b".")
        assert peer.ledger[0].recipients == ("r0@home.example", "r1@home.example")


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"RCPT TO:<b@home.example>"], b"503"),
        ([b"DATA"], b"503"),
        ([b"MAIL FROM:<>", b"DATA"], b"554"),
        ([b"MAIL FROM:<>", b"MAIL FROM:<>"], b"503"),
        ([b"MAIL FROM:a@out.example"], b"501"),
        ([b"MAIL FROM:<>", b"RCPT TO:<>"], b"501"),
        ([b"STARTTLS"], b"502"),
        ([b"AUTH PLAIN"], b"504"),
        ([b"NONSENSE"], b"500"),
        ([b'MAIL FROM:<"a>b"@out.example>'], b"250"),
        ([b"MAIL FROM:<>", b"RSET", b"RCPT TO:<b@home.example>"], b"503"),
    ],
)
def test_commands_out_of_place_or_malformed_are_refused(lines: list[bytes], code: bytes) -> None:
    with running() as (_, port), greeted(port) as client:
        assert [ask(client, line) for line in lines][-1][:3] == code


def test_mail_needs_a_greeting_and_helo_will_do() -> None:
    with running() as (_, port), RawClient(port) as client:
        client.line()
        assert ask(client, b"MAIL FROM:<>").startswith(b"503")
        assert ask(client, b"HELO gate.example") == b"250 home.example\r\n"
        assert ask(client, b"MAIL FROM:<>").startswith(b"250")


def test_starttls_is_offered_once_and_can_be_needed() -> None:
    with running(tls="starttls", tls_context=server_context(), tls_needed=True) as (peer, port):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo()
            assert client.mail("a@out.example")[0] == 530
            client.starttls(context=client_context())
            client.ehlo()
            assert "starttls" not in client.esmtp_features
            client.sendmail("a@out.example", ["b@home.example"], MAIL)
        assert peer.ledger[0].secure


def test_what_came_before_tls_is_thrown_away() -> None:
    with running(tls="starttls", tls_context=server_context()) as (peer, port), greeted(port) as client:
        client.say(b"STARTTLS\r\nMAIL FROM:<injected@x.example>\r\n")
        assert client.reply().startswith(b"220")
        client.start_tls(client_context())
        assert ask(client, b"MAIL FROM:<>").startswith(b"503")
        assert ask(client, b"EHLO again").startswith(b"250")
        assert ask(client, b"QUIT").startswith(b"221")
        closed(peer)
        assert [command.argument for command in peer.said("MAIL")] == ["FROM:<>"]
        assert peer.sessions[0].thrown_away_octets == len(b"MAIL FROM:<injected@x.example>\r\n")


def test_implicit_tls() -> None:
    with running(tls="implicit", tls_context=server_context()) as (peer, port):
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=30, context=client_context()) as client:
            client.sendmail("a@out.example", ["b@home.example"], MAIL)
        assert peer.ledger[0].secure


def test_a_client_that_breaks_off_the_handshake_leaves_no_trouble() -> None:
    with running(tls="implicit", tls_context=server_context()) as (peer, port):
        with RawClient(port) as client:
            client.say(b"this is not TLS\r\n")
        closed(peer)
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=30, context=client_context()) as second:
            assert second.noop()[0] == 250


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_auth_admits_the_user_and_nobody_else(mechanism: str) -> None:
    with running(users={"gate": "secret"}, login_needed=True) as (peer, port):
        client = smtplib.SMTP("127.0.0.1", port, timeout=30)
        client.ehlo()
        assert client.mail("a@out.example")[0] == 530
        client.esmtp_features["auth"] = mechanism
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("gate", "wrong")
        client.login("gate", "secret")
        client.sendmail("a@out.example", ["b@home.example"], MAIL)
        client.quit()
        assert peer.ledger[0].user == "gate"


def test_auth_without_initial_response_can_be_taken_back() -> None:
    with running(users={"gate": "secret"}) as (_, port), greeted(port) as client:
        assert ask(client, b"AUTH PLAIN") == b"334 \r\n"
        assert ask(client, b"*").startswith(b"501")
        assert ask(client, b"AUTH PLAIN") == b"334 \r\n"
        assert ask(client, base64.b64encode(b"\0gate\0secret")).startswith(b"235")


def test_auth_waits_for_tls_where_tls_is_needed() -> None:
    options: dict[str, Any] = {"tls": "starttls", "tls_context": server_context(), "tls_needed": True}
    with running(users={"gate": "secret"}, **options) as (_, port), RawClient(port) as client:
        client.line()
        assert b"AUTH" not in ask(client, b"EHLO x")
        assert ask(client, b"AUTH PLAIN x").startswith(b"530")


# What to say to reach a stage, after EHLO; the last line is the one that reaches it.
LINES = {
    "ehlo": [b"EHLO x"],
    "helo": [b"HELO x"],
    "starttls": [b"STARTTLS"],
    "auth": [b"AUTH PLAIN " + base64.b64encode(b"\0gate\0secret")],
    "mail": [b"MAIL FROM:<a@out.example>"],
    "rcpt": [b"MAIL FROM:<a@out.example>", b"RCPT TO:<b@home.example>"],
    "data": [b"MAIL FROM:<a@out.example>", b"RCPT TO:<b@home.example>", b"DATA"],
    "dot": [b"MAIL FROM:<a@out.example>", b"RCPT TO:<b@home.example>", b"DATA", MAIL + b"."],
    "rset": [b"RSET"],
    "noop": [b"NOOP"],
    "quit": [b"QUIT"],
}


@contextmanager
def reaching(stage: str) -> Iterator[tuple[HomePeer, RawClient, bytes]]:
    """A peer, a client one line before the stage, and that line."""
    *before, line = LINES[stage]
    options: dict[str, Any] = {
        "tls": "starttls",
        "tls_context": server_context(),
        "users": {"gate": "secret"},
    }
    with running(**options) as (peer, port), greeted(port) as client:
        for earlier in before:
            assert ask(client, earlier)[:1] in b"23"
        yield peer, client, line


@pytest.mark.parametrize("stage", LINES)
def test_reply_answers_with_code_and_text_and_has_no_effect(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "reply", code=550, text="5.7.1 not you")
        assert ask(client, line) == b"550 5.7.1 not you\r\n"
        assert ask(client, b"NOOP").startswith(b"250")
        assert peer.ledger == []


@pytest.mark.parametrize("stage", LINES)
def test_421_answers_and_closes(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "421")
        client.say(line + b"\r\n")
        assert client.rest() == b"421 4.3.2 closing\r\n"
        assert peer.ledger == []


@pytest.mark.parametrize("stage", LINES)
def test_drop_closes_without_an_answer_and_without_effect(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "drop")
        client.say(line + b"\r\n")
        assert client.rest() == b""
        assert peer.ledger == []


@pytest.mark.parametrize("stage", sorted(set(LINES) - {"starttls"}))
def test_drop_mid_closes_amid_the_reply(stage: str) -> None:
    with reaching(stage) as (_, client, line):
        whole = ask(client, line)
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "drop-mid")
        client.say(line + b"\r\n")
        assert client.rest() == whole[: len(whole) // 2]


@pytest.mark.parametrize("stage", sorted(set(LINES) - {"starttls"}))
def test_answer_drop_answers_and_closes(stage: str) -> None:
    with reaching(stage) as (_, client, line):
        whole = ask(client, line)
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "answer-drop")
        client.say(line + b"\r\n")
        assert client.rest() == whole


@pytest.mark.parametrize("stage", LINES)
def test_a_stall_has_no_effect_until_it_is_released(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        stall = peer.fault(stage, "stall")
        client.say(line + b"\r\n")
        peer.wait_until(lambda: stall.fired)
        assert peer.ledger == []
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(30)
        stall.release()
        assert client.reply()[:1] in b"23"
        assert len(peer.ledger) == (1 if stage == "dot" else 0)


@pytest.mark.parametrize("stage", LINES)
def test_garbage_has_no_reply_code(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "garbage")
        client.say(line + b"\r\n")
        assert not client.line()[:3].isdigit()


@pytest.mark.parametrize("stage", LINES)
def test_an_endless_line_has_no_line_ending(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "endless-line", octets=200_000)
        client.say(line + b"\r\n")
        said = client.rest()
        assert len(said) >= 200_000
        assert b"\n" not in said


@pytest.mark.parametrize("stage", sorted(set(LINES) - {"starttls"}))
def test_a_drip_says_everything(stage: str) -> None:
    with reaching(stage) as (peer, client, line):
        peer.fault(stage, "drip")
        assert ask(client, line)[:1] in b"23"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("reply", b"554 5.3.2 closed\r\n"),
        ("421", b"421 5.3.2 closed\r\n"),
        ("drop", b""),
        ("drip", b"220 home.example ESMTP peer\r\n"),
        ("drop-mid", b"220 home.examp"),
    ],
)
def test_faults_of_the_banner(action: str, expected: bytes) -> None:
    with running() as (peer, port):
        peer.fault("banner", action, code=554, text="5.3.2 closed")
        with RawClient(port) as client:
            assert client.line() == expected
            if action in ("drip", "reply"):
                assert ask(client, b"NOOP").startswith(b"250")
            else:
                assert client.rest() == b""


@pytest.mark.parametrize("action", ["drop", "stall"])
def test_faults_at_connect_come_before_everything(action: str) -> None:
    with running() as (peer, port):
        fault = peer.fault("connect", action)
        with RawClient(port) as client:
            if action == "drop":
                assert client.rest() == b""
            else:
                peer.wait_until(lambda: fault.fired)
                fault.release()
                assert client.line().startswith(b"220")


def test_commit_drop_takes_the_message_and_says_nothing() -> None:
    with reaching("dot") as (peer, client, line):
        peer.fault("dot", "commit-drop")
        client.say(line + b"\r\n")
        assert client.rest() == b""
        assert [entry.octets for entry in peer.ledger] == [MAIL]
        assert peer.said(".")[0].reply is None


def test_late_takes_the_message_at_once_and_answers_when_released() -> None:
    with reaching("dot") as (peer, client, line):
        late = peer.fault("dot", "late")
        client.say(line + b"\r\n")
        peer.wait_until(lambda: peer.ledger)
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(30)
        late.release()
        assert client.reply().startswith(b"250")


def test_a_late_answer_nobody_waits_for_leaves_the_message_taken() -> None:
    with running() as (peer, port):
        peer.fault("dot", "late")
        with greeted(port) as client:
            open_data(client)
            client.say(MAIL + b".\r\n")
            peer.wait_until(lambda: peer.ledger)
        closed(peer)
        assert len(peer.ledger) == 1
        assert peer.said(".")[0].reply is None


def test_drop_amid_the_content_takes_nothing() -> None:
    with running() as (peer, port), greeted(port) as client:
        peer.fault("content", "drop", octets=4)
        open_data(client)
        client.say(b"Subj")
        assert client.rest() == b""
        assert peer.ledger == []
        assert not peer.said(".")


def test_a_stall_amid_the_content_stops_reading() -> None:
    with running() as (peer, port), greeted(port) as client:
        stall = peer.fault("content", "stall")
        open_data(client)
        client.say(b"x")
        peer.wait_until(lambda: stall.fired)
        # A loopback connection holds some megabytes; a peer that reads on would take all of this.
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.say(b"x" * 64 * 1024 * 1024)
        client.socket.settimeout(30)
        stall.release()
        client.say(b"\r\n.\r\n")
        client.reply()
        assert peer.said(".")


def test_a_fault_matches_a_recipient_or_a_reverse_path_by_substring() -> None:
    with running() as (peer, port), greeted(port) as client:
        peer.fault("rcpt", "reply", matching="nobody@", code=550, text="5.1.1 who?", times=None)
        peer.fault("dot", "reply", matching="evil", code=554, text="5.7.1 spam", times=None)
        assert send(client, b"nobody@home.example", b"b@home.example").startswith(b"250")
        assert peer.ledger[0].recipients == ("b@home.example",)
        assert ask(client, b"MAIL FROM:<evil@out.example>").startswith(b"250")
        ask(client, b"RCPT TO:<b@home.example>")
        ask(client, b"DATA")
        assert ask(client, MAIL + b".") == b"554 5.7.1 spam\r\n"
        assert len(peer.ledger) == 1


def test_a_fault_is_once_or_so_many_times_or_always() -> None:
    with running() as (peer, port), greeted(port) as client:
        peer.fault("noop", "reply", code=451)
        assert [ask(client, b"NOOP")[:3] for _ in range(3)] == [b"451", b"250", b"250"]
        peer.fault("noop", "reply", code=452, times=2)
        assert [ask(client, b"NOOP")[:3] for _ in range(3)] == [b"452", b"452", b"250"]
        peer.fault("noop", "reply", code=453, times=None, after=1)
        assert [ask(client, b"NOOP")[:3] for _ in range(4)] == [b"250", b"453", b"453", b"453"]


@pytest.mark.parametrize(("stage", "action"), [("rcpt", "commit-drop"), ("connect", "421"), ("eof", "drop")])
def test_a_fault_that_does_not_exist_is_an_error(stage: str, action: str) -> None:
    with pytest.raises(ValueError, match="there are"):
        HomePeer().fault(stage, action)


def test_the_ledger_file_has_the_message_before_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    at_answer: list[int] = []

    def count(_occasion: Occasion) -> None:
        at_answer.append(len(read_ledger(path)))

    with running(lambda peer: peer.on("dot-taken", count), ledger_file=path) as (peer, port):
        with greeted(port) as client:
            assert send(client).startswith(b"250")
            peer.fault("dot", "commit-drop")
            open_data(client)
            client.say(b"Subject: \xff\r\n.\r\n")
            assert client.rest() == b""
        assert at_answer == [1, 2]
        assert read_ledger(path) == peer.ledger
        assert peer.ledger[1].octets == b"Subject: \xff\r\n"


def test_hooks_see_the_ledger_before_at_and_after_taking() -> None:
    seen: list[tuple[str, int, bool]] = []

    def prepare(peer: HomePeer) -> None:
        def note(occasion: Occasion) -> None:
            answered = peer.said(".")[0].reply is not None
            seen.append((occasion.stage, len(peer.ledger), answered))

        for stage in ("dot", "dot-taken", "dot-answered"):
            peer.on(stage, note)

    with running(prepare) as (_, port), greeted(port) as client:
        send(client)
        ask(client, b"QUIT")
    assert seen == [("dot", 0, False), ("dot-taken", 1, False), ("dot-answered", 1, True)]


async def test_a_hook_may_be_a_coroutine() -> None:
    peer = HomePeer()
    seen: list[str] = []

    async def note(occasion: Occasion) -> None:
        seen.append(occasion.stage)

    peer.on("banner", note)
    port = await peer.start()
    with RawClient(port):
        await peer.until(lambda: seen)
    await peer.stop()
    assert seen == ["banner"]
