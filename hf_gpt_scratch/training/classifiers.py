"""
What the jobs that train a classifier share:

    check_settings    what contradicts itself
    make_model        the model, its head kept or new
    encode            texts as rows of tokens, long ones cut or in windows
    make_trainer      the Trainer of those rows
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import DatasetDict
from torch import nn
from transformers import DataCollatorWithPadding, EvalPrediction, PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..data.word_dropout import WordDropout
from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
from ..pipeline_gpt_scratch import windows
from ..pretrained import held_class
from ..utils.errors import UsageError
from .arguments import ClassifierArguments, ScratchTrainingArguments
from .run_record import Run
from .samplers import LengthGroupedTrainer
from .trainer import early_stopping

SHOWN_LABELS = 8  # in a sentence
UNEVEN = 10  # times as many texts: then a label is called rare
READ = {"first": "their first {} tokens are read", "last": "their last {} tokens are read"}
READ |= {"windows": "each is read in windows of at most {} tokens, whose scores are averaged"}


def check_settings(args: ClassifierArguments, training_args: ScratchTrainingArguments, multi_label: bool) -> None:
    """Raises `UsageError` for settings that contradict each other."""
    if training_args.label_smoothing_factor:  # Trainer's smoothing takes the place of the model's own loss
        for name, is_set in {
            "prefix_loss_weight": args.prefix_loss_weight,
            "class_weights": args.class_weights != "none",
            "multi_label": multi_label,
        }.items():
            if is_set:
                raise UsageError(f"label_smoothing_factor cannot be combined with {name}; omit one of them.")
    if multi_label and args.class_weights != "none":
        raise UsageError("--class_weights is for one label a text; omit it, or omit --multi_label.")
    if not 0 <= args.word_dropout < 1:
        raise UsageError(f"word_dropout must be at least 0 and below 1, not {args.word_dropout:g}.")


def class_weights(args: ClassifierArguments, labels: Sequence[int], names: Sequence[str]) -> list[float] | None:
    """
    By `--class_weights balanced` the weight of each label's texts in the loss, so that all labels weigh the same and a
    text 1 on average. What the weights are is printed; and without them, where a label is much rarer than another.

    Args:
        labels: the training set's, each an index into `names`, and each of those at least once.
    """
    counts = np.bincount(labels, minlength=len(names))
    weights = np.round(len(labels) / (len(names) * counts), 4)
    rarest = np.argsort(counts, kind="stable")[:SHOWN_LABELS]
    if args.class_weights == "balanced":
        shown = [f"{names[i]} {weights[i]:.3g} ({counts[i]} texts)" for i in rarest]
        print(f"Weights in the loss, the rarest labels first: {', '.join(shown)}{_and_more(names)}.")
        return weights.tolist()
    if counts.max() >= UNEVEN * counts.min():
        shown = ", ".join(f"{names[i]} ({counts[i]})" for i in rarest if counts.max() >= UNEVEN * counts[i])
        print(
            f"note: some labels are rare in the training set, beside {counts.max()} texts of"
            f" {names[counts.argmax()]}: {shown}; --class_weights balanced makes their texts count more."
        )
    return None


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - SHOWN_LABELS} more" if len(names) > SHOWN_LABELS else ""


def make_model(
    args: ClassifierArguments,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    multi_label: bool = False,
    class_weights: list[float] | None = None,
) -> GPTScratchForSequenceClassification:
    """
    The classifier of the labels `names`, from pretrained or random weights, with the layers frozen that are not to be
    trained. The head of a classifier of the same labels is kept, and what was done is printed.
    """
    settings = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": f"{'multi' if multi_label else 'single'}_label_classification",
        "prefix_loss_weight": args.prefix_loss_weight,
        "class_weights": class_weights,
        "long_texts": args.long_texts,
    }
    base = ModelFolder.resolve(args.model_name_or_path) if args.model_name_or_path else None
    if base is not None and held_class(base) == GPTScratchForSequenceClassification.__name__:
        kept = {name: settings[name] for name in ("prefix_loss_weight", "long_texts")} | {"class_weights": None}
        model = args.make_model(GPTScratchForSequenceClassification, tokenizer, new_head=base.is_adapter, **kept)
        print(fit_head(model, settings))
    else:
        model = args.make_model(GPTScratchForSequenceClassification, tokenizer, new_head=True, **settings)
    if hasattr(model.config, "calibration"):  # of what it was before
        del model.config.calibration
    freeze(model, args.trainable_layers)
    return model


def fit_head(model: GPTScratchForSequenceClassification, settings: dict) -> str:
    """
    Gives a classifier the labels of `settings`, which are put into its configuration: its head is kept, in their
    order, where it has the same ones and the same problem_type, and else a new one. Returns a sentence on that.
    """
    config, names = model.config, list(settings["id2label"].values())
    had = [str(config.id2label[i]) for i in range(config.num_labels)]
    is_same_task = (config.problem_type or "single_label_classification") == settings["problem_type"]
    for name, value in settings.items():
        setattr(config, name, value)
    config.validate_architecture()
    if sorted(had) == sorted(names) and is_same_task:
        order = torch.tensor([had.index(name) for name in names])
        for parameter in model.score.parameters():
            parameter.data = parameter.data[order].contiguous()
        return f"The head of {model.name_or_path} is kept: it has the same {len(names)} labels."
    model.num_labels = len(names)
    model.score = nn.Linear(config.n_embd, len(names), bias=config.classifier_bias)
    model._init_weights(model.score)
    shown = ", ".join(had[:5]) + (", ..." if len(had) > 5 else "")
    reason = f"other labels ({shown})" if is_same_task else f"labels for {_other_kind(settings['problem_type'])}"
    return f"The head is new: {model.name_or_path} has {reason}."


def _other_kind(problem_type: str) -> str:
    """How a model of the other problem type labels texts."""
    return "one label a text" if problem_type.startswith("multi") else "several labels a text"


def freeze(model: GPTScratchForSequenceClassification, layers: str) -> None:
    """Leaves only `layers` ("all", "head", or how many of the last blocks) to be trained; raises `UsageError`."""
    numbers = [str(number) for number in range(1, model.config.n_layer + 1)]
    if layers not in ("all", "head", *numbers):
        raise UsageError(f"trainable_layers must be all, head or 1 to {numbers[-1]}, not {layers!r}.")
    model.requires_grad_(layers == "all")
    blocks = 0 if layers in ("all", "head") else int(layers)
    for module in [model.score, *([model.transformer.ln_f, *model.transformer.h[-blocks:]] if blocks else [])]:
        module.requires_grad_(True)


@dataclass(frozen=True)
class Encoded:
    """
    Tokenized splits.

    Attributes:
        rows: with `input_ids`, `attention_mask` and `label`: one for each text, or for each window of it.
        texts: by split, `(rows,)`: the number of the text that each row is of.
        too_long: by split, how many texts have more tokens than the model reads.
        handling: what is done with those, as `config.long_texts`.
        limit: the most tokens that the model reads.
    """

    rows: DatasetDict
    texts: dict[str, np.ndarray]
    too_long: dict[str, int]
    handling: str
    limit: int

    def of_texts(self, split: str, logits: np.ndarray) -> np.ndarray:
        """
        The logits of a split's texts, `(texts, labels)`: of those of a text's windows the mean, to which each counts
        by its number of tokens.
        """
        starts = np.flatnonzero(np.diff(self.texts[split], prepend=-1))
        if len(starts) == len(logits):
            return logits
        tokens = np.array([[len(ids)] for ids in self.rows[split]["input_ids"]])  # (rows, 1)
        return np.add.reduceat(logits * tokens, starts) / np.add.reduceat(tokens, starts)

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split's texts."""
        starts = np.flatnonzero(np.diff(self.texts[split], prepend=-1))
        return np.asarray(self.rows[split]["label"])[starts]

    def facts(self) -> dict:
        """What metrics.json says of long texts."""
        return {"read": self.handling, "tokens": self.limit, "texts": self.too_long} | (
            {"rows": {name: len(rows) for name, rows in self.rows.items()}} if self.handling == "windows" else {}
        )

    def sentence(self) -> str | None:
        """What is said of texts that are too long; `None` where there are none."""
        if not any(self.too_long.values()):
            return None
        shown = ", ".join(
            f"{count} of {len(np.unique(self.texts[name]))} in {name}"
            for name, count in self.too_long.items()
            if count
        )
        return (
            f"Texts of more than the model's {self.limit} tokens: {shown};"
            f" {READ[self.handling].format(self.limit)} (--long_texts)."
        )


