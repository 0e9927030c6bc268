"""Who gives an order, for the record."""

from __future__ import annotations

import getpass
import os


def operator() -> str:
    """Return who asks: the user of the system, also behind sudo."""
    from engine.recognition import OURSELVES

    name = os.environ.get("SUDO_USER") or getpass.getuser()
    # The gateway's own recognitions bear its name; a person who works under that name is none of them.
    return f"user {name}" if name == OURSELVES else name
