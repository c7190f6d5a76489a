"""
The model card of a folder: README.md, written from the folder's own files by the templates in model_cards/.

What no file of the folder says is "not measured" or "not recorded" in the card. No absolute path gets into it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from ..saving import ADAPTER_CONFIG
from .card_facts import option, read_results, render, result_facts, source_name, training_facts

MARKER = "<!-- Written by hf-gpt-scratch from the files beside it. Without this line it is never overwritten. -->"
KINDS = ("base", "spam", "instruct", "adapter")
TEMPLATES = KINDS[:3]
PIPELINES = {"base": "text-generation", "instruct": "text-generation", "spam": "text-classification"}
TAGS = {"base": [], "spam": ["spam-detection"], "instruct": ["instruction-following"]}
EXPECTED = {
    "base": ("perplexity",),
    "spam": ("f1", "precision", "recall", "mcc", "accuracy"),
    "instruct": ("response_perplexity", "perplexity", "stop_rate"),
}
# What the Hub calls the metrics that it knows; the others stand in the card's tables alone.
METRIC_TYPES = {
    **{name: name for name in ("f1", "precision", "recall", "accuracy", "perplexity")},
    "mcc": "matthews_correlation",
    "acc": "accuracy",
    "acc_norm": "accuracy",
    "response_perplexity": "perplexity",
    "word_perplexity": "perplexity",
}


@dataclass(frozen=True)
class DataSet:
    """
    What the card says of a data set.

    Attributes:
        hub: its name on the Hub, if it is there.
    """

    name: str
    sha256: str | None = None
    hub: str | None = None
    url: str | None = None
    licence: str | None = None
    is_sms: bool = False

    @classmethod
    def of(cls, record: Mapping | None, command: str | None = None) -> "DataSet | None":
        """
        The one of a `{"source": ..., "sha256": ...}`, known by its hash or else called by its file's name; `None` for
        no record. A `--dataset_name` in `command` tells that the source is on the Hub.
        """
        if not isinstance(record, Mapping) or not record.get("source"):
            return None
        source, sha256 = str(record["source"]), record.get("sha256")
        if sha256 in (known := _known_data()):
            return known[sha256]
        name = source.split(", ")[0]
        is_hub = bool(option(command, "dataset_name") == name or record.get("revision"))
        is_url = source.startswith(("https://", "http://"))
        return cls(
            name if is_hub else source if is_url else source_name(source),
            sha256,
            hub=name if is_hub else None,
            url=f"https://huggingface.co/datasets/{name}" if is_hub else None,
        )


def _known_data() -> dict[str, DataSet]:
    """The data sets whose source and licence are known, by their SHA-256."""
    from ..data import alpaca, sms_spam, text

    known = (
        DataSet(
            "SMS Spam Collection",
            sms_spam.SHA256,
            hub="ucirvine/sms_spam",
            url="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
            licence="CC BY 4.0 (Almeida and Hidalgo, 2011)",
            is_sms=True,
        ),
        DataSet(
            "The Verdict, by Edith Wharton (1908)",
            text.VERDICT_SHA256,
            url=text.VERDICT_URL,
            licence="in the public domain in the United States",
        ),
        DataSet(
            "the instructions of Build a Large Language Model (From Scratch), chapter 7",
            alpaca.SHA256,
            url=alpaca.URL,
            licence="Apache 2.0, that of the book's code",
        ),
    )
    return {data.sha256: data for data in known}


def make_card(
    folder: str | os.PathLike, repo_id: str, license: str = "mit", language: str = "en", template: str | None = None
):
    """
    The card of a model's or an adapter's folder, from its config.json or adapter_config.json, metrics.json,
    conversion.json, results/*.json and plots/training.png, as far as they are there.

    Args:
        repo_id: the repository of the Hub that the folder is for, which the lines of code load.
        template: one of `TEMPLATES`; by default that which fits the folder.

    Returns:
        A `huggingface_hub.ModelCard`.

    Raises:
        InputError: when the folder holds no model that there is a card for, or one of its files is damaged.
        UsageError: for a template that does not exist or does not fit.
    """
    from huggingface_hub import ModelCard, ModelCardData

    model = _Model.read(Path(folder), template)
    cards = read_results(model.folder)
    results = [result for card in cards for result in eval_results(card, PIPELINES[model.template])]
    data = DataSet.of(model.metrics.get("data"), model.metrics.get("command"))
    name = repo_id.split("/")[-1]
    metadata = ModelCardData(
        language=language,
        license=license,
        library_name="peft" if model.adapter else "transformers",
        pipeline_tag=PIPELINES[model.template],
        tags=["gpt", "gpt-from-scratch", "custom_code", *TAGS[model.template], *(["lora"] if model.adapter else [])],
        base_model=model.base if is_hub_id(model.base) else model.hub_origin,
        datasets=[data.hub] if data and data.hub else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    text = render(
        f"{model.template}.md",
        metadata=metadata.to_yaml(),
        marker=MARKER,
        name=name,
        license=license,
        code=loading_code(repo_id, model.kind),
        data=data,
        adapter=bool(model.adapter),
        base=source_name(model.base) if model.base else None,
        base_is_hub=is_hub_id(model.base),
        **training_facts(model.metrics, model.config, model.conversion, model.folder),
        **result_facts(cards, EXPECTED[model.template], lambda record: DataSet.of(record).name),
    )
    return ModelCard(text)


def eval_results(card, pipeline: str) -> list:
    """The numbers of a result card as the Hub's model-index has them: those that it knows."""
    from huggingface_hub import EvalResult

    data = DataSet.of(card.data[0])
    return [
        EvalResult(
            task_type=pipeline,
            task_name=card.task,
            dataset_type=data.hub or "custom",
            dataset_name=data.name,
            metric_type=METRIC_TYPES[name],
            metric_name=name,
            metric_value=round(metric.value, 4),
        )
        for name, metric in card.metrics.items()
        if name in METRIC_TYPES
    ]


def loading_code(folder_or_repo: str | os.PathLike, kind: str) -> str:
    """
    Python that loads a model of one of the `KINDS` and uses it, where this package need not be installed.

    Raises:
        UsageError: for another kind.
    """
    if kind not in KINDS:
        raise UsageError(f"There are no lines to load a model of the kind {kind!r}; it must be {' or '.join(KINDS)}.")
    name = '"' + str(folder_or_repo).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return render("code.md", kind=kind, name=name).strip("\n")


def is_hub_id(name: str | None) -> bool:
    """Whether it can be a repository of the Hub, of the form user/name, and is no folder here."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    from ..tokenizer import is_missing_folder

    if not name or name.count("/") != 1 or Path(name).exists() or is_missing_folder(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@dataclass(frozen=True)
class _Model:
    """A folder's files, read: its settings and what was recorded of its training and conversion."""

    folder: Path
    template: str
    adapter: dict
    config: dict
    metrics: dict
    conversion: dict

    @classmethod
    def read(cls, folder: Path, template: str | None) -> "_Model":
        if template is not None and template not in TEMPLATES:
            raise UsageError(f"There is no card template {template!r}; it must be {' or '.join(TEMPLATES)}.")
        adapter, config = _read_object(folder / ADAPTER_CONFIG), {}
        if not adapter or (folder / "config.json").is_file():
            from ..configuration_gpt_scratch import GPTScratchConfig
            from ..conversion.source import read_config

            adapter, config = {}, read_config(folder, GPTScratchConfig.model_type)
        fitting = _fitting_templates(folder, adapter, config, _read_object(folder / "metrics.json").get("task"))
        if template not in (None, *fitting):
            raise UsageError(f"The card template {template!r} does not fit {folder}; {' or '.join(fitting)} does.")
        files = (_read_object(folder / name) for name in ("metrics.json", "conversion.json"))
        return cls(folder, template or fitting[0], adapter, config, *files)

    @property
    def kind(self) -> str:
        return "adapter" if self.adapter else self.template

    @property
    def base(self) -> str | None:
        """What it was trained on from: a repository, or else a folder."""
        if self.adapter:
            from ..adapters import base_of

            return base_of(self.folder)
        return option(self.metrics.get("command"), "model_name_or_path")

    @property
    def hub_origin(self) -> str | None:
        """The repository that it was converted from."""
        source = self.conversion.get("source")
        return source if isinstance(source, str) and not self.base and is_hub_id(source) else None


def _fitting_templates(folder: Path, adapter: Mapping, config: Mapping, task: str | None) -> list[str]:
    """The templates that a folder can have, the best first; raises `InputError` where there are none."""
    if adapter and adapter.get("task_type") != "CAUSAL_LM":
        raise InputError(f"{folder} holds an adapter of another model than a language model, which has no card yet.")
    has_chat = _has_chat_template(folder)
    if (adapter or task == "instruction following") and not has_chat:
        raise InputError(f"{folder} has no chat template in its tokenizer's files; save the tokenizer beside it.")
    architecture = (config.get("architectures") or ["GPTScratchModel"])[0]
    if adapter:
        return ["instruct"]
    if architecture == "GPTScratchForCausalLM":
        return ["instruct", "base"] if has_chat else ["base"]
    if architecture != "GPTScratchForSequenceClassification":
        raise InputError(
            f"{folder} holds a {architecture}; there are cards for language models and spam filters only."
        )
    labels = list((config.get("id2label") or {}).values())
    if labels != ["ham", "spam"]:
        raise InputError(f"{folder} has the labels {', '.join(labels)}; there is a card for ham and spam only.")
    return ["spam"]


def _has_chat_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").is_file() or bool(
        _read_object(folder / "tokenizer_config.json").get("chat_template")
    )


def _read_object(path: Path) -> dict:
    """What a JSON file holds, `{}` where there is none; raises `InputError` where it is damaged."""
    from ..evaluation.responses import read_json

    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must be a JSON object, not a {type(values).__name__}.")
    return values


def _facts(model: _Model) -> dict[str, Any]:
    """What the templates say of the model, its training and its conversion."""
    metrics, base = model.metrics, model.base
    leaked = metrics.get("leaked_pairs", metrics.get("test_rows_with_a_near_copy_in_train"))
    calibration = model.config.get("calibration")
    picture = model.folder / "plots" / "training.png"
    return {
        "adapter": bool(model.adapter),
        "base": _model_name(base),
        "base_is_hub": is_hub_id(base),
        "config": model.config,
        "parameters": _number(metrics["parameters"]) if metrics.get("parameters") else None,
        "training": _training(model),
        "command": _without_paths(metrics.get("command")),
        "curves": "plots/training.png" if picture.is_file() else None,
        "conversion": _conversion(model.conversion),
        "leaked": _number(leaked),
        "leaked_rows": leaked,
        "protocol": metrics.get("protocol"),
        "calibration": calibration and {name: _number(value) for name, value in calibration.items()},
    }


def _training(model: _Model) -> dict[str, str]:
    metrics, config, adapter = model.metrics, model.config, model.adapter
    sizes = metrics.get("sizes") or metrics.get("rows") or {}
    hardware = metrics.get("hardware") or {}
    versions = {"Python": metrics.get("python"), **(metrics.get("versions") or {})}
    shape = {name: config[name] for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size") if config}
    lora = {name: adapter[name] for name in ("r", "lora_alpha", "lora_dropout") if name in adapter}
    parts = [f"{_number(size)} {name}" for name, size in sizes.items() if size is not None]
    values = {
        "Rows": ", ".join(parts) or _number(None),
        "Parameters": _number(metrics.get("parameters")),
        "Parameters that were trained": _number(metrics.get("trained_parameters", metrics.get("parameters"))),
        "Method": metrics.get("method"),
        "Shape": ", ".join(f"{name} {value}" for name, value in shape.items()),
        "LoRA": ", ".join(f"{name} {_number(value)}" for name, value in lora.items()),
        **{name.capitalize(): _number(metrics.get(name)) for name in ("steps", "epochs", "seed")},
        "Seconds": _number(metrics.get("train_seconds")),
        "Hardware": str(hardware.get("gpu") or hardware.get("cpu") or "not recorded"),
        "Versions": ", ".join(f"{name} {value}" for name, value in versions.items() if value) or "not recorded",
    }
    return {label: value for label, value in values.items() if value}


def _conversion(record: Mapping) -> dict | None:
    if not record:
        return None
    return {
        "source": _model_name(str(record.get("source", "not recorded"))),
        "format": str(record.get("format", "not recorded")),
        "difference": _number(record.get("max_logit_difference")),
        "files": record.get("sha256") or {},
    }


def _read_results(model: _Model) -> list:
    """The result cards, checked, that of the training's own task first."""
    from ..evaluation.card import FOLDER
    from ..evaluation.report import read_groups

    if not any((model.folder / FOLDER).glob("*.json")):
        return []
    cards = [entry.card for group in read_groups([model.folder]) for entry in group.entries.values()]
    return sorted(cards, key=lambda card: card.task != model.metrics.get("task"))


def _results(model: _Model, cards: Sequence) -> dict[str, Any]:
    """The tables of the result cards, what they lack, and how the model compares with its baselines."""
    from ..evaluation.report import markdown_table

    evaluations = [
        {
            "task": card.task,
            "table": markdown_table({TITLE: card.metrics, **card.baselines}),
            "protocol": _without_paths(card.protocol),
            "data": [_data_text(data) for data in card.data],
            "baselines": list(card.baselines),
            "seeds": card.seeds,
            "command": _without_paths(card.command),
        }
        for card in cards
    ]
    measured = {name for card in cards for name in card.metrics}
    compared = next((card for card in cards if "f1" in card.metrics and card.baselines), None)
    verdicts = _verdicts(compared) if compared else {}
    return {
        "evaluations": evaluations,
        "missing": [name for name in EXPECTED[model.template] if name not in measured],
        "comparisons": [_comparison(name, verdict) for name, verdict in verdicts.items()],
        "beats_baselines": bool(verdicts) and set(verdicts.values()) == {"better"},
    }


def _verdicts(card) -> dict[str, str | None]:
    """For each baseline with an F1: whether the model's is better, worse, or neither; `None` without intervals."""
    ours, verdicts = card.metrics["f1"].interval, {}
    for name, metrics in card.baselines.items():
        theirs = metrics["f1"].interval if "f1" in metrics else None
        if not ours or not theirs:
            verdicts[name] = None
        else:
            verdicts[name] = "better" if ours[0] > theirs[1] else "worse" if ours[1] < theirs[0] else "neither"
    return verdicts


def _comparison(name: str, verdict: str | None) -> str:
    return {
        "better": f"By F1 it is better than {name}: its interval lies above that model's.",
        "worse": f"By F1 it is worse than {name}: its interval lies below that model's.",
        "neither": f"By F1 it cannot be told apart from {name}: their intervals overlap.",
        None: f"How its F1 compares with that of {name} cannot be told: there are not intervals of both.",
    }[verdict]


def _eval_results(card, pipeline_tag: str) -> list:
    """What of a result card the Hub's model-index can hold."""
    from huggingface_hub import EvalResult

    names = list(dict.fromkeys(_data_set(data).name for data in card.data))
    data = _data_set(card.data[0])
    name = names[0] if len(names) == 1 else card.task
    return [
        EvalResult(
            task_type=pipeline_tag,
            dataset_type=data.hub if len(names) == 1 and data.hub else name,
            dataset_name=name,
            metric_type=METRIC_TYPES[metric],
            metric_name=f"{metric} ({card.task})",
            metric_value=value.value,
        )
        for metric, value in card.metrics.items()
        if metric in METRIC_TYPES and math.isfinite(value.value)
    ]


def _data_set(record: Mapping) -> DataSet:
    return DataSet.of(record) or DataSet("not recorded")


def _data_text(record: Mapping) -> str:
    return f"{_data_set(record).name} (SHA-256 {record['sha256']})"


def _render(template: str, **values) -> str:
    """A template of model_cards/; what it names must be given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from ..evaluation.report import escape

    environment = Environment(
        loader=FileSystemLoader(_templates_folder()), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(md=escape, block=_fenced)
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text) if template != "code.md" else text


def _templates_folder() -> Path:
    """model_cards/: within the installed package, or at the top of the repository."""
    package = Path(__file__).parents[1]
    folder = next((path for path in (package / "model_cards", package.parent / "model_cards") if path.is_dir()), None)
    if folder is None:
        raise InputError("The templates of the model cards, model_cards/, are missing; install hf-gpt-scratch again.")
    return folder


def _number(value) -> str:
    """A number as people read it, `not measured` for none."""
    from ..evaluation.report import MISSING

    if value is None:
        return MISSING
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def _fenced(text: str, language: str) -> str:
    """A block of code, within a fence that the text does not hold."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _option(command: str | None, name: str) -> str | None:
    """The value of `--name` in a command."""
    words = _words(command)
    for word, following in zip(words, [*words[1:], None]):
        if word == f"--{name}":
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def _words(command: str | None) -> list[str]:
    try:
        return shlex.split(command or "")
    except ValueError:
        return (command or "").split()


def _is_absolute(path: str) -> bool:
    return bool(re.match(r"/|~|file:|[A-Za-z]:[\\/]|\\\\", path))


def _file_name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _source_name(source: str) -> str:
    """A source that is a path by the last part of it; the parts of another, such as `cais/mmlu, test`, as they are."""
    parts = source.split(", ")
    return ", ".join(
        _file_name(part) if _is_absolute(part) or re.search(r"\.\w+$", part) or part.count("/") > 1 else part
        for part in parts
    )


def _model_name(name: str | None) -> str | None:
    return name if name is None or not _is_absolute(name) else _file_name(name)


def _without_paths(text: str | None) -> str | None:
    """A command or a sentence, its absolute paths cut to their last part."""
    if not text:
        return None
    return re.sub(
        r"(?<![\w.~:/\\-])(?:file:/*|~/|/|[A-Za-z]:[\\/])[^\s'\",;]+", lambda match: _file_name(match[0]), text
    )
