"""A gateway as an organisation has it: a configuration, a store, a mailbox and a home server that are really there.

Owns the peers and the folder. The command line runs as a process of its own, as a person runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import schema
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer
from tests.peers.thread import PeerThread

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2"
PROCESS_SECONDS = 120  # ends a hung test; a command takes a second or two

LETTER = b"From: Anna <anna@demo.example>\r\nTo: info@example.com\r\nSubject: letter %d\r\n\r\nDear all\r\n"


class Installation:
    """`mailbox` and `home` are the peers; `folder` holds mailgate.toml."""

    def __init__(self, folder: Path, store_url: str, mailbox: Pop3Peer, home: HomePeer) -> None:
        self.folder = folder
        self.store_url = store_url
        self.mailbox = mailbox
        self.home = home
        self.mailbox_port = 0
        self.home_port = 0

    @property
    def file(self) -> Path:
        return self.folder / "mailgate.toml"

    def configure(
        self, *, mailbox: str = "", next_hop: str = "", more: str = "", users: str = "info"
    ) -> None:
        """Write the configuration; the arguments are lines to add, `users` names the mailboxes."""
        text = f"""
            [gateway]
            hostname = "gate.example.com"
            postmaster = "postmaster@example.com"
            domains = ["example.com"]
            [store]
            url = "{self.store_url}"
            [next_hop.home]
            host = "127.0.0.1"
            port = {self.home_port}
            {next_hop if "tls" in next_hop else 'tls = "none"'}
            """
        for user in users.split():
            text += f"""
            [[mailbox]]
            name = "{user}"
            host = "127.0.0.1"
            port = {self.mailbox_port}
            username = "{user}"
            password = "{PASSWORD}"
            recipients = ["{user}@example.com"]
            {mailbox if "tls =" in mailbox else f'tls = "none"{os.linesep}{mailbox}'}
            """
        self.file.write_text(text + more)
        self.file.chmod(0o600)

    def make_store(self) -> None:
        """Make the store, as `mailgate db upgrade` does."""
        schema.make(self.store_url)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cli.main", "--config", str(self.file), *words]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILGATE_")}
        return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "250", "TZ": "UTC"}

    def mailgate(self, *words: str, code: int | None = 0) -> str:
        """Run a command to its end; returns what it printed, stderr behind stdout. `code` None is any."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS,
            check=False,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        assert code in (None, done.returncode), f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def rows(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """Run a command with --json; returns the objects it printed."""
        printed = self.mailgate(*words, "--json", code=code)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run the gateway; yields when it says that it runs. Killed at the end if it still runs."""
        process = subprocess.Popen(
            self.command("run", *words),
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if " running with " in line:
                    break
            yield process
        finally:
            process.kill()
            process.communicate()

    def put(self, count: int = 1, user: str = "info") -> None:
        """New mail for a mailbox."""
        for _ in range(count):
            self.mailbox.put(user, LETTER % (self.mailbox._uidls_given + 1))


@contextmanager
def installed(
    folder: Path,
    store_url: str,
    *,
    mailbox: Pop3Peer | None = None,
    home: HomePeer | None = None,
    users: str = "info",
) -> Iterator[Installation]:
    """Start the peers, write a configuration; everything ends with the block."""
    installation = Installation(folder, store_url, mailbox or Pop3Peer(), home or HomePeer())
    for user in users.split():
        installation.mailbox.add_user(user, PASSWORD)
    with PeerThread(installation.mailbox) as pop3, PeerThread(installation.home) as smtp:
        installation.mailbox_port, installation.home_port = pop3, smtp
        installation.configure(users=users)
        yield installation
