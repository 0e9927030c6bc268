"""Where monitoring asks, by HTTP: /metrics for Prometheus, /livez and /readyz.

In threads of its own: who asks is answered also while the event loop is busy, and learns so when it stands still. It tells
figures and names of next hops and mailboxes, and nothing of any message; it has no login, so it listens on loopback unless
told otherwise. Whoever asks, however slowly, takes no more than a few threads and descriptors from the mail.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from engine.metrics import Metrics
from engine.trouble import MetricsTrouble as MetricsTrouble

Respond = Callable[[str, list[tuple[str, str]]], Any]

CONNECTIONS: Final = 8  # at a time: some monitors and a person
SECONDS: Final = 10.0  # for a request and its answer; Prometheus waits no longer either

logger = logging.getLogger("mailgate.metrics")


class MetricsServer:
    """Answers until it is closed."""

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        """Raises MetricsTrouble."""
        self._metrics = metrics
        self._exposed = make_wsgi_app(metrics.registry)
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, port, self._answer, kind, _Quiet)
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise MetricsTrouble(f"metrics.address: can't listen on {host}:{port}: {reason}") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _text(respond, "405 Method Not Allowed", "only GET is answered here")
        match path:
            case "/metrics":
                return self._figures(environ, respond)
            case "/livez":
                alive = self._metrics.alive()
                status = "200 OK" if alive else "503 Service Unavailable"
                return _text(respond, status, "alive" if alive else "the event loop stands still")
            case "/readyz":
                trouble = self._metrics.ready()
                status = "200 OK" if trouble is None else "503 Service Unavailable"
                return _text(respond, status, trouble or "ready")
            case _:
                return _text(respond, "404 Not Found", "there are /metrics, /livez and /readyz")

    def _figures(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        try:
            exposed: Iterable[bytes] = self._exposed(environ, respond)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            text = f"the store can't be asked: {' '.join(str(error).split())}"
            return _text(respond, "503 Service Unavailable", text)
        return exposed


def _text(respond: Respond, status: str, text: str) -> list[bytes]:
    octets = f"{text}\n".encode()
    respond(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(octets)))])
    return [octets]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of few; each is cut when its time is over, whatever it is at."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._until: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, address: Any) -> None:
        with self._lock:
            full = len(self._until) >= CONNECTIONS
            if not full:
                self._until[request] = time.monotonic() + SECONDS
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:  # from here on its descriptor may be another's
            self._until.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second: end what takes too long. Whoever reads or writes there wakes up to a closed connection."""
        now = time.monotonic()
        with self._lock:
            for request, until in self._until.items():
                if now >= until:
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, _request: Any, address: Any) -> None:
        logger.debug("[%s]: went away in the middle of an answer", address[0])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def get_stderr(self) -> Any:
        """Where wsgiref writes the trace of a client that went away: nowhere."""
        return io.StringIO()

    def log_message(self, *_: Any) -> None:
        """Who looks every few seconds is not worth a line each time."""
