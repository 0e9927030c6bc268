"""The peers of clamd, spamd and rspamd answer as the real ones do, and each fault does what it says. By raw octets."""

import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.peers.clamd_peer import TOO_LARGE, VERSION, ClamdPeer
from tests.peers.raw import RawClient
from tests.peers.rspamd_peer import Judged, RspamdPeer
from tests.peers.scanner_peer import EICAR, GARBAGE, GTUBE, ScannerPeer
from tests.peers.spamd_peer import SpamdPeer
from tests.peers.thread import PeerThread


def instream(*pieces: bytes) -> bytes:
    """A message as INSTREAM wants it."""
    chunks = b"".join(len(piece).to_bytes(4) + piece for piece in pieces)
    return b"zINSTREAM\0" + chunks + bytes(4)


def spamc(command: str, octets: bytes, *headers: str) -> bytes:
    head = [f"{command} SPAMC/1.5", f"Content-length: {len(octets)}", *headers, "", ""]
    return "\r\n".join(head).encode() + octets


def post(octets: bytes, *headers: str) -> bytes:
    head = ["POST /checkv2 HTTP/1.1", f"Content-Length: {len(octets)}", *headers, "", ""]
    return "\r\n".join(head).encode() + octets


def whole(port: int, octets: bytes) -> bytes:
    """What is answered until the peer closes."""
    with RawClient(port) as client:
        client.say(octets)
        return client.rest()


