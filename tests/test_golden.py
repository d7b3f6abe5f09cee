"""The golden numbers of the published system, where they lie beside this checkout; and the checker itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
CHECKER = Path(__file__).with_name("golden.py")


def test_every_golden_case_passes() -> None:
    if not (GOLDEN / "manifest.json").is_file():
        pytest.skip("no golden directory beside this checkout (shared/golden)")
    result = subprocess.run([sys.executable, str(CHECKER), str(GOLDEN)], capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    failed = [line for line in lines if line.endswith("FAIL")]
    assert result.returncode == 0, failed[:10] or result.stderr[-2000:]
    assert len(lines) > 600
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} cases pass"


@pytest.fixture(scope="module")
def checker() -> object:
    spec = importlib.util.spec_from_file_location("golden_checker", CHECKER)
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden_checker"] = module
    spec.loader.exec_module(module)
    return module


def test_the_checker_can_fail(checker) -> None:
    golden = torch.tensor([1.0, -2.0])
    assert checker.compare("same", golden.clone(), golden, 1e-5).ok
    assert checker.compare("close", golden + 1e-5, golden, 1e-5).ok
    assert not checker.compare("far", golden + 1e-3, golden, 1e-5).ok
    assert not checker.compare("nan", golden * float("nan"), golden, 1e-5).ok
    assert not checker.compare("shape", golden[:1], golden, 1e-5).ok
    assert not checker.compare("integers", torch.tensor([3]), torch.tensor([4]), 1.0).ok


def test_a_missing_directory_is_said(tmp_path, checker, capsys) -> None:
    assert checker.main([str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err