def encode(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, config: GPTScratchConfig) -> Encoded:
    """
    The splits, with columns `text` and `label`, as rows of at most `n_positions` tokens, by `config.long_texts`.
    Prints how many texts are longer.
    """

    def cut(batch: dict, numbers: list[int]) -> dict:
        texts = [text.strip() for text in batch["text"]]
        ids = tokenizer(texts, split_special_tokens=True, verbose=False)["input_ids"]
        found = [
            (row[window], number, label, len(row) > config.n_positions)
            for row, number, label in zip(ids, numbers, batch["label"])
            for window in windows(len(row), config)
        ]
        rows, texts, labels, is_long = (list(column) for column in zip(*found))
        masks = [[1] * len(row) for row in rows]
        return {"input_ids": rows, "attention_mask": masks, "label": labels, "number": texts, "is_long": is_long}

    texts, too_long, rows = {}, {}, {}
    for name, split in splits.items():
        done = split.map(cut, batched=True, with_indices=True, remove_columns=split.column_names, desc="Tokenizing")
        texts[name] = np.asarray(done["number"])
        too_long[name] = len(np.unique(texts[name][np.asarray(done["is_long"], dtype=bool)]))
        rows[name] = done.remove_columns(["number", "is_long"])
    encoded = Encoded(DatasetDict(rows), texts, too_long, config.long_texts, config.n_positions)
    if sentence := encoded.sentence():
        print(sentence)
    return encoded


