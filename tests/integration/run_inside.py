"""Runs tests inside a ComfyUI's own interpreter: ``run_inside.py FOLDER NODEID…``; see ``conftest.py``.

That interpreter knows what ComfyUI needs; what only tests need is taken from FOLDER, where it has none of its own.
Prints one line a test that starts with the record separator: node id, outcome and text as JSON.
"""

import json
import sys

del sys.path[0]  # this file's folder
sys.path.append(sys.argv[1])
import pytest  # noqa: E402


class Tell:
    """Says what became of each test."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The call, and a set-up or a tear-down that went wrong."""
        if report.when != "call" and report.passed:
            return
        text = report.longrepr[2] if report.skipped else report.longreprtext
        line = {"nodeid": report.nodeid, "outcome": report.outcome, "text": text}
        print("\n\x1e" + json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", "-s", *sys.argv[2:]], plugins=[Tell()]))
