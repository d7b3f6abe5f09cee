"""``python -m sounding_video`` is the command ``sounding-video``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
