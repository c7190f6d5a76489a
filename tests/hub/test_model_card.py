"""Model cards, whole, from the files of small folders; their numbers, each from a result card."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hf_gpt_scratch.data.sms_spam import SHA256
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, chat_template
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.provenance import recorded_source
from hf_gpt_scratch.utils.result_card import Metric, ResultCard

CARDS = Path(__file__).parent / "cards"
CLASSIFIER = {
    "architectures": ["GPTScratchForSequenceClassification"],
    "custom_pipelines": {"text-classification": {"impl": "pipeline_gpt_scratch.GPTScratchTextClassificationPipeline"}},
}
SPAM = {**CLASSIFIER, "id2label": {"0": "ham", "1": "spam"}}
TOPICS = {**CLASSIFIER, "id2label": {"0": "billing", "1": "delivery", "2": "login"}}


def write_folder(folder: Path, config: dict, metrics: dict | None = None, chat: bool = False) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_scratch", "n_positions": 256, **config}))
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if chat:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def spam_folder(folder: Path, above: Metric, **config) -> Path:
    ours, theirs = Metric(0.9435, [0.91, 0.96]), Metric(0.9559, [0.93, 0.97])
    data = {"source": "/home/someone/SMSSpamCollection", "sha256": SHA256}
    command = "python training/finetune_spam.py --data_file /home/someone/SMSSpamCollection --output_dir runs/spam"
    metrics = {
        "task": "SMS spam classification",
        "protocol": "grouped",
        "parameters": 1234567,
        "sizes": {"train": 3900, "validation": 558, "test": 1116},
        "test_rows_with_a_near_copy_in_train": 0,
        "epochs": 8.0,
        "seed": 5,
        "hardware": {"cpu": "Some CPU"},
        "settings": {"learning_rate": 1e-3, "lr_scheduler_type": "cosine", "batch_size": 32, "precision": "fp32"},
        "data": data,
        "command": command,
    }
    write_folder(folder, {**SPAM, **config}, metrics)
    (folder / "plots").mkdir()
    for name in ("training", "precision_recall"):
        (folder / "plots" / f"{name}.png").touch()
    write_predictions(folder)
    ResultCard(
        task="SMS spam classification",
        protocol="grouped split 5",
        data=[data],
        metrics={"f1": ours, "precision": Metric(0.9512), "f1_above_baseline": above},
        baselines={"TF-IDF + LinearSVC": {"f1": theirs, "f1_above_baseline": Metric(0.0)}},
        seeds=[5],
        command=command,
        environment={},
    ).write(folder, "spam")
    if config:
        ResultCard(
            task="SMS spam calibration",
            protocol="grouped split 5, as if 13.4% were spam",
            data=[data],
            metrics={"f1": Metric(0.9021), "precision": Metric(0.9811, [0.95, 0.99])},
            baselines={"as trained": {"f1": ours, "precision": Metric(0.9512)}},
            seeds=[5],
            command="hf-gpt-scratch calibrate runs/spam --precision 0.95",
            environment={},
        ).write(folder, "calibration")
    return folder


def write_predictions(folder: Path) -> None:
    """Of the messages, one that is labelled wrongly, and one that is not fit for a card."""
    rows = [
        ("See you at six", 0, 0.02),
        ("Call now, you won", 1, 0.97),
        ("A prize for you", 1, 0.55),
        ("Win, free, now", 1, 0.03),
        ("Your hf_" + "a1" * 17, 1, 0.999),
        ("Bring the milk", 0, 0.99),
    ]
    lines = [f'"{text}",{label},{probability}' for text, label, probability in rows]
    (folder / "predictions.csv").write_text("\n".join(["text,label,probability", *lines]) + "\n")


def make_spam(folder: Path) -> Path:
    calibration = {"temperature": 1.25, "shift": 0.0, "threshold": 0.875, "prevalence": 0.134}
    return spam_folder(folder, Metric(-0.0124, [-0.0351, 0.0085]), calibration=calibration)


def make_base(folder: Path) -> Path:
    write_folder(folder, {"architectures": ["GPTScratchForCausalLM"]})
    record = {"source": "openai-community/gpt2", "format": "hf-gpt2", "max_logit_difference": 1.5e-5}
    (folder / "conversion.json").write_text(json.dumps({**record, "sha256": {"model.safetensors": "ab" * 32}}))
    return folder


def make_pretrained(folder: Path) -> Path:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 64, "vocab_size": 500}
    data = {"source": "/home/someone/story.txt", "sha256": "ef" * 32}
    metrics = {
        "data": data,
        "command": "hf-gpt-scratch train pretrain --sample_prompt 'The lamp'",
        "parameters": 150000,
    }
    metrics |= {"train_seconds": 59.348, "python": "3.11.7", "versions": {"torch": "2.13.0"}}
    write_folder(folder, {"architectures": ["GPTScratchForCausalLM"], **shape}, metrics)
    lines = [{"step": 0, "text": "The lamp xq"}, {"step": 9, "text": "The lamp was *lit* at night.\nIt shone."}]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def make_instruct(folder: Path) -> Path:
    data = {"source": "someone/questions", "sha256": "cd" * 32, "dataset": "someone/questions"}
    metrics = {"task": "instruction following", "base_model": "user/base", "data": data, "epochs": 2.0}
    write_folder(folder, {"architectures": ["GPTScratchForCausalLM"]}, metrics, chat=True)
    rows = [("Say a colour.", "", "Red.", "Blue."), ("Plural?", "boat", "boats", "boats"), ("A number?", "", "2", "2")]
    names = ("instruction", "input", "output", "model_response")
    responses = [{**dict(zip(names, row)), "finish_reason": "stop"} for row in rows]
    (folder / "responses.json").write_text(json.dumps(responses))
    ResultCard(
        task="instruction following",
        protocol="110 test rows",
        data=[{name: data[name] for name in ("source", "sha256")}],
        metrics={"response_perplexity": Metric(32.15, higher_is_better=False), "stop_rate": Metric(0.991, [0.95, 1])},
        baselines={"before tuning": {"response_perplexity": Metric(186.7, higher_is_better=False)}},
        command="python training/finetune_instruct.py training/configs/instruct/cpu_small.yaml",
        environment={},
    ).write(folder, "instructions")
    return folder


def make_classify(folder: Path) -> Path:
    calibration = {"temperature": 2.0, "shift": [0.0, 0.0, 0.0], "outside_threshold": 0.55, "early": {"0.99": {}}}
    data = {"source": "/home/someone/tickets.csv", "sha256": "ab" * 32}
    command = "hf-gpt-scratch train classify cpu_small --data_file /home/someone/tickets.csv --output_dir runs/tickets"
    metrics = {
        **{"task": "text classification", "protocol": "grouped", "parameters": 1234567, "seed": 5, "data": data},
        **{"test_rows_with_a_near_copy_in_train": 0, "command": command},
    }
    write_folder(folder, {**TOPICS, "long_texts": "windows", "calibration": calibration}, metrics)
    rows = [
        ("Charged twice", "billing", 0.9, 0.05, 0.05),
        ("Where is it?", "delivery", 0.3, 0.4, 0.3),  # outside, once calibrated
        ("No entry", "login", 0.02, 0.08, 0.9),
        ("Cannot log in", "login", 0.001, 0.001, 0.998),
        ("Refund", "delivery", 0.999, 0.0005, 0.0005),
    ]
    names = [f"probability: {name}" for name in TOPICS["id2label"].values()]
    table = [["text", "label", *names], *rows]
    (folder / "predictions.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    protocol = "grouped split 5: 60 test texts"
    for name, task, metrics, baselines in (
        (
            "classify",
            "text classification",
            {"macro_f1": Metric(0.91, [0.85, 0.95]), "macro_f1_above_baseline": Metric(0.05, [0.01, 0.09])},
            {"TF-IDF + LinearSVC": {"macro_f1": Metric(0.86, [0.8, 0.9])}},
        ),
        ("outside", "text classification outside answer", {"outside_told": Metric(0.7, [0.5, 0.85])}, {}),
    ):
        ResultCard(task, protocol, [data], metrics, command, {}, baselines=baselines, seeds=[5]).write(folder, name)
    return folder


def make_other(folder: Path) -> Path:
    labels = {"0": "good", "1": "bad"}
    return write_folder(folder, {"architectures": ["GPTScratchForTokenClassification"], "id2label": labels})


def make_adapter(folder: Path) -> Path:
    folder.mkdir()
    settings = {"base_model_name_or_path": "user/base", "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    metrics = {"task": "instruction following", "method": "LoRA tuning", "parameters": 1234567, "leaked_pairs": 0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.mark.parametrize(
    "make", [make_spam, make_classify, make_base, make_pretrained, make_instruct, make_adapter, make_other]
)
def test_the_whole_card(make, tmp_path):
    name = make.__name__.removeprefix("make_")
    text = str(make_card(make(tmp_path / "model"), f"user/{name}"))
    assert text == (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert "/home" not in text
    assert str(make_card(tmp_path / "model", f"user/{name}")) == text


def test_a_model_of_conversations_is_described_as_one(tmp_path):
    folder = make_instruct(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(chat_template(conversations=True))
    text = str(make_card(folder, "user/instruct"))
    assert "that answers questions in conversations in the Alpaca format" in text and "single questions" not in text


def test_what_was_not_measured_is_one_line(tmp_path):
    text = str(make_card(make_base(tmp_path / "model"), "user/base"))
    [line] = [line for line in text.splitlines() if "Not measured" in line or "not recorded" in line.lower()]
    assert line.startswith("Not measured: Perplexity. Not recorded: the licence of the model, the training data")
    assert ModelCard(text).data.base_model == "openai-community/gpt2"


@pytest.mark.parametrize(
    ("assumed", "end"),
    [
        ({}, "."),
        ({"n_head": 3}, ", assuming 3 attention heads, which the file does not hold."),
        ({"activation": "gelu_new"}, ", assuming the activation gelu_new, which the file does not hold."),
    ],
)
def test_a_conversion_says_what_its_proof_assumed(tmp_path, assumed, end):
    folder = make_base(tmp_path / "model")
    record = json.loads((folder / "conversion.json").read_text())
    (folder / "conversion.json").write_text(json.dumps(record | ({"assumed": assumed} if assumed else {})))
    assert f"those of the original differ by at most 1.5e-05{end}\n" in str(make_card(folder, "user/base"))


def test_every_number_is_from_a_file_of_the_folder(tmp_path):
    folder = make_spam(tmp_path / "model")
    text = str(make_card(folder, "user/spam")).split("\n# spam")[1]
    known = {number for path in folder.rglob("*.json") for number in numbers(path.read_text())}
    known |= {round(100 * number, 2) for number in known}  # a difference of F1 is told in points
    known |= {0.957, 0.96, 0.942, 0.94}  # of each example's label: predictions.csv's, at the temperature
    known |= {2011.0, 4.0, 95.0}  # what the template itself says: of the data, its licence (CC BY 4.0), the intervals
    prose = re.sub(r"```.*?```|SHA-256 `?\w+|https://\S+", "", text, flags=re.DOTALL)
    assert len(numbers(prose)) > 20
    for number in numbers(prose):
        assert number in known, number


def numbers(text: str) -> list[float]:
    """The numbers of a text without their signs, thousands with or without commas."""
    text = re.sub(r"(?<=[\s\[])-(?=\d)", "", text)
    found = re.findall(r"(?<![\w-])\d[\d,]*\.?\d*(?:e-?\d+)?(?!\w)", text)
    return [float(one.replace(",", "").rstrip(".")) for one in found]


def test_the_hub_reads_the_results(tmp_path):
    data = ModelCard(str(make_card(make_spam(tmp_path / "model"), "user/spam"))).data
    [f1, precision] = data.eval_results  # of the calibrated model alone, which is what one loads
    assert (f1.metric_type, f1.metric_value, f1.dataset_type) == ("f1", 0.9021, "ucirvine/sms_spam")
    assert precision.metric_value == 0.9811 and data.pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    "above, said",
    [
        (Metric(0.02, [0.01, 0.03]), "2.00 points above that of TF-IDF + LinearSVC on the same messages"),
        (Metric(0.02, [0.01, 0.03]), "+1.00 to +3.00): reliably better"),
        (Metric(-0.02, [-0.03, -0.01]), "2.00 points below"),
        (Metric(-0.02, [-0.03, -0.01]), "reliably worse"),
        (Metric(0.01, [-0.01, 0.03]), "not a reliable difference"),
    ],
)
def test_the_comparison_follows_the_interval_of_the_difference(tmp_path, above, said):
    text = str(make_card(spam_folder(tmp_path / "model", above), "user/spam"))
    assert said in text and ("smaller and faster" in text) == (above.interval[0] <= 0)


def test_what_has_no_card(tmp_path):
    with pytest.raises(InputError):
        make_card(tmp_path / "nothing", "user/repo")
    with pytest.raises(InputError, match="expected one of"):
        make_card(write_folder(tmp_path / "none", {"architectures": ["LlamaForCausalLM"]}), "user/repo")


@pytest.mark.parametrize(
    "file, content",
    [
        ("metrics.json", {"sizes": [1, 2]}),
        ("metrics.json", {"hardware": "a CPU"}),
        ("conversion.json", {"source": "x"}),
    ],
)
def test_a_record_that_is_not_as_it_was_written_is_one_sentence(tmp_path, file, content):
    folder = write_folder(tmp_path / "model", SPAM)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match="A record in .* is damaged"):
        make_card(folder, "user/repo")


def test_the_terms_of_a_model_made_from_another_are_not_guessed(tmp_path):
    made = ModelCard(str(make_card(make_instruct(tmp_path / "a"), "user/a"))).data
    assert made.base_model_relation == "finetune"
    assert made.license is None and made.language is None and made.base_model == "user/base"
    assert made.datasets == ["someone/questions"]
    given = ModelCard(str(make_card(tmp_path / "a", "user/a", license="apache-2.0", language="fr"))).data
    assert (given.license, given.language) == ("apache-2.0", "fr")
    assert ModelCard(str(make_card(make_spam(tmp_path / "b"), "user/b"))).data.license is None


def test_a_base_that_is_a_folder_is_taken_for_no_repository(tmp_path, monkeypatch):
    (tmp_path / "runs" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    folder = make_instruct(tmp_path / "a")
    (folder / "metrics.json").write_text(json.dumps({"base_model": recorded_source("runs/small")}))
    monkeypatch.chdir(folder)
    card = make_card(folder, "user/a")
    assert card.data.base_model is None and "It was fine-tuned from the local model `small`" in str(card)
    assert recorded_source("user/base") == "user/base" and recorded_source(None) is None


def test_a_chat_model_of_another_template_is_not_called_ours(tmp_path):
    folder = make_base(tmp_path / "a")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    text = str(make_card(folder, "user/a"))
    assert "Alpaca" not in text and "not been taught" not in text


def test_data_that_was_streamed_is_told_by_its_revision(tmp_path):
    data = {"source": "someone/stories, train", "dataset": "someone/stories", "revision": "ef" * 20}
    folder = write_folder(tmp_path / "a", {"architectures": ["GPTScratchForCausalLM"]}, {"data": data})
    perplexity = {"perplexity": Metric(9.5, higher_is_better=False)}
    ResultCard("language modelling", "windows", [data], perplexity, "python a.py", {}).write(folder, "pretraining")
    card = make_card(folder, "user/a")
    assert f"someone/stories (streamed, revision {'ef' * 6})" in str(card)
    assert card.data.eval_results[0].dataset_type == "someone/stories"


def test_the_examples_are_true_for_the_model(tmp_path):
    text = str(make_card(make_spam(tmp_path / "spam"), "user/spam"))
    assert "| ham | See you at six | 0.96 |\n| spam | Call now, you won | 0.94 |" in text
    assert 'message = "Call now, you won"' in text and "# spam, 0.94" in text and "hf_a1" not in text
    widget = ModelCard(text).data.widget
    assert widget[1] == {"text": "Call now, you won", "output": [{"label": "spam", "score": 0.942}]}


def test_a_label_that_the_calibration_changes_is_not_an_example(tmp_path):
    calibration = {"temperature": 1.0, "shift": 0.0, "threshold": 0.98, "prevalence": 0.1}
    folder = spam_folder(tmp_path / "spam", Metric(0.0, [-0.1, 0.1]), calibration=calibration)
    text = str(make_card(folder, "user/spam"))
    assert "See you at six" in text and "Call now" not in text


def test_of_a_folder_without_the_pipeline_the_probabilities_are_those_that_transformers_gives(tmp_path):
    folder = make_spam(tmp_path / "spam")
    config = json.loads((folder / "config.json").read_text())
    del config["custom_pipelines"]
    (folder / "config.json").write_text(json.dumps(config))
    text = str(make_card(folder, "user/spam"))
    assert "print(classifier(message, truncation=True))  # spam, 0.97" in text and "words=True" not in text
    assert "`pipeline()` does not apply its calibration." in text


def test_a_threshold_of_each_label_is_told_beside_that_of_outside_texts(tmp_path):
    folder = make_classify(tmp_path / "classify")
    config = json.loads((folder / "config.json").read_text())
    config["calibration"]["threshold"] = [0.7, 0.7, 0.7]
    (folder / "config.json").write_text(json.dumps(config))
    card = " ".join(str(make_card(folder, "user/classify")).split())
    assert "highest probability is not above 0.55" in card and "not above that label's own threshold" in card


def test_several_labels_a_text_have_examples_of_one(tmp_path):
    folder = make_classify(tmp_path / "classify")
    config = json.loads((folder / "config.json").read_text()) | {
        "problem_type": "multi_label_classification",
        "calibration": {"threshold": [0.5, 0.5, 0.95]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    text = str(make_card(folder, "user/classify"))
    assert "of which a text may have several" in text
    assert "| billing | Charged twice | 0.90 |\n| login | Cannot log in | 1.00 |" in text


def test_a_follower_shows_an_answer_that_is_right_and_the_first_three(tmp_path):
    card = make_card(make_instruct(tmp_path / "a"), "user/a")
    assert '"content": "A number?"' in str(card) and "# 2\n" in str(card)
    assert "| Say a colour. | Blue. | Red. |\n| Plural? boat | boats | boats |" in str(card)
    assert card.data.widget[0]["output"] == {"text": "2"}


def test_a_writer_shows_what_it_wrote_last(tmp_path):
    card = make_card(make_pretrained(tmp_path / "a"), "user/a")
    assert "> **The lamp** was \\*lit\\* at night. It shone." in str(card) and "xq" not in str(card)
    assert "--prompt 'The lamp'" in str(card) and card.data.widget[0]["text"] == "The lamp"


def test_every_picture_has_a_title(tmp_path):
    text = str(make_card(make_spam(tmp_path / "a"), "user/a"))
    titles = re.findall(r'!\[(.+)\]\(plots/(\w+).png "(.+)"\)', text)
    assert [name for _, name, _ in titles] == ["training", "precision_recall"]
    assert all(alt == title for alt, _, title in titles)


def test_a_command_is_shown_once(tmp_path):
    assert str(make_card(make_spam(tmp_path / "a"), "user/a")).count("finetune_spam.py") == 1
