"""An OAuth 2.0 token introspection service (RFC 7662) for Dovecot's XOAUTH2 and OAUTHBEARER."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

LONGEST_REQUEST_OCTETS = 65536  # a form with one token in it


class Introspection:
    """Says which tokens are good and whose they are. Answers on 127.0.0.1 until `stop`."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """`tokens`: access token to user name."""
        known = dict(tokens)

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length", 0)), LONGEST_REQUEST_OCTETS)
                (token,) = parse_qs(self.rfile.read(length).decode()).get("token", [""])
                user = known.get(token)
                said = {"active": False} if user is None else {"active": True, "username": user}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: standard error belongs to pytest."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/introspect"

    def stop(self) -> None:
        """End the service."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