def body(answer: bytes) -> dict[str, Any]:
    """The JSON in an HTTP answer, whole or in chunks."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"chunked" in head:
        rest = b"".join(rest.split(b"\r\n")[1::2])
    facts: dict[str, Any] = json.loads(rest)
    return facts


def test_clamd_commands() -> None:
    with PeerThread(peer := ClamdPeer()) as port:
        assert whole(port, b"zPING\0") == b"PONG\0"
        assert whole(port, b"nPING\n") == b"PONG\n"
        assert whole(port, b"zVERSION\0") == VERSION.encode() + b"\0"
        assert whole(port, b"zWHAT\0") == b"UNKNOWN COMMAND\0"
        assert whole(port, instream(b"a mess", b"age")) == b"stream: OK\0"
        assert whole(port, instream(b"see: ", EICAR)) == b"stream: Eicar-Test-Signature FOUND\0"
    assert [asked.octets for asked in peer.questions("INSTREAM")] == [b"a message", b"see: " + EICAR]
    assert peer.asked[0].reply == b"PONG\0"


def test_clamd_session_numbers_its_answers() -> None:
    with PeerThread(peer := ClamdPeer()) as port, RawClient(port) as client:
        client.say(b"zIDSESSION\0" + instream(b"one") + instream(EICAR) + b"zPING\0")
        assert client.until(b"\0") == b"1: stream: OK\0"
        assert client.until(b"\0") == b"2: stream: Eicar-Test-Signature FOUND\0"
        assert client.until(b"\0") == b"3: PONG\0"
        assert peer.sessions == peer.open_sessions == 1
        client.say(b"zEND\0")
        assert client.rest() == b""


def test_clamd_by_a_socket_in_the_file_system() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "clamd.ctl"
        with PeerThread(ClamdPeer(unix_path=path)), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(instream(EICAR))
            assert client.recv(1000) == b"stream: Eicar-Test-Signature FOUND\0"
        assert not path.exists()


def test_clamd_takes_no_more_than_its_limit() -> None:
    with PeerThread(ClamdPeer(stream_max_octets=10)) as port:
        assert whole(port, instream(b"x" * 10)) == b"stream: OK\0"
        assert whole(port, b"zINSTREAM\0" + (11).to_bytes(4)) == TOO_LARGE.encode() + b"\0"


def test_spamd_scores() -> None:
    peer = SpamdPeer()
    peer.scores[b"pills"] = (4.9, ("PILLS", "CHEAP"))
    with PeerThread(peer) as port:
        assert whole(port, b"PING SPAMC/1.5\r\n\r\n") == b"SPAMD/1.5 0 PONG\r\n"
        assert b"Spam: False ; 0.0 / 5.0\r\n\r\n" in whole(port, spamc("CHECK", b"a message"))
        answer = whole(port, spamc("SYMBOLS", b"pills", "User: alice"))
        assert answer.startswith(b"SPAMD/1.1 0 EX_OK\r\n")
        assert answer.endswith(b"Spam: False ; 4.9 / 5.0\r\n\r\nPILLS,CHEAP")
        assert b"Spam: True ; 1000.0 / 5.0\r\n\r\nGTUBE" in whole(port, spamc("SYMBOLS", GTUBE))
        assert b"X-Spam-Checker-Version: SpamAssassin 4.0.1" in whole(port, spamc("HEADERS", b"x"))
        assert whole(port, b"HELLO\r\n\r\n").startswith(b"SPAMD/1.0 76 ")
    assert peer.questions("SYMBOLS")[0].header("User") == "alice"
    assert peer.questions("SYMBOLS")[0].octets == b"pills"


@pytest.mark.parametrize("chunked", [False, True])
def test_rspamd_judges(chunked: bool) -> None:
    peer = RspamdPeer(chunked=chunked)
    peer.judged[b"pills"] = Judged(action="add header", score=6.5, symbols={"PILLS": 6.5})
    with PeerThread(peer) as port:
        assert whole(port, b"GET /ping HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert whole(port, b"GET /what HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        answer = whole(port, post(b"pills", "Rcpt: <a@x.example>", "Rcpt: <b@x.example>"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"Transfer-Encoding: chunked" in answer) == chunked
        facts = body(answer)
        assert (facts["action"], facts["score"], [*facts["symbols"]]) == ("add header", 6.5, ["PILLS"])
        assert body(whole(port, post(GTUBE)))["action"] == "reject"
    assert peer.questions("/checkv2")[0].all("rcpt") == ["<a@x.example>", "<b@x.example>"]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("drop", b""),
        ("drop-mid", b"strea"),
        ("garbage", GARBAGE),
        ("late", b"stream: OK\0"),
        ("drip", b"stream: OK\0"),
    ],
)
def test_faults_of_an_answer(action: str, said: bytes) -> None:
    peer = ClamdPeer()
    fault = peer.fault("answer", action, matching="bad")
    with PeerThread(peer) as port:
        assert whole(port, instream(b"good")) == b"stream: OK\0"
        assert fault.fired == 0
        assert whole(port, instream(b"bad")) == said
        assert peer.questions("INSTREAM")[1].fault == action


def test_a_reply_may_be_scripted() -> None:
    peers: list[tuple[ScannerPeer, bytes, bytes]] = [
        (ClamdPeer(), instream(b"x"), b"a word\0"),
        (SpamdPeer(), spamc("CHECK", b"x"), b"a word"),
    ]
    for peer, question, said in peers:
        peer.fault("answer", "reply", text="a word")
        with PeerThread(peer) as port:
            assert whole(port, question) == said


@pytest.mark.parametrize("action", ["reset", "reset-mid"])
def test_a_reset_is_one(action: str) -> None:
    peer = SpamdPeer()
    peer.fault("answer", action)
    with PeerThread(peer) as port, socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(spamc("CHECK", b"x" * 10))
        with pytest.raises(ConnectionResetError):
            client.makefile("rb").read()


@pytest.mark.parametrize(("action", "ended"), [("drop", b""), ("stall", b"stream: OK\0")])
def test_faults_amid_the_message(action: str, ended: bytes) -> None:
    peer = ClamdPeer()
    fault = peer.fault("content", action, octets=3)
    with PeerThread(peer) as port, RawClient(port) as client:
        client.say(b"zINSTREAM\0" + (5).to_bytes(4) + b"1234")
        peer.wait_until(lambda: fault.fired)
        if action == "stall":
            peer.wait_until(lambda: fault.stalled)
            fault.release()
            client.say(b"5" + bytes(4))
        assert client.rest() == ended


def test_what_stays_unanswered() -> None:
    peer = RspamdPeer()
    peer.unanswered.add("/ping")
    with PeerThread(peer) as port, RawClient(port) as client:
        client.say(b"GET /ping HTTP/1.1\r\n\r\n")
        peer.wait_until(lambda: peer.asked)
        assert b'"no action"' in whole(port, post(b"x"))
        assert peer.asked[0].reply is None


def test_a_peer_that_is_down_refuses_and_comes_back() -> None:
    thread = PeerThread(ClamdPeer()).open()
    thread.go_away()
    with pytest.raises(ConnectionRefusedError):
        RawClient(thread.port)
    thread.come_back()
    assert whole(thread.port, b"zPING\0") == b"PONG\0"
    thread.close()


def test_many_ask_at_once() -> None:
    with PeerThread(peer := SpamdPeer(keep_octets=False)) as port:
        answers: list[bytes] = []
        clients = [
            threading.Thread(target=lambda: answers.append(whole(port, spamc("CHECK", b"x" * 300_000))))
            for _ in range(8)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert len(answers) == 8
        assert all(b"False ; 0.0" in answer for answer in answers)
        assert [asked.size_octets for asked in peer.asked] == [300_000] * 8
        assert all(asked.octets is None for asked in peer.asked)