def make_trainer(
    run: Run,
    model: GPTScratchForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    measure: Callable[[np.ndarray, np.ndarray], dict],
    shown_metric: str,
) -> LengthGroupedTrainer:
    """
    The Trainer of the tokenized splits.

    Args:
        measure: the numbers of the logits `(texts, labels)` and the labels of the validation set, of which Trainer
            keeps those that are single numbers.
        shown_metric: which of them is in the table of losses.
    """
    args, train = run.args, encoded.rows["train"]
    if args.word_dropout:
        seeds = run.training_args.data_seed, run.training_args.seed
        train = WordDropout(train, tokenizer, args.word_dropout, seeds[seeds[0] is None])

    def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
        logits = encoded.of_texts("validation", evaluation.predictions)
        found = measure(logits, encoded.labels("validation"))
        return {key: value for key, value in found.items() if isinstance(value, float)}

    return LengthGroupedTrainer(
        model=model,
        args=run.training_args,
        train_dataset=train,
        eval_dataset=encoded.rows["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=early_stopping(args.early_stopping_patience, run.training_args),
        shown_metric=shown_metric,
    )


def save(trainer: LengthGroupedTrainer) -> bool:
    """Saves the model without the weights of its labels, which only the training needs; as `save_final`."""
    trainer.model.config.class_weights = None
    return trainer.save_final()


def predict(trainer: LengthGroupedTrainer, encoded: Encoded, split: str) -> np.ndarray:
    """The model's logits of a split's texts, `(texts, labels)`."""
    trainer.compute_metrics = None  # it is for the validation set, while training
    return encoded.of_texts(split, trainer.predict(encoded.rows[split]).predictions)
