"""What runs the canaries: programs that take no care. Where a canary does not run in them, it is none."""

import pickle
from collections.abc import Callable
from pathlib import Path


def load(name: str, auto_class: str = "AutoModelForCausalLM") -> Callable[[], object]:
    def loaded() -> None:
        import sys

        import transformers

        sys.modules["hf_gpt_scratch"] = None
        for kind in (transformers.CONFIG_MAPPING, transformers.MODEL_FOR_CAUSAL_LM_MAPPING):
            getattr(kind, "_extra_content", {}).clear()  # what this package has registered
        getattr(transformers, auto_class).from_pretrained(name, trust_remote_code=True)

    return loaded


def unpickle(path: str) -> Callable[[], object]:
    def unpickled() -> None:
        import torch

        torch.load(path, weights_only=False)

    return unpickled


def unpickle_plain() -> None:
    pickle.loads(Path("characters/meta.pkl").read_bytes())


def render(path: str) -> Callable[[], object]:
    def rendered() -> None:
        import jinja2
        import yaml

        text = Path(path).read_text()
        if path.endswith(".yaml"):
            text = yaml.safe_load(text)["doc_to_text"]
        jinja2.Environment().from_string(text).render(messages=[], raise_exception=render, question="")

    return rendered


def read_yaml() -> None:
    import yaml

    yaml.unsafe_load(Path("evil.yaml").read_text())


def run_file(path: str) -> Callable[[], object]:
    def run() -> None:
        import runpy

        runpy.run_path(path)

    return run
