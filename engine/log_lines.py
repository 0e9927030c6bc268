"""What the log looks like: a record a line on stderr. Every process of the gateway writes it in this way."""

from __future__ import annotations

import logging
import time

LOGGER = "mailgate"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the log to stderr, a record a line: time, level, text."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # A lost connection is told by who used it; the driver adds an object's address to it.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.getLogger(LOGGER).setLevel(level)


class OneLine(logging.Formatter):
    """A record as one line; of an error, what it is and where, not the whole way there."""

    def format(self, record: logging.LogRecord) -> str:
        """Return "2026-07-30T09:15:02.123Z INFO text"."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = " ".join(record.getMessage().split())
        if record.exc_info and record.exc_info[1] is not None:
            text += _whereabouts(record.exc_info[1])
        return f"{at}.{int(record.msecs):03}Z {record.levelname} {text}"


def _whereabouts(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return f" ({type(error).__name__})"
    code = trace.tb_frame.f_code
    return f" ({type(error).__name__} at {code.co_filename}:{trace.tb_lineno})"
