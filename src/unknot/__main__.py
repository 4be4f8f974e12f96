"""``python -m unknot`` and the command ``unknot``."""

import sys


def main() -> None:
    """Run the command; an interruption while it is being loaded ends as one later on."""
    try:
        from unknot.cli.app import main as run
    except KeyboardInterrupt:
        print("unknot: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
