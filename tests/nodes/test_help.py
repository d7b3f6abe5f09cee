"""Every help page shows its node and gives an example."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from sounding_video.headless.graph import node_classes


@pytest.mark.parametrize("node_id", sorted(node_classes()))
def test_a_help_page_has_a_picture_and_an_example(root, node_id):
    folder = root / "web" / "docs"
    page = (folder / f"{node_id}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert f"img/{node_id}.jpg" in pictures
    for name in pictures:
        with Image.open(folder / name) as picture:
            assert 200 <= picture.width <= 1280
        assert (folder / name).stat().st_size < 100_000
    example = page.partition("## Example")[2].partition("\n## ")[0]
    assert len(example.split()) >= 10


def test_no_picture_is_left_over(root):
    folder = root / "web" / "docs"
    assert {file.stem for file in (folder / "img").iterdir()} == set(node_classes())
