"""What became of nodes that were renamed: newer ComfyUIs put the new node where an old workflow has the old one."""

from __future__ import annotations

from .host import Rename

# Node ids are frozen, so there is none yet; a node that must change gets a new id, and a line here.
RENAMES: tuple[Rename, ...] = ()
