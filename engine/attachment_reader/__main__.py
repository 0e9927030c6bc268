"""The process: reads a task, then message after message, until its input ends.

Ends by itself where it takes too long or its memory does not suffice: who asked sees that, and starts another one.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from engine.attachment_reader.frames import LENGTH, Answer, Task
from engine.attachment_reader.reading import read
from engine.core.attachments import Rules


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the input ends."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # a whole group may get them: who asked ends us by ending the input
        signal.signal(number, signal.SIG_IGN)
    first = _frame(source)
    if first is None:
        return
    task = msgspec.json.decode(first, type=Task)
    resource.setrlimit(resource.RLIMIT_AS, (task.memory_octets, task.memory_octets))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rules = Rules(task.names, task.types)
    _send(sink, Answer())  # ready
    while True:
        octets = _frame(source)
        if octets is None:
            return
        signal.alarm(task.seconds)
        answer = _answer(octets, rules, task)
        signal.alarm(0)
        _send(sink, answer)


def _answer(octets: bytes, rules: Rules, task: Task) -> Answer:
    try:
        return read(octets, rules, archives=task.archives)
    except MemoryError:
        return Answer(unread="the message takes too much memory to read")


def _send(sink: BinaryIO, answer: Answer) -> None:
    octets = msgspec.json.encode(answer)
    sink.write(LENGTH.pack(len(octets)) + octets)
    sink.flush()


def _frame(source: BinaryIO) -> bytes | None:
    """The next frame; None where the input ends."""
    length = source.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    (octets,) = LENGTH.unpack(length)
    frame = source.read(octets)
    return frame if len(frame) == octets else None


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
