"""Does it fit? Answered from shapes alone, before anything big is loaded.

:mod:`.outline` gives the real modules without weights, :mod:`.tracking` counts what their real forward keeps alive,
:mod:`.needs` turns both into bytes a stage, :mod:`.plans` orders the ways to run and picks one that fits.
"""

from __future__ import annotations
