"""Complete pyproject.toml for the Comfy registry, in a checkout that is about to be published and thrown away.

The registry wants the repository's address and the icon's; both follow from where the workflow runs, so that a fork
publishes itself. The tag must be the package's version.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def complete(pyproject: str, *, repository: str, tag: str, version: str) -> str:
    """The text with addresses filled in.

    Args:
        pyproject: Text of pyproject.toml.
        repository: For example ``https://github.com/someone/ComfyUI-SoundingVideo``.
        tag: The release's tag, ``v`` and the version.
        version: The package's version.

    Raises:
        SystemExit: the tag is not the version, or the file already names a repository.
    """
    if tag != f"v{version}":
        raise SystemExit(f"The tag is {tag}, the version is {version}: tag v{version}, or change __version__.")
    if "[project.urls]" in pyproject:
        raise SystemExit("pyproject.toml already has [project.urls].")
    icon = re.search(r'^Icon = "(?P<path>[^":]+)"$', pyproject, re.MULTILINE)
    if icon is None:
        raise SystemExit("pyproject.toml names no icon file.")
    pyproject = pyproject.replace(icon[0], f'Icon = "{repository}/raw/{tag}/{icon["path"]}"')
    return pyproject + f'\n[project.urls]\nRepository = "{repository}"\n'


def main() -> None:
    """Rewrite pyproject.toml from the workflow's environment."""
    found = re.search(r'^__version__ = "(.+)"$', Path("__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    path = Path("pyproject.toml")
    text = complete(
        path.read_text(encoding="utf-8"), repository=repository, tag=os.environ["GITHUB_REF_NAME"], version=found[1]
    )
    path.write_text(text, encoding="utf-8")
    print(f"{repository} at {os.environ['GITHUB_REF_NAME']}", file=sys.stderr)


if __name__ == "__main__":
    main()
