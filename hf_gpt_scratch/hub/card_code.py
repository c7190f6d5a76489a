"""The code in a model card: how the model is loaded and used, by the templates code.md and javascript.md."""

import json
import os

from .card_facts import render


def loading_code(
    folder_or_repo: str | os.PathLike, template: str, auto_class: str, is_twin: bool = False, **example
) -> list[str]:
    """
    Pieces of Python, the first of which loads a model and uses it, where this package need not be installed.

    Args:
        is_twin: load the twin, on its branch of the repository, without code to trust.
        example: `text` to give to the model, its `answer` where it is known, `tokens` to generate, and and whether
            the folder `has_pipeline` of its own.
    """
    name = quoted(str(folder_or_repo))
    example = {"text": "", "answer": None, "tokens": 32, "has_pipeline": False, **example}
    variables = {
        "kind": template,
        "name": name,
        "how": 'revision="gpt2"' if is_twin else "trust_remote_code=True",
        "auto_class": auto_class,
        "is_adapter": auto_class.startswith("AutoPeft"),
        "text": quoted(example["text"]),
        "answer": example["answer"],
        "tokens": example["tokens"],
        "has_pipeline": example["has_pipeline"] and not is_twin,
    }
    pieces = render("code.md", **variables).split("\n# ---\n")
    pieces = [piece.strip("\n") for piece in pieces if piece.strip()]
    return pieces[:1] if is_twin else pieces  # the others use what only this package's own code does


def request_example(template: str, writes: bool, example: dict) -> str:
    """The JSON of a request to an Inference Endpoint of the model, of a language model where it `writes`."""
    inputs = [{"role": "user", "content": example["text"]}] if template == "instruct" else example["text"]
    parameters = {"parameters": {"max_new_tokens": example["tokens"]}} if writes else {}
    return json.dumps({"inputs": inputs, **parameters}, ensure_ascii=False)


def javascript_code(repo_id: str, template: str, auto_class: str, **example) -> str | None:
    """JavaScript that runs the ONNX graphs of the twin; `None` where transformers.js has no pipeline for the model."""
    if not auto_class.endswith(("CausalLM", "SequenceClassification")):
        return None
    text, tokens = quoted(example.get("text", "")), example.get("tokens", 32)
    variables = {"kind": template, "name": quoted(repo_id), "auto_class": auto_class, "text": text, "tokens": tokens}
    return render("javascript.md", **variables).strip("\n")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
