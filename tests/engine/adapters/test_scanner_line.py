"""A scanner's line where the connection takes its time."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from engine.adapters.scanner_line import ScannerLine
from engine.settings.addresses import TcpAddress


@pytest.fixture
def busy() -> Iterator[socket.socket]:
    """A server whose backlog is full: whoever connects has to wait until it accepts."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        with socket.create_connection(server.getsockname()):
            yield server


def line_to(server: socket.socket) -> ScannerLine:
    return ScannerLine(TcpAddress(host="127.0.0.1", port=server.getsockname()[1]))


def serve(server: socket.socket) -> None:
    """Let who waits in, and answer the second."""
    first, _ = server.accept()
    second, _ = server.accept()
    with first, second:
        second.sendall(b"heard: " + second.recv(100))


async def test_a_connection_that_takes_its_time(busy: socket.socket) -> None:
    heard: list[bytes] = []
    asking = asyncio.create_task(line_to(busy).converse([b"hello"], lambda octets: not heard.append(octets)))
    await asyncio.sleep(0.05)
    assert not asking.done()
    server = threading.Thread(target=serve, args=(busy,))
    server.start()
    await asking
    server.join()
    assert heard == [b"heard: hello"]


async def test_a_connection_that_is_given_up(busy: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await line_to(busy).converse([b"hello"], lambda _: True)
