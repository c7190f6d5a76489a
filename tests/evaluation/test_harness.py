"""lm-evaluation-harness on our models: stock GPT-2's numbers, plain torch's, and what guessing scores."""

import hashlib
import json
import math
import runpy
import shutil
import sys
from pathlib import Path

import datasets
import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.commands.evaluate import report
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.evaluation import harness
from hf_gpt_scratch.evaluation.guessing import Guessing
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import Metric, ResultCard, read_cards
from support import models
from support.commands import run_command

lm_eval = pytest.importorskip("lm_eval", reason="pip install 'hf-gpt-scratch[eval]'")

SOURCE = Path(__file__).parent / "harness_tasks"
POSITIONS = 32  # less than the longest text and than a question with two examples


@pytest.fixture(autouse=True)
def small_index(monkeypatch):
    """Of the 15,000 tasks of the harness only these two are read."""
    from lm_eval import tasks

    manager, folder = tasks.TaskManager, Path(tasks.__file__).parent
    own = [folder / "mmlu" / "default", folder / "wikitext"]
    monkeypatch.setattr(
        tasks,
        "TaskManager",
        lambda include_path=None, **_: manager(include_path=include_path or own, include_defaults=False),
    )


@pytest.fixture
def folder_of_tasks(tmp_path):
    """The tasks of harness_tasks/, whose files need the absolute paths of their data."""
    folder = tmp_path / "tasks"
    shutil.copytree(SOURCE, folder)
    for path in folder.glob("*.yaml"):
        path.write_text(path.read_text().replace("FOLDER", str(folder)))
    return folder


def rows(name):
    return [json.loads(line) for line in (SOURCE / f"{name}.jsonl").read_text().splitlines()]


def save_model(folder, tied=True, model_class=GPTScratchForCausalLM, tokens=400):
    """A random model wide enough in its weights that its answers differ, with a tokenizer of the tasks' words."""
    texts = [path.read_text() for path in sorted(SOURCE.glob("*.jsonl"))] * 3
    shape = {"n_positions": POSITIONS, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    return models.save_model(folder, model_class, 5, texts, tokens, tie_word_embeddings=tied, **shape)


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model")


def evaluate(folder, *words, output_dir=None):
    """Runs the command; returns the cards by the names of their tasks."""
    output = Path(output_dir or folder)
    shutil.rmtree(output / "results", ignore_errors=True)
    run_command("evaluate", folder, *words, *([f"--output_dir={output_dir}"] if output_dir else []))
    return read_cards(output)


def run(folder, tasks, *names, output_dir=None, **options):
    words = ["--tasks", *names, "--include_path", tasks, "--device", "cpu"]
    return evaluate(folder, *words, *(f"--{name}={value}" for name, value in options.items()), output_dir=output_dir)


def scores(results, task):
    return {key: value for key, value in results["results"][task].items() if key.endswith(",none")}


@pytest.mark.parametrize(("tied", "shots"), [(True, 0), (False, 2)])
def test_numbers_are_those_of_stock_gpt2(tmp_path, folder_of_tasks, tied, shots):
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    ours, stock = save_model(tmp_path / "model", tied), tmp_path / "stock"
    export(str(ours), stock)
    run(ours, folder_of_tasks, "sums", "texts", num_fewshot=shots, output_dir=tmp_path / "out", batch_size=3)
    found = json.loads((tmp_path / "out" / "harness.json").read_text())

    reference = HFLM(pretrained=str(stock), device="cpu", dtype="float32", batch_size=1)
    assert reference.model.config.model_type == "gpt2"
    expected = lm_eval.simple_evaluate(
        model=reference,
        tasks=["sums", "texts"],
        task_manager=TaskManager(include_path=str(folder_of_tasks)),
        num_fewshot=shots,
        log_samples=False,
    )
    assert scores(found, "texts")["word_perplexity,none"] > 1
    for key in ("word_perplexity,none", "byte_perplexity,none", "bits_per_byte,none"):
        assert found["results"]["texts"][key] == pytest.approx(expected["results"]["texts"][key], rel=1e-5)
    for key in ("acc,none", "acc_norm,none", "acc_stderr,none", "acc_norm_stderr,none"):
        assert 0 < found["results"]["sums"][key] == expected["results"]["sums"][key]


@torch.inference_mode()
def log_probabilities(model, context, continuation):
    """The sum over the continuation's tokens, by plain torch."""
    logits = model(torch.tensor([context + continuation[:-1]])).logits[0, len(context) - 1 :]
    return logits.log_softmax(-1)[range(len(continuation)), continuation].sum().item()


def test_perplexity_and_accuracy_are_those_of_plain_torch(folder, folder_of_tasks):
    cards = run(folder, folder_of_tasks, "sums", "texts")
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder), load_tokenizer(folder)

    total, n_words, longest = 0.0, 0, 0
    for row in rows("texts"):
        ids, start = tokenizer.encode(row["text"]), 0
        longest = max(longest, len(ids))
        while start < len(ids):  # each token once, after all that fits before its window's end
            end = min(start + POSITIONS, len(ids))
            context = ([tokenizer.eos_token_id, *ids])[max(end - POSITIONS, 0) : start + 1]
            total += log_probabilities(model, context, ids[start:end])
            start = end
        n_words += len(row["text"].split())
    assert longest > 2 * POSITIONS
    word_perplexity = cards["texts"].metrics["word_perplexity"]
    assert word_perplexity.value == pytest.approx(math.exp(-total / n_words), rel=1e-5)
    assert not word_perplexity.higher_is_better and word_perplexity.interval is None

    right = 0
    for row in rows("sums"):
        context = tokenizer.encode(f"{row['question']}\nAnswer:")
        sums = [log_probabilities(model, context, tokenizer.encode(f" {choice}")) for choice in row["choices"]]
        right += sums.index(max(sums)) == row["answer"]
    assert cards["sums"].metrics["acc"].value == pytest.approx(right / len(rows("sums")))


