"""A real clamd that knows EICAR by one signature of its own; nothing is downloaded.

It listens on a port and on a socket in the file system, with StreamMaxLength of 1 MB.
"""

from __future__ import annotations

import signal
from pathlib import Path

from tests.peers.scanner_peer import EICAR
from tests.real.process import (
    Process,
    accepts_connections,
    accepts_connections_at,
    find_program,
    last_lines,
)
from tests.real.server import Server

STREAM_MAX_OCTETS = 1 << 20
# clamd puts .UNOFFICIAL behind every name that isn't ClamAV's own.
SIGNATURE = "Test.Eicar.UNOFFICIAL"

_CONFIG = """\
DatabaseDirectory {folder}/db
LocalSocket {folder}/clamd.ctl
LocalSocketMode 666
TCPSocket {port}
TCPAddr 127.0.0.1
Foreground true
LogFile {folder}/log
TemporaryDirectory {folder}
StreamMaxLength 1M
SelfCheck 0
ConcurrentDatabaseReload true
AlertExceedsMax true
AlertEncryptedArchive true
Bytecode false
"""


class Clamd(Server):
    """A context manager. `socket_path` is the other way in."""

    short_name = "clam"
    port = 0

    def __init__(self) -> None:
        self._program = find_program("clamd", package="clamav-daemon")

    @property
    def socket_path(self) -> Path:
        return self.folder / "clamd.ctl"

    def log(self) -> str:
        return super().log() + last_lines(self.folder / "log")

    def _prepare(self) -> None:
        (self.folder / "db").mkdir()
        (self.folder / "db" / "test.ndb").write_text(f"Test.Eicar:0:*:{EICAR.hex()}\n")

    def _use_ports(self, ports: list[int]) -> None:
        (self.port,) = ports

    def _launch(self) -> Process:
        config = self.folder / "clamd.conf"
        config.write_text(_CONFIG.format(folder=self.folder, port=self.port))
        return Process(
            [self._program, "-F", "-c", str(config)], folder=self.folder, end_signal=signal.SIGTERM
        )

    def _answers(self) -> bool:
        return accepts_connections_at(self.socket_path) and accepts_connections(self.port)
