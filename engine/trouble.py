"""What keeps the gateway from starting as configured."""

from __future__ import annotations


class MetricsTrouble(Exception):
    """Nobody can ask for metrics as configured. One line for a person."""