def test_cards_say_what_was_measured_and_what_guessing_scores(folder, folder_of_tasks, capsys):
    run(folder, folder_of_tasks, "quiz", "texts")
    cards = read_cards(folder)
    assert set(cards) == {"quiz", "texts"}  # the group's parts are in harness.json
    found = json.loads((folder / "harness.json").read_text())
    assert set(found["results"]) == {"quiz", "sums", "animals", "texts"} and "samples" not in found
    assert found["config"]["model"] == str(folder) and found["config"]["max_length"] == POSITIONS

    card, accuracy = cards["quiz"], found["results"]["quiz"]["acc,none"]
    margin = 1.96 * found["results"]["quiz"]["acc_stderr,none"]
    assert card.metrics["acc"].value == accuracy and card.metrics["acc"].higher_is_better
    assert card.metrics["acc"].interval == pytest.approx([max(accuracy - margin, 0), min(accuracy + margin, 1)])
    chance, most_frequent = (card.baselines[name]["acc"].value for name in ("chance", "most frequent answer"))
    assert chance == pytest.approx((10 / 4 + 7 / 2) / 17)  # 10 sums with four choices, 7 animals with two
    assert most_frequent == pytest.approx((2 + 5) / 17)  # the first choice is right in 2 sums and for 5 animals
    assert not cards["texts"].baselines

    digests = {entry["source"].removeprefix("documents of "): entry["sha256"] for entry in card.data}
    for name in ("sums", "animals"):
        text = json.dumps(rows(name), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        source = f"json, test, {folder_of_tasks / name}.jsonl"
        assert digests[source] == hashlib.sha256(text.encode()).hexdigest()
    assert f"lm-evaluation-harness {lm_eval.__version__}, the task's version 3, 0-shot, 17 doc" in card.protocol
    assert card.command.removeprefix("OMP_NUM_THREADS=1 ").startswith("hf-gpt-scratch evaluate ")
    assert card.environment["versions"]["lm_eval"] == lm_eval.__version__
    assert card.seeds == [found["config"]["fewshot_seed"]]

    printed = capsys.readouterr().out
    assert f"{chance:.4f}" in printed and "quiz: its acc is no better than guessing" in printed


def test_few_shots_limits_and_cut_prompts_are_told(folder, folder_of_tasks):
    cards = run(folder, folder_of_tasks, "sums", "texts", num_fewshot=2, limit=2)
    assert "2-shot, 2 of 10 documents, at most 32 tokens at a time, 8 of 8 prompts cut" in cards["sums"].protocol
    assert "0-shot, 2 of 3 documents" in cards["texts"].protocol  # a perplexity has no examples
    assert cards["sums"].baselines["most frequent answer"]["acc"].value == 1.0  # of those two documents
    assert "0 of 40 prompts cut" in run(folder, folder_of_tasks, "sums")["sums"].protocol


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        ([0.24, 0.26], "no better than guessing"),
        ([0.255, 0.275], "no better than guessing"),  # above chance, but so is one answer to everything
        ([0.1, 0.2], "no better than guessing"),
        (None, "too few documents"),
        ([0.28, 0.3], None),
    ],
)
def test_noise_is_called_so(interval, sentence):
    value = sum(interval) / 2 if interval else 1.0
    baselines = {"chance": {"acc": Metric(0.25)}, "most frequent answer": {"acc": Metric(0.269)}}
    card = ResultCard("mmlu", "5-shot", [], {"acc": Metric(value, interval)}, "", {}, baselines=baselines)
    printed = report([card])
    assert f"{value:.4f}" in printed and "0.2500" in printed and "0.2690" in printed
    assert ("guessing" in printed) == (sentence is not None)
    assert sentence is None or sentence in printed


