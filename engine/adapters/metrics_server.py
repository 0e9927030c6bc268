"""Where monitoring asks, by HTTP: /metrics for Prometheus, /livez and /readyz.

In threads of its own: who asks is answered also while the event loop is busy, and learns so when it stands still. It tells
figures and names of next hops and mailboxes, and nothing of any message; it has no login, so it listens on loopback unless
told otherwise.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from engine.metrics import Metrics
from engine.trouble import MetricsTrouble as MetricsTrouble

Respond = Callable[[str, list[tuple[str, str]]], Any]

SILENT_SECONDS = 10.0  # a client that says nothing holds a thread no longer

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
                exposed: Iterable[bytes] = self._exposed(environ, respond)
                return exposed
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


def _text(respond: Respond, status: str, text: str) -> list[bytes]:
    octets = f"{text}\n".encode()
    respond(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(octets)))])
    return [octets]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, _request: Any, address: Any) -> None:
        logger.debug("[%s]: went away in the middle of an answer", address[0])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = SILENT_SECONDS

    def log_message(self, *_: Any) -> None:
        """Who looks every few seconds is not worth a line each time."""
