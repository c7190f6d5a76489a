"""The README.md of an ONNX folder: what it holds, and how it is run."""

from ..model_folder.contents import ModelFolder
from ..utils.constants import REPOSITORY

TASKS = {  # by the class of the model: the Hub's name of its task, the graph's scores, a command that runs it
    "GPTScratchForCausalLM": ("text-generation", "`logits` `(batch, tokens, vocabulary)`", "generate"),
    "GPTScratchForSequenceClassification": (
        "text-classification",
        "`logits` `(batch, labels)` of each text, and `token_logits` `(batch, tokens, labels)` after each token",
        "classify",
    ),
    "GPTScratchForTokenClassification": ("token-classification", "`logits` `(batch, tokens, labels)`", None),
}
CARD = """\
---
library_name: transformers.js
pipeline_tag: {task}
tags:
- onnx
- gpt2
---
# {name}

A {architecture} of [hf-gpt-scratch]({repository}), exported to ONNX in {dtype}. On fixed tokens its logits
differ by at most {difference:.1e} from those of the model that it was made from. A calibration, with its thresholds,
is in config.json.

In Node and in browsers, transformers.js runs it: [the lines]({repository}/blob/main/docs/serving.md#node).
"""
COMMAND = """
With hf-gpt-scratch and onnxruntime:

```bash
hf-gpt-scratch {command} OWNER/NAME
```
"""
GRAPH = """
The graph in `{file}` takes `input_ids` and `position_ids` `(batch, tokens)`, `attention_mask`
`(batch, past + tokens)` and, of each layer, `past_key_values.{{i}}.key` and `.value` `(batch, heads, past, width)`,
where `past` may be 0. It returns {scores}, and
`present.{{i}}.key` and `.value` of all tokens so far.
"""


def card(folder: ModelFolder, record: dict, file: str) -> str:
    """
    The text of the card.

    Args:
        record: what onnx_export.json holds.
        file: the graph's name in the folder.
    """
    task, scores, command = TASKS[record["architecture"]]
    text = CARD.format(
        task=task,
        name=folder.path.resolve().name,
        repository=REPOSITORY,
        difference=record["max_logit_difference"],
        **{name: record[name] for name in ("architecture", "dtype")},
    )
    if command:
        text += COMMAND.format(command=command)
    return text + GRAPH.format(file=file, scores=scores)