@pytest.mark.parametrize(
    ("name", "target", "chance", "most_frequent"),
    [
        ("sums", "answer", 1 / 4, 5 / 10),
        ("animals", '"{{choices[answer]}}"', 1 / 2, 5 / 7),  # the right answer's text
        (
            "sums",
            '"{{[answer, 1]}}"',
            (9 * 2 + 1) / 40,
            1.0,
        ),  # two right answers, but in the one row whose answer is 1
    ],
)
def test_guessing_follows_the_documents(folder_of_tasks, name, target, chance, most_frequent):
    path = folder_of_tasks / f"{name}.yaml"
    path.write_text(path.read_text().replace("doc_to_target: answer", f"doc_to_target: {target}"))
    [task] = harness.load_tasks([name], str(folder_of_tasks))
    guessing = Guessing.of_documents(task, list(task.eval_docs))
    assert guessing.chance == pytest.approx(chance)
    assert max(guessing.shares.values()) == pytest.approx(most_frequent)
    task.set_config("process_results", lambda document, results: {})  # then nobody knows what its accuracy is
    assert Guessing.of_documents(task, []) is None


def test_a_group_of_unweighted_tasks_is_guessed_as_it_is_averaged(folder, folder_of_tasks):
    path = folder_of_tasks / "quiz.yaml"
    path.write_text(path.read_text().replace("true", "false"))
    card = run(folder, folder_of_tasks, "quiz")["quiz"]
    assert card.baselines["chance"]["acc"].value == pytest.approx((1 / 4 + 1 / 2) / 2)
    path.write_text(path.read_text().partition("aggregate")[0])
    assert set(run(folder, folder_of_tasks, "quiz")) == {"sums", "animals"}  # no score of its own


def test_an_adapter_is_measured_with_its_base(tmp_path, folder):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    adapted = peft.get_peft_model(GPTScratchForCausalLM.from_pretrained(folder), settings).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    load_tokenizer(folder).save_pretrained(tmp_path / "adapter")
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    lm = harness.load_language_model(str(tmp_path / "adapter"), device="cpu")
    ids = torch.arange(POSITIONS)[None]
    with torch.inference_mode():
        assert torch.allclose(lm.model(ids).logits, adapted(ids).logits, atol=1e-4)
    assert lm.prefix_token_id == 0 and lm.max_length == POSITIONS


def test_what_cannot_be_measured_is_told_in_a_sentence(tmp_path, folder, folder_of_tasks, monkeypatch, capsys):
    def told(message, *names, model=folder, error=InputError, **options):
        with pytest.raises(error, match=message) as raised:
            run(model, folder_of_tasks, *names, **options)
        assert "\n" not in str(raised.value)
        assert not (Path(model) / "harness.json").exists()

    told("no task summs in the harness nor in a valid YAML file in .*; similar names: sums.$", "sums", "summs")
    told("sums is in two of --tasks", "sums", "quiz", error=UsageError)
    told("animals has no examples besides those it tests", "animals", num_fewshot=1)
    told("no file or folder", "sums", model=tmp_path / "none")
    told("give the folder to write with --output_dir", "sums", model=folder / "config.json", error=UsageError)
    with pytest.raises(SystemExit):
        run(folder, folder_of_tasks, "sums", num_fewshot="two")
    assert "argument --num_fewshot: must be a whole number, not 'two'" in capsys.readouterr().err
    told("is a file", "sums", output_dir=folder / "config.json")
    classifier = save_model(tmp_path / "classifier", model_class=GPTScratchForSequenceClassification)
    told("holds a classifier, and evaluate is for language models", "sums", model=classifier)
    other = save_model(tmp_path / "other", tokens=300)
    load_tokenizer(folder).save_pretrained(other)
    told("tokenizer does not fit", "sums", model=other)
    (folder_of_tasks / "animals.jsonl").unlink()
    told("animals or its data could not be loaded", "animals")
    long = {"question": "Long?", "choices": ["yes " * POSITIONS, "no"], "answer": 1}
    (folder_of_tasks / "sums.jsonl").write_text(json.dumps(long))
    told("A choice has .* this model can score 1 to 32", "sums")
    with pytest.raises(InputError, match="no folder .* to find tasks in"):
        run(folder, tmp_path / "none", "sums")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    told("pip install -c constraints.txt -e '", "sums")


