"""Laws over every registry of the house, and over every registered variant."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import sounding_video
from sounding_video.core.errors import InputError
from sounding_video.core.registry import Registry


def _registries() -> dict[str, Registry]:
    """Every registry that watches a package's files, by the package's name: found, so that none can be forgotten."""
    found = {}
    for info in pkgutil.walk_packages(sounding_video.__path__, "sounding_video."):
        if info.ispkg:
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, Registry) and value._package == info.name:
                    found[info.name.removeprefix("sounding_video.")] = value
    return found


REGISTRIES = _registries()
VARIANTS = [(package, name) for package, registry in REGISTRIES.items() for name in registry]


def test_no_role_is_without_variants():
    assert len(REGISTRIES) > 10
    assert [package for package, registry in REGISTRIES.items() if not registry.names()] == []


@pytest.mark.parametrize(("package", "name"), VARIANTS)
def test_each_file_registers_its_own_name(package, name):
    variant = REGISTRIES[package].get(name)
    assert variant.__module__ == f"sounding_video.{package}.{name}"
    assert REGISTRIES[package].get(name) is variant


@pytest.mark.parametrize("package", REGISTRIES)
def test_a_miss_lists_the_choices(package):
    registry = REGISTRIES[package]
    with pytest.raises(InputError) as caught:
        registry.get("aditive")
    assert f"unknown {registry.role}: got 'aditive'" in str(caught.value)
    assert ", ".join(registry.names()) in str(caught.value)


def test_a_duplicate_is_refused():
    registry: Registry[type] = Registry("thing")
    registry.register("one")(int)
    with pytest.raises(InputError, match="two things are registered under one name: got one; expected"):
        registry.register("one")(float)
    assert registry.get("one") is int


def test_a_key_must_be_the_files_name(tmp_path, monkeypatch):
    """A real package on disk: a good variant, a wrongly named one, a helper that is no variant."""
    package = tmp_path / "pack_of_things"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from sounding_video.core.registry import Registry\nTHINGS = Registry('thing', __name__)\n"
    )
    (package / "good.py").write_text("from . import THINGS\n@THINGS.register('good')\nclass Good: pass\n")
    (package / "bad.py").write_text("from . import THINGS\n@THINGS.register('other')\nclass Bad: pass\n")
    (package / "_helper.py").write_text("raise RuntimeError('a helper was imported as a variant')\n")
    (package / "base.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    things = importlib.import_module("pack_of_things").THINGS
    assert things.names() == ["bad", "good"]
    assert things.get("good").__name__ == "Good"
    with pytest.raises(InputError, match="a thing's name must be its file's name: got other; expected bad"):
        things.get("bad")


def test_names_are_listed_without_importing_variants(python_with_package):
    """The nodes list their choices from the names; that must not load every variant."""
    code = """
from sounding_video.models.bridges import BRIDGES
names = BRIDGES.names()
assert 'dual_cross' in names and len(names) >= 5
print([name for name in sys.modules if name.startswith('sounding_video.models.bridges.')])
"""
    out, err = python_with_package(code).communicate(timeout=60)
    assert out.strip() == "[]", err
