"""Where the program begins: importing the rest takes a while, and Ctrl-C meanwhile is no error."""

INTERRUPTED = 130  # as the shell says it of SIGINT


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
