"""What a bundle says of itself: what it is, what it shows, and how to check it without mailgate."""

from __future__ import annotations

TEXT = """\
The life of one message that passed through mailgate, a mail gateway, as it is on record there.

  message {message}, exported {exported_at} by {program}

  summary.txt   its life in words: times, replies, TLS facts. For reading; what counts is in events.json.
  events.json   the events as they are stored: facts (data), personal facts (personal), and what proves them.
  proof.json    a seal of the whole log, and for each event what shows that it is under that seal; if there is one.
  message.eml   the octets as they arrived, if they are still kept.
  SHA256SUMS    for 'sha256sum -c SHA256SUMS': whether the file came over whole. It proves nothing else.

With mailgate, on any machine, without a store or a configuration:

  mailgate audit check FILE --seal SEAL        # SEAL: the seal that you were given before, and kept
  mailgate audit check FILE --public-key KEY   # or: the key of who seals there

What it shows. Each event's hash covers its facts, a salted digest of its personal facts, and the event before it: nothing in
between can be missing or changed. The seal's root covers the hashes of all events up to a position (a Merkle tree as in RFC
6962): an event under it stood in the log, at its place, when the seal was made. So compare the seal with one that was kept
where nobody can change it who can change the store; otherwise the bundle only agrees with itself. It does not show that the
gateway told the truth when it wrote an event, nor, by the seal alone, when that was; nor that nothing came after its last event.

By hand, where the bundle is unpacked: the sha256 of message.eml is "content" in the first event's data, and

  python3 - <<'END'
{script}END

Of a seal that is signed (Ed25519), the signature covers these four lines, each ended by a line feed:

  mailgate seal 1
  position {{position}}
  root {{root}}
  at {{at}}
"""

SCRIPT = """\
import json
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from os.path import exists

def sha(octets): return sha256(octets).digest()
def octets(text): return bytes.fromhex(text)

began = datetime(1970, 1, 1, tzinfo=timezone.utc)
events, before = json.load(open("events.json"))["events"], bytes(32)
for e in events:
    at = (datetime.fromisoformat(e["at"].replace("Z", "+00:00")) - began) // timedelta(microseconds=1)
    head = [e["stream"], e["revision"], e["name"], e["version"], at, e["digest"]]
    framed = json.dumps(head, separators=(",", ":"), ensure_ascii=False)
    before = sha(before + framed.encode() + e["data"].encode())
    assert before.hex() == e["hash"], e["revision"]
    if e["personal"] is not None:
        assert sha(octets(e["salt"]) + e["personal"].encode()).hex() == e["digest"], e["revision"]
print(len(events), "events: the chain holds")
if exists("proof.json"):
    proof = json.load(open("proof.json"))
    marks = {e["position"]: octets(e["hash"]) for e in events}
    for one in proof["inclusion"]:
        node, path = sha(bytes([0]) + marks[one["position"]]), [octets(text) for text in one["path"]]
        index, size = one["position"] - 1, proof["seal"]["position"]
        while size > 1:
            if index ^ 1 < size:
                other = path.pop(0)
                node = sha(bytes([1]) + (other + node if index & 1 else node + other))
            index, size = index >> 1, (size + 1) >> 1
        assert node.hex() == proof["seal"]["root"] and not path, one["position"]
    print(len(proof["inclusion"]), "of them are under the root", proof["seal"]["root"])
"""


def readme(message: str, exported_at: str, program: str) -> str:
    """Return the text of README.txt."""
    return TEXT.format(message=message, exported_at=exported_at, program=program, script=SCRIPT)
