"""The process that reads, as whoever starts it sees it: frames in, frames out, and its end."""

import signal
import subprocess
import sys

import msgspec

from engine.attachment_reader.frames import LENGTH, Answer, Task
from tests.engine.attachment_reader.samples import SLOW, attached

TASK = Task(names=("*.exe",), types=(), archives=True, memory_octets=512 << 20, seconds=60)
HANG_SECONDS = 60  # only a hang takes so long


def frame(octets: bytes) -> bytes:
    return LENGTH.pack(len(octets)) + octets


def process(octets: bytes) -> tuple[int, list[Answer]]:
    """Give a process these octets and then the end; returns its exit code and its answers."""
    command = [sys.executable, "-P", "-m", "engine.attachment_reader"]
    done = subprocess.run(command, check=False, input=octets, capture_output=True, timeout=HANG_SECONDS)
    answers = []
    rest = done.stdout
    while rest:
        (length,) = LENGTH.unpack_from(rest)
        answers.append(msgspec.json.decode(rest[LENGTH.size :][:length], type=Answer))
        rest = rest[LENGTH.size + length :]
    assert done.stderr == b""
    return done.returncode, answers


def test_it_is_ready_answers_each_message_and_ends_with_its_input() -> None:
    evil, fine = frame(attached("a.exe", b"x")), frame(attached("a.txt", b"x"))
    code, answers = process(frame(msgspec.json.encode(TASK)) + evil + fine + frame(b""))
    assert code == 0
    assert [answer.rule for answer in answers] == [None, "name *.exe", None, None]


def test_input_that_is_cut_off_is_the_end() -> None:
    task = frame(msgspec.json.encode(TASK))
    assert process(b"") == (0, [])
    assert process(task[:-1]) == (0, [])
    assert process(task + LENGTH.pack(10) + b"x") == (0, [Answer()])


def test_it_ends_itself_where_a_message_takes_too_long() -> None:
    task = msgspec.structs.replace(TASK, seconds=1)
    code, answers = process(frame(msgspec.json.encode(task)) + frame(SLOW))
    assert code == -signal.SIGALRM
    assert answers == [Answer()]
