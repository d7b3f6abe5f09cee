"""``python -m sounding_video`` is the command ``sounding-video``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command; Ctrl-C while it is still being imported ends it in the same words as later.

    Returns:
        The exit code.
    """
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("stopped by the user.\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
