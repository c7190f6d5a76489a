"""
What a user of the package writes, with the types a checker must see: `mypy` reads it, strictly, and nobody runs it.
A signature that loses its annotations, or changes them, fails here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_gpt_scratch
from hf_gpt_scratch import (
    Chat,
    GPTScratchConfig,
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
    TextClassifier,
    check,
    convert,
    export,
    load,
    push,
)

folder = Path("model")

config = GPTScratchConfig(n_layer=2, n_head=4, n_embd=64)
assert_type(config, GPTScratchConfig)
assert_type(config.n_layer, int)
language_model: PreTrainedModel = GPTScratchForCausalLM(config)
assert_type(GPTScratchModel(config), GPTScratchModel)
assert_type(GPTScratchForTokenClassification(config), GPTScratchForTokenClassification)
GPTScratchForCausalLM("config.json")  # type: ignore[arg-type]

conversion = convert("openai-community/gpt2", folder, prove=True)
assert_type(conversion.folder, Path)
assert_type(conversion.format, str)
assert_type(conversion.max_logit_difference, float | None)
convert(3, folder)  # type: ignore[arg-type]
assert_type(export("model", "stock"), Path)
export("model")  # type: ignore[call-arg]

model, tokenizer = load("openai-community/gpt2")
checked_model: PreTrainedModel = model
assert_type(tokenizer, PreTrainedTokenizerBase)

classifier = TextClassifier.from_pretrained(folder)
assert_type(classifier, TextClassifier)
assert_type(classifier.model, GPTScratchForSequenceClassification)
for prediction in classifier.classify(["Win a prize"], batch_size=8):
    assert_type(prediction.label, str)
    assert_type(prediction.probability, float)
    assert_type(prediction.truncated, bool)
    assert_type(prediction.probabilities, tuple[float, ...])
    assert_type(prediction.decided_at, int | None)
assert_type(classifier.word_probabilities("Win a prize"), list[tuple[str, float]])
for reading in classifier.read_words("Win a prize"):
    assert_type(reading.labels, tuple[str, ...])
found = classifier.session(decide_at=0.99).add("Win a prize")
assert found is not None
assert_type(found.is_outside, bool)
classifier.classify([b"bytes"])  # type: ignore[list-item]

chat = Chat(model, tokenizer, system=None, history=False)
assert_type(chat.ask("What is a noun?", max_new_tokens=20), Iterator[str])
assert_type(chat.messages, list[dict[str, str]])
assert_type(chat.finish_reason, str | None)
Chat(model)  # type: ignore[call-arg]

for finding in check(folder):
    assert_type(finding.name, str)
    assert_type(finding.status, str)
check(3)  # type: ignore[arg-type]

push(folder, "you/your-model", private=True)
push(folder)  # type: ignore[call-arg]

assert_type(hf_gpt_scratch.__version__, str)
unknown = hf_gpt_scratch.no_such_name  # type: ignore[attr-defined]
