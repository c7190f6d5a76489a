"""The static page of a classifier: what is written into its folder (see `static_page`)."""

import html
import json
import os

from transformers import PreTrainedTokenizerBase

from ..classification.classifier import TextClassifier
from ..pretrained import precision_name
from ..utils.errors import InputError
from . import classify, examples, label_words, words
from .static_page import StaticPage


def static_page(folder: str | os.PathLike, source: str | os.PathLike, name: str) -> StaticPage:
    """
    The page of a classifier.

    Args:
        folder: with the ONNX model.
        source: the folder that it was exported from, or itself, with what was recorded beside the model.
        name: what the page calls the model.

    Raises:
        InputError: where there is no classifier, or its tokenizer is not a byte-level BPE.
    """
    classifier = TextClassifier.from_pretrained(folder)
    _require_byte_level(classifier.tokenizer)
    model, [title, sentence] = classifier.model, classify.heading(classifier)
    size = f"{model.num_parameters():,} parameters"
    facts = f"Model: <b>{html.escape(name)}</b> · {size} · running in this tab, {precision_name(model)}"
    settings = {
        "names": classifier.labels,
        "isBinary": classify.has_threshold(classifier),
        "isMultiLabel": classifier.calibration.is_multi_label,
        "threshold": classifier.calibration.threshold,
        "examples": [text for text, _ in examples.messages(classifier, source)],
        "longTexts": model.config.long_texts,
        "positions": model.config.n_positions,
    }
    return StaticPage(
        title,
        sentence,
        facts,
        name,
        "classify.html",
        ("draw.js", "classify.js"),
        ("classifier.js",),
        css=words.CSS + label_words.CSS,
        settings=settings,
    )


def _require_byte_level(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `InputError` for a tokenizer in whose tokens the page cannot find the words."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    step = settings["pre_tokenizer"] or {}
    kinds = {one["type"] for one in (step, *step.get("pretokenizers", ())) if one}
    if settings["model"]["type"] != "BPE" or "ByteLevel" not in kinds:
        raise InputError(
            f"The page reads the tokens of a byte-level BPE, such as GPT-2's; this tokenizer is a"
            f" {settings['model']['type']} without them. Serve the page without --export-static."
        )
