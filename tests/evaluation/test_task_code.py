"""What a task of the harness brings runs only if the user says so; its templates never leave Jinja's sandbox."""

import json
from pathlib import Path

import pytest
import yaml

from hf_gpt_scratch.utils.errors import InputError
from support.commands import run_command
from support.models import save_model

lm_eval = pytest.importorskip("lm_eval", reason="pip install 'hf-gpt-scratch[eval]'")

from hf_gpt_scratch.evaluation.task_code import only_own_code  # noqa: E402

TASK = {
    "task": "mine",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> Path:
    """A folder for a task, with its questions; of the harness's own tasks none is indexed."""
    from lm_eval import tasks

    manager = tasks.TaskManager
    monkeypatch.setattr(
        tasks, "TaskManager", lambda include_path=None, **_: manager(include_path=include_path, include_defaults=False)
    )
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"question": "a lamp?", "choices": ["a", "b"], "answer": 0}] * 2
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write(tasks: Path, added: str = "", **changes) -> None:
    data = {"data_files": {"test": str(tasks / "rows.jsonl")}, "cache_dir": str(tasks / "cache")}
    (tasks / "mine.yaml").write_text(yaml.safe_dump({**TASK, "dataset_kwargs": data, **changes}) + added)


def evaluate(model: Path, tasks: Path, *words: str) -> None:
    out = tasks.parent / "out"
    run_command("evaluate", model, "--tasks", "mine", "--include_path", tasks, "--output_dir", out, *words)


def function(tasks: Path, trace: Path) -> str:
    (tasks / "utils.py").write_text(f"def text(doc):\n    open({str(trace)!r}, 'w').close()\n    return 'a'\n")
    write(tasks, "doc_to_text: !function utils.text\n")
    return "the function utils.text"


def function_in_an_included_file(tasks: Path, trace: Path) -> str:
    elsewhere = tasks.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "utils.py").write_text(f"def text(doc):\n    open({str(trace)!r}, 'w').close()\n    return 'a'\n")
    (elsewhere / "base.yaml").write_text("doc_to_text: !function utils.text\n")
    changes = {name: value for name, value in TASK.items() if name != "doc_to_text"}
    write(tasks, include="../elsewhere/base.yaml")
    kept = yaml.safe_load((tasks / "mine.yaml").read_text())
    (tasks / "mine.yaml").write_text(
        yaml.safe_dump({k: v for k, v in kept.items() if k in {*changes, "include"} | {"dataset_kwargs"}})
    )
    return "the function utils.text"


def metric(tasks: Path, trace: Path) -> str:
    code = f"""
import datasets, evaluate
open({str(trace)!r}, 'w').close()
class Mine(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}})
        return evaluate.MetricInfo(description="", citation="", features=features)
    def _compute(self, predictions, references):
        return {{"mine": 1.0}}
"""
    folder = tasks / "mine_metric"
    folder.mkdir()
    (folder / "mine_metric.py").write_text(code)
    one = {"metric": str(folder), "hf_evaluate": True, "aggregation": "mean", "higher_is_better": True}
    write(tasks, metric_list=[*TASK["metric_list"], one])
    return f"the metric {folder}"


EVIL = [function, function_in_an_included_file, metric]


@pytest.mark.parametrize("spoil", EVIL)
def test_code_of_a_task_is_refused_by_its_name_and_not_run(model, tasks, tmp_path, spoil):
    name = spoil(tasks, trace := tmp_path / "it-ran")
    with pytest.raises(InputError, match="runs only with --trust-remote-code") as refusal:
        evaluate(model, tasks)
    assert name in str(refusal.value)
    assert not trace.exists()


def test_a_pickle_is_not_read_as_data(tmp_path):
    """`datasets` before 5.2 reads one where a task's dataset_path is `pandas`."""
    import pandas

    pandas.DataFrame({"a": [1]}).to_pickle(tmp_path / "rows.pkl")
    with pytest.raises(InputError, match="data is a pickle.* runs only with --trust-remote-code"), only_own_code():
        pandas.read_pickle(tmp_path / "rows.pkl")
    with only_own_code(trust_remote_code=True):
        assert list(pandas.read_pickle(tmp_path / "rows.pkl")["a"]) == [1]


@pytest.mark.parametrize("spoil", [function, function_in_an_included_file])
def test_it_runs_when_the_user_says_so(model, tasks, tmp_path, spoil):
    spoil(tasks, trace := tmp_path / "it-ran")
    evaluate(model, tasks, "--trust-remote-code")
    assert trace.exists()
    assert (tmp_path / "out" / "results" / "mine.json").is_file()


def test_a_template_stays_in_the_sandbox(model, tasks, tmp_path):
    """Whether trusted or not: it is text, and nobody would read it as code."""
    trace = tmp_path / "it-ran"
    escape = "{{ cycler.__init__.__globals__.os.system('touch " + str(trace) + "') }}{{question}}"
    write(tasks, doc_to_text=escape)
    for words in ([], ["--trust-remote-code"]):
        with pytest.raises(InputError, match="unsafe"):
            evaluate(model, tasks, *words)
        assert not trace.exists()


def test_the_harness_is_as_before_afterwards():
    from lm_eval import utils
    from lm_eval.tasks import _yaml_loader

    before = (utils.env, _yaml_loader._import_func_in_yml)
    with pytest.raises(RuntimeError), only_own_code():
        assert utils.apply_template("{{ 'ab' | regex_replace('a', 'c') }}\n", {}) == "cb\n"
        raise RuntimeError
    assert (utils.env, _yaml_loader._import_func_in_yml) == before


def test_functions_of_the_harness_itself_run():
    from lm_eval.tasks import _yaml_loader

    folder = Path(lm_eval.__file__).parent / "tasks" / "wikitext"
    with only_own_code():
        assert callable(_yaml_loader._import_func_in_yml("preprocess_wikitext.process_results", folder))
