"""Run the real command line, and die by SIGKILL when a seam is passed for the n-th time.

    python -m tests.life.killed "after-commit downloaded" 3 --config mailgate.toml run --once

With "-" for the seam nothing kills it.
"""

import os
import signal
import sys

from engine import seams


def main() -> None:
    seam, count = sys.argv[1], int(sys.argv[2])
    passed = 0

    def reached(name: str) -> None:
        nonlocal passed
        passed += name == seam
        if name == seam and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    seams.reached = reached
    sys.argv = ["mailgate", *sys.argv[3:]]
    from cli.main import main as mailgate

    sys.exit(mailgate())


if __name__ == "__main__":
    main()
