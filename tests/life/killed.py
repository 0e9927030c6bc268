"""Run the real command line, and die by SIGKILL when a seam is passed for the n-th time.

    python -m tests.life.killed "after-commit downloaded" 3 --config mailgate.toml run --once

With "-" for the seam nothing kills it. The process that listens passes seams too, and counts its own: there all of the gateway
dies, or, where the seam's name ends with " alone", that process only, and each that is started in its place.
"""

import os
import signal
import sys

from engine import seams

ALONE = " alone"
PORTER = "porter"


def main() -> None:
    seam, count, *arguments = sys.argv[1:]
    listens = arguments[0] == PORTER
    alone = seam.endswith(ALONE)
    passed = 0

    def reached(name: str) -> None:
        nonlocal passed
        passed += name == seam.removesuffix(ALONE)
        if name == seam.removesuffix(ALONE) and passed == int(count):
            if listens and not alone:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    seams.reached = reached
    if listens:
        be_porter(arguments[1:])
    else:
        be_gateway(arguments, porter=("-m", "tests.life.killed", seam, count, PORTER))


def be_porter(arguments: list[str]) -> None:
    sys.argv = [PORTER, *arguments]
    from engine.porter import main as porter

    porter()


def be_gateway(arguments: list[str], porter: tuple[str, ...]) -> None:
    from engine.adapters import listener_process

    listener_process.PROGRAM = porter
    sys.argv = ["mailgate", *arguments]
    from cli.main import main as mailgate

    sys.exit(mailgate())


if __name__ == "__main__":
    main()
