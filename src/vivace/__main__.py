"""Run the command line as `vivace` or `python -m vivace`."""

import sys


def main() -> None:
    """Import the command line and run it; Ctrl-C while it is imported is no traceback either."""
    try:
        from vivace.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
