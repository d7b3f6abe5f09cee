"""A batch over several servers, and a table of prompts, against small real HTTP servers."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sounding_video.core.errors import Cancelled, InputError, ServerError, WorkflowError
from sounding_video.core.progress import Progress
from sounding_video.headless.batch import Job, run_batch
from sounding_video.headless.client import RunLostError
from sounding_video.headless.table import checked_rows, read_table, row_graph

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)


def jobs(*texts):
    return [Job(text, {"1": {"class_type": "Foreign", "inputs": {"text": text}}}) for text in texts]


@pytest.fixture
def farm():
    """Starts servers; gives each with its address."""
    with ExitStack() as stack:

        def start(seconds=0.02, **settings):
            server = servers.Farm(seconds, **settings)
            return server, stack.enter_context(servers.running(server.application()))

        yield start


def test_two_servers_share_a_batch(farm, tmp_path):
    (first, first_url), (second, second_url) = farm(), farm()
    names = [f"job{number}" for number in range(8)]
    told, seen = [], []
    progress = Progress(lambda stage, done, total, preview=None: told.append((stage, done, total)))
    results = run_batch(
        jobs(*names), [first_url, second_url + "/"], output_dir=tmp_path, progress=progress, on_result=seen.append
    )
    assert [result.job.name for result in results] == names
    assert sorted(path.name for result in results for path in result.report.files) == [f"{name}.txt" for name in names]
    assert sorted(first.seen + second.seen) == names
    assert first.seen and second.seen
    assert told == [("jobs", number, 8) for number in range(1, 9)]
    assert len(seen) == 8


def test_jobs_that_write_one_name_keep_all_files(farm, tmp_path):
    urls = [farm()[1] for _ in range(3)]
    results = run_batch(jobs(*["same"] * 9), urls, output_dir=tmp_path)
    paths = {path for result in results for path in result.report.files}
    assert len(paths) == len(list(tmp_path.iterdir())) == 9


def test_a_failed_job_does_not_hold_up_the_others(farm, tmp_path):
    server, url = farm()
    results = run_batch(jobs("a", "fail", "interrupt", "b"), [url], output_dir=tmp_path)
    assert [result.error is None for result in results] == [True, False, False, True]
    assert "failed on the server: got no [Bad]" in str(results[1].error)
    assert "interrupted on the server" in str(results[2].error)
    assert server.seen == ["a", "fail", "interrupt", "b"], "what failed is not tried again"


def test_a_dead_server_s_job_goes_to_another(farm, tmp_path):
    """It does one job and dies at its second, which the other one does then, beside its own."""
    (dying, dying_url), (living, living_url) = farm(dies_at=2), farm(seconds=0.2)
    names = ["a", "b", "c", "d", "e"]
    results = run_batch(jobs(*names), [dying_url, living_url], output_dir=tmp_path, reconnect_seconds=0.3)
    assert [result.error for result in results] == [None] * 5
    done, lost = dying.seen
    assert sorted(living.seen) == sorted(set(names) - {done})
    assert {result.job.name: result.server for result in results}[lost] == living_url


def test_a_job_that_takes_servers_down_stops_after_two(farm, tmp_path):
    farms = [farm(seconds=0.1) for _ in range(3)]
    results = run_batch(
        jobs("kill", "a", "b", "c"), [url for _, url in farms], output_dir=tmp_path, reconnect_seconds=0.3
    )
    assert isinstance(results[0].error, RunLostError)
    assert "connection to the server was lost" in str(results[0].error)
    assert [result.error for result in results[1:]] == [None] * 3
    assert sum(server.dead for server, _ in farms) == 2


def test_an_unreachable_server_costs_nothing(farm, tmp_path):
    _, url = farm()
    results = run_batch(jobs("a", "b", "c"), ["http://127.0.0.1:9", url], output_dir=tmp_path)
    assert [result.server for result in results] == [url] * 3


def test_without_any_server_every_job_says_so(tmp_path):
    results = run_batch(jobs("a", "b"), ["http://127.0.0.1:9"], output_dir=tmp_path)
    assert "no ComfyUI server answers" in str(results[0].error)
    assert (results[1].server, str(results[1].error)[:20]) == (None, "no server is left fo")


def test_stopping_stops_every_server_and_ends_the_batch(farm, tmp_path):
    pairs = [farm(seconds=30) for _ in range(2)]
    running = threading.active_count()

    def check_cancelled():
        if all(server.seen for server, _ in pairs):
            raise Cancelled

    with pytest.raises(Cancelled):
        run_batch(
            jobs("a", "b", "c"),
            [url for _, url in pairs],
            output_dir=tmp_path,
            progress=Progress(check_cancelled=check_cancelled),
        )
    for server, _ in pairs:
        assert server.stopped == [{"delete": ["run-1"]}, {"prompt_id": "run-1"}]
        assert len(server.seen) == 1
    assert threading.active_count() == running
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (([], ["http://a"]), InputError, "cannot be shared out: got 0 jobs"),
        ((jobs("a"), ["http://a:1", "http://a:1/"]), InputError, "servers that all differ"),
        ((jobs("a"), []), InputError, "servers none"),
        ((jobs("a"), ["nowhere"]), ServerError, "not the address of a server: got nowhere"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        run_batch(*given)


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "prompts.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_in_the_forms_spreadsheets_write(tmp_path, separator):
    text = f'seed{separator}video_caption\r\n1{separator}"a dog, a cat; a tab\t and ""more"""\r\n\r\n2{separator}x\r\n'
    rows = read_table(table(tmp_path, text, "utf-8-sig"))
    assert rows == [
        {"seed": "1", "video_caption": 'a dog, a cat; a tab\t and "more"'},
        {"seed": "2", "video_caption": "x"},
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no usable head or no rows"),
        ("prompt,seed\n", "columns 'prompt', 'seed' and 0 rows"),
        ("prompt,prompt\na,b\n", "different names"),
        ("prompt,\na,b\n", "different names"),
        (
            "prompt,seed\na dog, a cat,1\n",
            "row 1 of the table has another length: got 3 cells; expected 2.*double quotes",
        ),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_table(table(tmp_path, text))
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")


def test_columns_name_inputs(graph):
    row = {"name": "mine", "seed": "5", "video_caption": "A dog.", "7.steps": "3", "T2SVMux.format": "webm", "fps": ""}
    changed = row_graph(graph, row)
    assert (changed["7"]["inputs"]["seed"], changed["7"]["inputs"]["steps"]) == (5, 3)
    assert changed["6"]["inputs"]["video_caption"] == "A dog."
    assert changed["9"]["inputs"]["format"] == "webm"
    assert changed["5"] == graph["5"], "an empty cell changes nothing"


def test_a_prompt_becomes_two_captions_where_no_node_takes_one(graph):
    inputs = row_graph(graph, {"prompt": "a dog barks on a beach"})["6"]["inputs"]
    assert "dog" in inputs["video_caption"].lower()
    assert "bark" in inputs["audio_caption"].lower()
    assert inputs["video_caption"] != inputs["audio_caption"]
    expander = {"class_type": "T2SVExpandPrompt", "inputs": {"prompt": "old"}}
    assert row_graph({**graph, "20": expander}, {"prompt": "new"})["20"]["inputs"]["prompt"] == "new"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"sed": "1"}, "row 2 of the table: no node has an unlinked input 'sed'; expected one of .*seed"),
        ({"model": "1"}, "no node has an unlinked input 'model'"),
        ({"7.sed": "1"}, "row 2 of the table: .*has no such input: got sed; expected perhaps seed"),
        (
            {"seed": "many"},
            "row 2 of the table: the value for 7.seed cannot be read: got 'many'; expected a whole number",
        ),
        (
            {"dtype": "bfloat16"},
            r"several nodes have an input 'dtype'; expected 1\.dtype \(T2SVLoadWanTower\) or 2\.dtype",
        ),
    ],
)
def test_a_column_that_names_nothing_is_refused_with_its_row(graph, row, words):
    with pytest.raises(WorkflowError, match=words):
        checked_rows(graph, [{"seed": "1"}, row])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("prompt\n" + "a" * 200_000 + "\n", "the table cannot be read: got .*field larger than field limit"),
        ("prompt,name\n" + "a,b\n" * 20_000, "more rows than a batch takes: got .*; expected at most 10000"),
        ("prompt\na\0b\n", "the table is not text: got .*zero bytes"),
        ("prompt\n" + "a" * (1 << 26), "the table is too long"),
    ],
    ids=["a long cell", "too many rows", "a zero byte", "too long"],
)
def test_tables_without_bounds_are_refused(content, sentence, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_table(path)


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"the table cannot be read: got .*a pipe"):
        read_table(tmp_path / "t.csv")
