"""The table of what metrics say on true clips has a row for every metric."""

from __future__ import annotations

import importlib.util

from sounding_video.evaluation.metrics import METRICS


def test_every_metric_has_its_rows(root) -> None:
    spec = importlib.util.spec_from_file_location("metrics_on_truth", root / "benchmarks" / "metrics_on_truth.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert set(script.WANTED) == set(METRICS.names())
    for name, values in script.WANTED.items():
        given = METRICS.get(name)().summarise([])
        assert set(values) <= set(given), name
