"""A real rspamd without its rules, its database and the network: what is left judges by the GTUBE patterns.

GTUBE is rejected; the same with Y in front gets "add header", with Z "rewrite subject". Its log tells who was said
to have sent what to whom.
"""

from __future__ import annotations

import os
import signal

from tests.real.process import (
    Process,
    accepts_connections,
    find_program,
    give_to,
    last_lines,
)
from tests.real.server import Server

_USER = "_rspamd"  # Debian's package makes it

# Its own list of domains' ends takes ten seconds to compile.
_ENDS = "com\norg\nnet\nexample\n"

_CONFIG = """\
options {{ filters = ""; pidfile = "{run}/pid"; rundir = "{run}"; tempdir = "{run}"; hs_cache_dir = "{run}";
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 0; }}
  control_socket = "{run}/control mode=0600"; enable_test_patterns = true; url_tld = "{run}/ends"; }}
logging {{ type = "file"; filename = "{run}/log"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
metric {{ name = "default"; actions {{ reject = 15; add_header = 6; greylist = 4; }} }}
lua = "{run}/seen.lua";
"""

# A rule of our own that tells what was passed along.
_SEEN = """\
rspamd_config:register_symbol({ name = 'SEEN', score = 0.5, callback = function(task)
  local ip, from, to = task:get_from_ip(), task:get_from('smtp'), task:get_recipients('smtp')
  local function addresses(list)
    local found = {}
    for _, one in ipairs(list or {}) do table.insert(found, one.addr) end
    return table.concat(found, '+')
  end
  local told = { tostring(ip), task:get_helo() or '', task:get_user() or '', addresses(from), addresses(to) }
  return true, 1.0, table.concat(told, '|')
end })
"""


class Rspamd(Server):
    """A context manager."""

    short_name = "rspam"
    port = 0

    def __init__(self) -> None:
        self._program = find_program("rspamd", package="rspamd")

    def log(self) -> str:
        return super().log() + last_lines(self.folder / "run" / "log")

    def seen(self) -> str:
        """All of its log, not only the end of it."""
        return (self.folder / "run" / "log").read_text(errors="replace")

    def _prepare(self) -> None:
        run = self.folder / "run"
        run.mkdir()
        (run / "ends").write_text(_ENDS)
        (run / "seen.lua").write_text(_SEEN)
        give_to(self._user(), run)

    def _user(self) -> str | None:
        return _USER if os.geteuid() == 0 else None

    def _use_ports(self, ports: list[int]) -> None:
        (self.port,) = ports

    def _launch(self) -> Process:
        config = self.folder / "rspamd.conf"
        config.write_text(_CONFIG.format(run=self.folder / "run", port=self.port))
        user = self._user()
        arguments = [self._program, "-f", "-c", str(config)]
        arguments += ["-u", user, "-g", user] if user else []
        return Process(arguments, folder=self.folder, end_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        return accepts_connections(self.port)
