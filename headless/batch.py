"""Many workflows over one or several ComfyUI servers: a work queue that loses nothing when a server dies."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import Cancelled, InputError, ServerError, SoundingVideoError
from ..core.progress import SILENT, Progress
from .client import RECONNECT_SECONDS, RunLostError, ServerGoneError, queue_workflow, require_address
from .report import RunReport

_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """One workflow of a batch.

    Args:
        name: For the user.
        graph: API format.
        extra_data: What the request carries beside it, the page-format twin in it where there is one.
    """

    name: str
    graph: Mapping[str, Any]
    extra_data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Args:
        job: The job.
        server: Where it ran last; None when no server took it.
        report: Its outputs, None when it failed.
        error: Why it failed.
        seconds: From the start of its last run.
    """

    job: Job
    server: str | None
    report: RunReport | None = None
    error: SoundingVideoError | None = None
    seconds: float = 0.0


def run_batch(
    jobs: Sequence[Job],
    servers: Sequence[str],
    *,
    output_dir: str | Path = "output",
    progress: Progress = SILENT,
    timeout_seconds: float | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
    on_result: Callable[[JobResult], None] = lambda result: None,
) -> list[JobResult]:
    """Run every job once, as many at a time as there are servers.

    A failed job stands in the results and the others go on. A server that does not answer, or is lost on the way, gets
    nothing more; its job goes to the front of the queue for another one. A job that two servers were lost with has
    failed: it may be what takes them down.

    Args:
        jobs: At least one.
        servers: Addresses, each different.
        output_dir: Where downloads go.
        progress: Told "jobs" done; asked four times a second whether to stop, which stops every server's run.
        timeout_seconds: Longest wait for one job.
        reconnect_seconds: How long a lost server is tried again before its job goes to another.
        on_result: Given each result when it is there, in the order of finishing, never two at once.

    Returns:
        Results in the order of the jobs.

    Raises:
        InputError: no job, or one server named twice.
        ServerError: an address that is none.
        Cancelled: the user stopped it here.
    """
    names = [server.rstrip("/") for server in servers]
    if not jobs or len(set(names)) != len(names) or not names:
        raise InputError(
            "the batch cannot be shared out",
            got=f"{len(jobs)} jobs, servers {', '.join(servers) or 'none'}",
            expected="at least one job, and servers that all differ",
        )
    for server in servers:
        require_address(server)
    batch = _Batch(list(jobs), progress, on_result)
    settings = {
        "output_dir": output_dir,
        "timeout_seconds": timeout_seconds,
        "reconnect_seconds": reconnect_seconds,
    }
    with ThreadPoolExecutor(len(names)) as pool:
        workers = [pool.submit(batch.work, server, settings) for server in names]
        try:
            for worker in workers:
                worker.result()
        except BaseException:
            batch.stop()
            raise
    return batch.results()


@dataclass
class _Batch:
    """What the workers share.

    Args:
        jobs: In the order given.
        progress: The caller's.
        on_result: The caller's.
    """

    jobs: list[Job]
    progress: Progress
    on_result: Callable[[JobResult], None]
    _waiting: deque[int] = field(init=False)
    _done: dict[int, JobResult] = field(default_factory=dict)
    _lost: dict[int, JobResult] = field(default_factory=dict)
    _running: int = 0
    _stopped: bool = False
    _change: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._waiting = deque(range(len(self.jobs)))

    def stop(self) -> None:
        """Let every worker stop its run and end."""
        self._stopped = True

    def work(self, server: str, settings: Mapping[str, Any]) -> None:
        """Take jobs until there are none, or the server is gone."""
        while (index := self._take()) is not None:
            started = time.monotonic()
            try:
                result = self._run(self.jobs[index], server, settings)
            except BaseException:
                self.stop()
                self._give_back()
                raise
            result = JobResult(result.job, server, result.report, result.error, time.monotonic() - started)
            gone = isinstance(result.error, ServerGoneError)
            if gone and not self._deadly(index, result):
                self._give_back(index, result)
            else:
                self._finish(index, result)
            if gone:
                return

    def _run(self, job: Job, server: str, settings: Mapping[str, Any]) -> JobResult:
        quiet = Progress(check_cancelled=self._check)
        try:
            report = queue_workflow(server, job.graph, extra_data=job.extra_data, progress=quiet, **settings)
            return JobResult(job, server, report)
        except Cancelled as error:
            self._check()  # stopped here: the whole batch ends; stopped there: this job has failed
            return JobResult(job, server, error=error)
        except SoundingVideoError as error:
            return JobResult(job, server, error=error)

    def _deadly(self, index: int, result: JobResult) -> bool:
        """Whether this is the second server that was lost with the job on it."""
        before = self._lost.get(index)
        return isinstance(result.error, RunLostError) and before is not None and isinstance(before.error, RunLostError)

    def _check(self) -> None:
        if self._stopped:
            raise Cancelled
        self.progress.check_cancelled()

    def _take(self) -> int | None:
        """The next job; while others run, theirs may still come back."""
        with self._change:
            while not self._waiting and self._running:
                self._check()
                self._change.wait(_POLL_SECONDS)
            self._check()
            if not self._waiting:
                return None
            self._running += 1
            return self._waiting.popleft()

    def _give_back(self, index: int | None = None, result: JobResult | None = None) -> None:
        with self._change:
            self._running -= 1
            if index is not None:
                self._waiting.appendleft(index)
                self._lost[index] = result
            self._change.notify_all()

    def _finish(self, index: int, result: JobResult) -> None:
        with self._change:
            self._running -= 1
            self._done[index] = result
            self._change.notify_all()
            self.on_result(result)
            self.progress.report("jobs", len(self._done), len(self.jobs))

    def results(self) -> list[JobResult]:
        """Results in the order of the jobs; a job for which no server was left has failed."""
        return [self._done.get(index) or self._unserved(index) for index in range(len(self.jobs))]

    def _unserved(self, index: int) -> JobResult:
        lost = self._lost.get(index)
        if lost is not None:
            return lost
        error = ServerError("no server is left for this job", remedy="Start one and queue the job again.")
        return JobResult(self.jobs[index], None, error=error)
