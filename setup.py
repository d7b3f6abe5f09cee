"""The repository root is the package ``sounding_video``; everything else stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

ROOMS = (
    "captions",
    "cli",
    "core",
    "evaluation",
    "headless",
    "media",
    "models",
    "nodes",
    "sampling",
    "tasks",
    "training",
    "world",
)
PATTERNS = [pattern for room in ROOMS for pattern in (room, f"{room}.*")]
DATA = [
    "web/**/*",
    "locales/**/*",
    "models/pocket/**/*",
    "workflows/**/*",
    "subgraphs/*",
    "captions/prompts/*",
    "captions/english/*",
    "captions/lexicon/*",
    "training/launch/*",
    "evaluation/classifiers/*",
]

setup(
    packages=["sounding_video", *(f"sounding_video.{name}" for name in find_namespace_packages(".", include=PATTERNS))],
    package_data={"sounding_video": DATA},
)
