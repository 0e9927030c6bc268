"""Run many commands one after the other in one process, through the same door as a person's.

python -m tests.life.many --config mailgate.toml    # a JSON list of arguments a line, answers a line each
"""

import contextlib
import io
import json
import sys

from cli.main import main as mailgate


def main() -> None:
    first = sys.argv[1:]
    for line in sys.stdin:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        sys.argv = ["mailgate", *first, *json.loads(line)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = mailgate()
        out.flush()
        said = out.buffer.getvalue().decode("utf-8", "replace")
        print(json.dumps({"code": code, "out": said, "err": err.getvalue()}), flush=True)


if __name__ == "__main__":
    main()
