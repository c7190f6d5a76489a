"""Model cards, whole, from the files of small folders; their code, run; their numbers, each from a result card."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from models import save_model

from hf_gpt_scratch import GPTScratchForSequenceClassification
from hf_gpt_scratch.data.sms_spam import SHA256
from hf_gpt_scratch.errors import InputError, UsageError
from hf_gpt_scratch.evaluation.card import Metric, ResultCard
from hf_gpt_scratch.hub.card_facts import public_command, source_name, without_folders
from hf_gpt_scratch.hub.model_card import make_card

CARDS = Path(__file__).parent / "cards"
SPAM = {"architectures": ["GPTScratchForSequenceClassification"], "id2label": {"0": "ham", "1": "spam"}}


def write_folder(folder: Path, config: dict, metrics: dict | None = None, chat: bool = False) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_scratch", "n_positions": 256, **config}))
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if chat:
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def spam_folder(folder: Path, ours: Metric, theirs: Metric, **config) -> Path:
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
        "data": data,
        "command": command,
    }
    write_folder(folder, {**SPAM, **config}, metrics)
    (folder / "plots").mkdir()
    (folder / "plots" / "training.png").touch()
    ResultCard(
        task="SMS spam classification",
        protocol="grouped split 5",
        data=[data],
        metrics={"f1": ours, "precision": Metric(0.9512)},
        baselines={"TF-IDF + LinearSVC": {"f1": theirs}},
        seeds=[5],
        command=command,
        environment={},
    ).write(folder, "spam")
    return folder


def make_spam(folder: Path) -> Path:
    calibration = {"temperature": 1.25, "shift": 0.0, "threshold": 0.875}
    return spam_folder(folder, Metric(0.9435, [0.91, 0.96]), Metric(0.9559, [0.93, 0.97]), calibration=calibration)


def make_base(folder: Path) -> Path:
    write_folder(folder, {"architectures": ["GPTScratchForCausalLM"]})
    record = {"source": "openai-community/gpt2", "format": "hf-gpt2", "max_logit_difference": 1.5e-5}
    (folder / "conversion.json").write_text(json.dumps({**record, "sha256": {"model.safetensors": "ab" * 32}}))
    return folder


def make_adapter(folder: Path) -> Path:
    folder.mkdir()
    settings = {"base_model_name_or_path": "user/base", "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.mark.parametrize("make", [make_spam, make_base, make_adapter])
def test_the_whole_card(make, tmp_path):
    name = make.__name__.removeprefix("make_")
    text = str(make_card(make(tmp_path / "model"), f"user/{name}"))
    assert text == (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert "/home" not in text
    assert str(make_card(tmp_path / "model", f"user/{name}")) == text


def test_what_was_not_measured_is_called_so(tmp_path):
    text = str(make_card(make_base(tmp_path / "model"), "user/base"))
    assert "| this model | not measured |" in text and "not recorded" in text
    assert ModelCard(text).data.base_model == "openai-community/gpt2"


def test_every_number_is_from_a_file_of_the_folder(tmp_path):
    folder = make_spam(tmp_path / "model")
    text = str(make_card(folder, "user/spam")).split("## Evaluation")[1]
    sources = "".join(path.read_text() for path in folder.rglob("*.json"))
    for number in re.findall(r"\d+\.\d+", text):
        assert number.rstrip("0").rstrip(".") in sources, number


def test_the_hub_reads_the_results(tmp_path):
    data = ModelCard(str(make_card(make_spam(tmp_path / "model"), "user/spam"))).data
    [f1, precision] = data.eval_results
    assert (f1.metric_type, f1.metric_value, f1.dataset_type) == ("f1", 0.9435, "ucirvine/sms_spam")
    assert precision.metric_value == 0.9512 and data.pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    "ours, theirs, said",
    [
        ([0.97, 0.99], [0.90, 0.96], "is better than TF-IDF + LinearSVC"),
        ([0.90, 0.96], [0.97, 0.99], "is worse than TF-IDF + LinearSVC"),
        ([0.90, 0.96], [0.95, 0.99], "cannot be told apart from TF-IDF + LinearSVC"),
    ],
)
def test_the_comparison_follows_the_intervals(tmp_path, ours, theirs, said):
    folder = spam_folder(tmp_path / "model", Metric(sum(ours) / 2, ours), Metric(sum(theirs) / 2, theirs))
    text = str(make_card(folder, "user/spam"))
    assert said in text and ("smaller and faster by far" in text) == ("better" not in said)


@pytest.mark.parametrize("is_classifier", [True, False])
def test_its_lines_of_code_run_where_the_package_is_not_installed(tmp_path, is_classifier):
    names = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}} if is_classifier else {}
    classes = [GPTScratchForSequenceClassification] if is_classifier else []
    folder = save_model(tmp_path / "model", *classes, **names)
    [code] = re.findall(r"```python\n(.*?)```", str(make_card(folder, "user/repo")), re.DOTALL)
    code = "import sys\nsys.modules['hf_gpt_scratch'] = None\n" + code.replace('"user/repo"', repr(str(folder)))
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split()[-1] in ("ham", "spam") if is_classifier else "Every effort moves you" in run.stdout


@pytest.mark.parametrize(
    "text, shown",
    [
        ("python a.py --data_file=/home/someone/x.txt --n 3", "python a.py --data_file=x.txt --n 3"),
        ("judge /home/someone/judge, mean of 0/100", "judge judge, mean of 0/100"),
        ("see https://example.org/a/b and runs/spam", "see https://example.org/a/b and runs/spam"),
        ("C:\\data\\x.txt, ~/y.txt, file:///srv/z.txt", "x.txt, y.txt, z.txt"),
    ],
)
def test_no_folder_of_the_machine_is_told(text, shown):
    assert without_folders(text) == shown


def test_a_source_is_called_by_its_file(tmp_path):
    assert source_name("/home/some one/private notes/x y.txt") == "x y.txt"
    assert source_name("text, test, runs/text.txt") == "text, test, runs/text.txt"
    with pytest.raises(InputError, match="cannot be read"):
        public_command("python 'unbalanced")


def test_what_has_no_card(tmp_path):
    folder = write_folder(tmp_path / "labels", {**SPAM, "id2label": {"0": "good", "1": "bad"}})
    with pytest.raises(InputError, match="ham and spam only"):
        make_card(folder, "user/repo")
    with pytest.raises(UsageError, match="does not fit"):
        make_card(make_spam(tmp_path / "spam"), "user/repo", template="instruct")
    with pytest.raises(InputError):
        make_card(tmp_path / "nothing", "user/repo")
