"""The benchmark of classifiers on texts of another kind: every model is measured on every run's test texts."""

import importlib.util
from pathlib import Path

import pytest

from hf_gpt_scratch.evaluation.text_classification.runs import log_odds
from hf_gpt_scratch.training import classify
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_cards

SCRIPT = Path(__file__).parents[2] / "training" / "benchmarks" / "across.py"
TINY = ["--train_tokenizer", "400", "--n_embd", "16", "--n_layer", "1", "--n_head", "1", "--n_positions", "32"]
TINY += ["--num_train_epochs", "1", "--per_device_train_batch_size", "16", "--use_cpu", "true"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_across", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(folder: Path, name: str, texts: dict[str, str], count: int = 40) -> Path:
    """A run on texts that differ by a number, `texts` being one of each label."""
    lines = [f"{label},{text} {'x' * number}" for number in range(count) for label, text in texts.items()]
    (folder / f"{name}.csv").write_text("\n".join(["label,text", *lines]) + "\n")
    classify.main(["--data_file", str(folder / f"{name}.csv"), *TINY, "--output_dir", str(folder / name)])
    return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = train(folder, "first", {"no": "see you at the station", "yes": "win a prize now"})
    second = train(folder, "second", {"no": "dear all the build is green", "yes": "cheap loans for you"})
    return folder, first, second


def test_every_model_reads_the_test_texts_of_every_run(script, runs):
    folder, first, second = runs
    cards = script.main([str(first), str(second), "--output_dir", str(folder / "across")])
    assert set(read_cards(folder / "across")) == {"first", "second"} == set(cards)
    opened = script.open_runs([first, second])
    own = script.numbers(
        opened["second"].labels("test"),
        log_odds(opened["second"].load_classifier(), opened["second"].splits["test"]["text"]),
    )
    other = script.numbers(
        opened["second"].labels("test"),
        log_odds(opened["first"].load_classifier(), opened["second"].splits["test"]["text"]),
    )
    assert cards["second"].metrics == own and cards["second"].baselines["GPT of first"] == other
    linear = {name: row["f1"].value for name, row in cards["first"].baselines.items() if "Linear" in name}
    # Each linear model tells the words that it was trained on apart, and knows none of the others.
    assert linear["TF-IDF + LinearSVC of first"] == 1.0 > linear["TF-IDF + LinearSVC of second"]


def test_runs_of_other_labels_are_refused(script, runs):
    folder, first, _ = runs
    other = train(folder, "other", {"red": "an apple", "green": "a pear"})
    with pytest.raises(InputError, match="give runs with the same two"):
        script.main([str(first), str(other)])
    with pytest.raises(UsageError, match="two or more"):
        script.main([str(first)])
