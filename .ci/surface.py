"""Compare the nodes' frozen surface with the last release: what people's saved workflows depend on must not change.

``tests/surface.json`` holds today's surface, and a test holds it equal to the code. This looks at the file in the last
tag: since then nodes, optional inputs, choices and outputs may have been appended, and nothing else. Without a tag
there is nothing to compare. Needs git, nothing of the package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE = "tests/surface.json"


def git(*arguments: str) -> str | None:
    """What a git command prints; None when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One sentence a change that breaks saved workflows.

    Args:
        old: Surface of the last release.
        new: Surface of today.
    """
    found = []
    for node_id, before in old.items():
        if node_id not in new:
            found.append(f"{node_id} is gone")
            continue
        after = new[node_id]
        found += [f"{node_id}: {what}" for what in _ports("input", before["inputs"], after["inputs"])]
        found += [f"{node_id}: {what}" for what in _ports("output", before["outputs"], after["outputs"])]
        added = after["inputs"][len(before["inputs"]) :]
        found += [f"{node_id}: the new input {port['id']} is not optional" for port in added if not port["optional"]]
        if before["output_node"] != after["output_node"]:
            found.append(f"{node_id}: output_node was {before['output_node']}")
    return found


def _ports(kind: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[str]:
    found = []
    for index, before in enumerate(old):
        after = new[index] if index < len(new) else {"id": "nothing"}
        if after["id"] != before["id"]:
            return [*found, f"{kind} {index} was {before['id']}, is {after['id']}"]
        lost = sorted(set(before.get("options", ())) - set(after.get("options", ())))
        if lost:
            found.append(f"{kind} {before['id']} lost the choices {', '.join(lost)}")
        for key, value in before.items():
            if key != "options" and after.get(key) != value:
                found.append(f"{kind} {before['id']}: {key} was {value!r}, is {after.get(key)!r}")
    return found


def main() -> int:
    """Print what changed since the last tag; 1 when something did that must not."""
    tag = (git("describe", "--tags", "--abbrev=0", "HEAD^") or git("describe", "--tags", "--abbrev=0") or "").strip()
    if not tag:
        print("There is no release yet to compare with.")
        return 0
    before = git("show", f"{tag}:{FILE}")
    if before is None:
        print(f"The release {tag} has no {FILE}.")
        return 0
    found = changes(json.loads(before), json.loads(Path(FILE).read_text(encoding="utf-8")))
    for sentence in found:
        print(sentence)
    print(f"{len(found)} changes since {tag} break saved workflows." if found else f"Compatible with {tag}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
