"""A real spamd with a few rules of its own, GTUBE among them, and without any look-up on a network."""

from __future__ import annotations

import signal

from tests.real.process import (
    Process,
    accepts_connections,
    find_program,
    give_to,
    unprivileged,
)
from tests.real.server import Server

PILLS = b"cheap pills"  # scores 3.5

_RULES = r"""
body GTUBE /XJS\*C4JDBQADN1\.NSBN3\*2IDNEN\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\*C\.34X/
tflags GTUBE userconf noautolearn
score GTUBE 1000
body CHEAP_PILLS /cheap pills/
score CHEAP_PILLS 3.5
required_score 5
util_rb_tld com org net example
use_bayes 0
skip_rbl_checks 1
dns_available no
report_safe 0
"""


class Spamd(Server):
    """A context manager."""

    short_name = "spam"
    port = 0

    def __init__(self) -> None:
        self._program = find_program("spamd", package="spamd spamassassin")

    def _prepare(self) -> None:
        for name in ("rules", "site", "home"):
            (self.folder / name).mkdir()
        (self.folder / "rules" / "own.cf").write_text(_RULES)
        # Without it spamd ends at once.
        (self.folder / "site" / "init.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
        give_to(unprivileged(), self.folder / "home")

    def _use_ports(self, ports: list[int]) -> None:
        (self.port,) = ports

    def _launch(self) -> Process:
        user = unprivileged()
        arguments = [self._program, "--local", "--nouser-config", "--syslog=stderr"]
        arguments += [f"--listen=127.0.0.1:{self.port}", "--allowed-ips=127.0.0.1"]
        arguments += ["--min-children=1", "--max-children=2", f"--configpath={self.folder}/rules"]
        arguments += [f"--siteconfigpath={self.folder}/site", f"--helper-home-dir={self.folder}/home"]
        arguments += [f"--username={user}"] if user else []
        return Process(arguments, folder=self.folder, end_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        return accepts_connections(self.port)
