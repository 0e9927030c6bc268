"""Memory stays bounded whatever comes: many large messages at once, data without end, thousands of small ones.

What counts is the most that the gateway's process ever had resident (VmHWM), read just before it is stopped.
"""

from collections import Counter
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from tests.life.gateway import running
from tests.life.house import House, house, mail, original
from tests.life.test_hostile import add_mailbox
from tests.peers.smtpd import HomePeer

MIB = 1 << 20
LIMIT_OCTETS = 400 * MIB  # with the default budget of 256 MiB for mail
SMALL_LIMIT_OCTETS = 150 * MIB  # where there is little mail at once
LARGE_OCTETS = 35_000_000
LARGE = 10
SMALL = 2_000


def large(number: int) -> bytes:
    """A large message with dots to be stuffed, another for each number."""
    head = mail(number)
    line = b"." + b"%d " % number + b"y" * 70 + b"\r\n"
    return head + line * ((LARGE_OCTETS - len(head)) // len(line))


def test_ten_large_messages_at_once_stay_within_the_budget(tmp_path: Path, database_url: str) -> None:
    with house(tmp_path, database_url, home=HomePeer(size_octets=50_000_000)) as opened, ExitStack() as stack:
        expected = Counter[str]()
        for number in range(LARGE):
            peer = add_mailbox(stack, opened, f"box{number}", 0)
            peer.put(f"box{number}", large(number))
            expected[sha256(peer.mailboxes[f"box{number}"].messages[0].octets).hexdigest()] += 1
        assert opened.run("db", "upgrade").returncode == 0
        with running(opened) as gateway:
            opened.home.wait_until(lambda: len(opened.home.ledger) == LARGE, 120)
            for number in range(LARGE):
                gateway.says(f"mailbox box{number}: 1 downloaded")
            opened.home.wait_until(lambda: all(c.reply for c in opened.home.said(".")))
            peak = gateway.peak_octets()
            assert gateway.stop() == 0
        assert digests(opened) == expected
        assert opened.problems() == []
    print(f"{database_url.partition(':')[0]}: {peak / MIB:.0f} MiB")
    assert peak < LIMIT_OCTETS


def digests(opened: House) -> Counter[str]:
    return Counter(sha256(original(taken.octets)).hexdigest() for taken in opened.home.ledger)