def test_tasks_of_the_hub_need_the_network(folder):
    with pytest.raises(InputError, match="The task mmlu_anatomy or its data could not be loaded .*cais/mmlu"):
        evaluate(folder, "--tasks", "mmlu_anatomy")
    with pytest.raises(InputError, match="no task mmlu_anatomie in the harness; similar names: mmlu_anatomy,"):
        evaluate(folder, "--tasks", "mmlu_anatomie")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_the_program_ends_with_a_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", str(tmp_path / "none"), "--tasks", "mmlu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hf_gpt_scratch.evaluation.harness", run_name="__main__")
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: There is no file or folder") and error.count("\n") == 1


def test_mmlu_and_wikitext_as_the_harness_defines_them(folder, tmp_path, monkeypatch):
    """Their own YAML files, on invented questions: which subject has how many, and which answers, is known."""

    def load_dataset(path, name, **_):
        if path == "EleutherAI/wikitext_document_level":
            pages = [{"page": row["text"]} for row in rows("texts")]
            return {"test": datasets.Dataset.from_list(pages), "train": datasets.Dataset.from_list(pages)}
        assert path == "cais/mmlu"
        n = 3 if name == "anatomy" else 1
        questions = [{"question": f"{name}?", "choices": [*"wxyz"], "answer": 3 if n == 3 else 0} for _ in range(n)]
        return {"test": datasets.Dataset.from_list(questions), "dev": datasets.Dataset.from_list(rows("sums"))}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    cards = evaluate(folder, "--tasks", "mmlu", "wikitext", "--num_fewshot", "5", "--device", "cpu")
    assert set(cards) == {"mmlu", "wikitext"}
    card = cards["mmlu"]
    assert len(card.data) == 57 and card.data[0]["source"].startswith("documents of cais/mmlu, ")
    assert "5-shot, 59 documents" in card.protocol and "236 of 236 prompts cut" in card.protocol
    assert card.baselines["chance"]["acc"].value == pytest.approx(0.25)
    assert card.baselines["most frequent answer"]["acc"].value == pytest.approx(56 / 59)
    assert "0-shot, 3 documents" in cards["wikitext"].protocol
    assert not any(metric.higher_is_better for metric in cards["wikitext"].metrics.values())


def test_the_yaml_for_a_text_of_ones_own(folder, tmp_path, monkeypatch):
    configs = Path(__file__).parents[2] / "training" / "configs" / "harness"
    text = "A little light. The boat went out to sea, and came home.\n" * 30
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "text.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    cards = evaluate(folder, "--tasks", "own_text", "--include_path", configs)
    numbers = {name: metric.value for name, metric in cards["own_text"].metrics.items()}
    words, bytes_ = len(text.split()), len(text.encode())
    assert math.log(numbers["word_perplexity"]) * words == pytest.approx(
        math.log(numbers["byte_perplexity"]) * bytes_, rel=0.01
    )
    assert numbers["bits_per_byte"] == pytest.approx(math.log2(numbers["byte_perplexity"]))


def test_a_standard_error_of_nothing_is_no_interval():
    values = {
        "alias": "quiz",
        "acc,none": 1.0,
        "acc_stderr,none": 0.0,
        "acc_norm,none": 0.5,
        "acc_norm_stderr,none": 0.1,
    }
    found = harness._metrics(values, [{"acc": True, "acc_norm": True}])
    assert found["acc"].interval is None and found["acc_norm"].interval == pytest.approx([0.304, 0.696])
