"""What a node says while it works: the words of the running stage, and how often something extra may happen."""

from __future__ import annotations

import pytest
from sounding_video.nodes.download import DownloadModels
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.common import Pace, StageClock
from sounding_video.nodes.loaders import LoadBridge
from sounding_video.nodes.lora import LoadLora
from sounding_video.nodes.telling import REPORT_KEY


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def told(clock, steps, *, stage="sample", total=50, seconds=1.0, stages=None):
    """What is said at each of the steps, one ``seconds`` after the other."""
    stages = stages or StageClock(clock)
    said = []
    for done in steps:
        clock.seconds += seconds
        said.append(stages.text(stage, done, total))
    return said


def test_the_rest_is_reckoned_from_the_steps_after_the_first(clock):
    stages = StageClock(clock)
    assert stages.text("sample", 0, 50) is None
    clock.seconds += 20  # the first step warms up
    assert stages.text("sample", 1, 50) == "sampling 1 of 50"
    clock.seconds += 2
    assert stages.text("sample", 2, 50) == "sampling 2 of 50, 1 min 36 s left"
    clock.seconds += 1
    assert stages.text("sample", 3, 50) == "sampling 3 of 50, 1 min 10 s left"


def test_short_stages_say_nothing_and_long_ones_sum_up(clock):
    assert told(clock, range(1, 51), seconds=0.001) == [None] * 50
    assert told(clock, [1, 2, 3], total=3) == [None, "sampling 2 of 3, 1 s left", "sampling: 3 in 2 s"]


def test_the_last_stage_is_the_one_that_is_summed_up(clock):
    stages = StageClock(clock)
    assert told(clock, [1, 2], stage="preview", total=2, stages=stages) == [None, None]
    assert told(clock, [0, 1, 2], stage="preview", total=2, stages=stages)[-1] == "fitting preview: 2 in 2 s"
    assert told(clock, [0, 1, 2], seconds=0.125, total=2, stages=stages) == [None, None, "sampling: 2 in 1 s"]


def test_it_speaks_twice_a_second_at_most(clock):
    said = [text for text in told(clock, range(1, 101), total=200, seconds=0.125) if text]
    assert len(said) == 24  # twelve and a half seconds; the first half second is silent


def test_a_new_stage_and_a_new_run_start_over(clock):
    stages = StageClock(clock)
    told(clock, [1, 2], stages=stages)
    assert told(clock, [1, 2], stage="decode", total=9, stages=stages) == [None, "decoding 2 of 9, 7 s left"]
    assert told(clock, [1, 2], stage="decode", total=9, stages=stages) == [None, "decoding 2 of 9, 7 s left"]
    assert told(clock, [1, 2], stage="unheard of", total=4, stages=stages)[1] == "unheard of 2 of 4, 2 s left"


def test_an_extra_takes_a_twentieth_of_the_time(clock):
    pace = Pace(share=0.05, every_seconds=0.5, now=clock)
    spent = begun = 0.0
    start = clock.seconds
    for _ in range(2000):
        clock.seconds += 0.1
        if pace.due():
            begun += 1
            with pace.measured():
                clock.seconds += 0.2
                spent += 0.2
    assert begun > 10
    assert spent / (clock.seconds - start) == pytest.approx(0.05, rel=0.1)


def test_a_cheap_extra_is_still_not_done_all_the_time(clock):
    pace = Pace(every_seconds=0.5, now=clock)
    begun = 0
    for _ in range(80):
        clock.seconds += 0.125
        if pace.due():
            begun += 1
            with pace.measured():
                pass
    assert begun == 20


def test_every_node_that_says_something_says_it_under_one_key(small_models_dir):
    with standalone.session(standalone.Session((small_models_dir,), device="cpu")):
        read = LoadBridge.execute("bridge.safetensors", "from file")
        planned = DownloadModels.execute("wan-1.3b", download_now=False)
        alone = LoadLora.execute(None, "none", 1.0)
    for output in (read, planned, alone):
        sentences = output.ui[REPORT_KEY]
        assert sentences and all(sentence.strip() and "\n" not in sentence for sentence in sentences)
    assert read.ui["text"] == (read.args[0].summary(),), "queue clients read it there"
    assert planned.ui[REPORT_KEY] == [line for line in planned.args[0].splitlines() if line]
    assert alone.ui[REPORT_KEY] == ["no LoRA chosen"]
