"""
Work that the readers of `readers.py` repeat for each lie though no lie changes what comes of it: it is done once for
what it is given, and its answer taken again. What is given is compared by content, so that a lie never gets the
answer of another: mostly it is what is valid beside the file that lies.
"""

import os
from copy import deepcopy
from functools import cache
from pathlib import Path

KEPT: list[dict] = []  # answers, by what was given


def forget() -> None:
    """Forgets all answers, such as those of making what is valid, so that those of reading it are kept."""
    for kept in KEPT:
        kept.clear()


def take() -> None:
    """Takes all of them, in this process and those that are forked of it."""
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # threads for a few small weights
    import datasets.arrow_dataset
    from transformers import dynamic_module_utils

    from hf_gpt_scratch import pretrained
    from hf_gpt_scratch.hub import files
    from hf_gpt_scratch.utils import requirements

    # The name under which datasets would keep on disk what is made of a table; nothing is made of those here.
    datasets.arrow_dataset.generate_fingerprint = lambda table, *_: "0" * 16
    dynamic_module_utils.get_imports = _once(dynamic_module_utils.get_imports, lambda path: _content(Path(path)))
    files.secrets_in = _once(files.secrets_in, _of_file, most=30)
    requirements._specifier, requirements._version = map(cache, (requirements._specifier, requirements._version))
    pretrained.load_model = _once(pretrained.load_model, _of_model, deepcopy, most=1)


def _of_model(model_class, folder, *args, **settings) -> tuple:
    """All that `load_model` looks at: what else is in the folder is the tokenizer's, and the records'."""
    folder = Path(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".bin", ".py"))
    tokenizers = ("tokenizer.json", "tokenizer_config.json", "reference_logits.json", "faq.json", "responses.json")
    seen = tuple((path.name, _content(path)) for path in files if path.name not in tokenizers)
    return model_class, str(folder), seen, args, repr(settings)


def _of_file(name: str, content, own: tuple) -> tuple:
    return name, content if isinstance(content, bytes) else content.read_bytes(), own


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _once(function, key, copy=lambda answer: answer, most=9):
    """`function`; its answers for the first `most` keys are kept, and copied for the same key. An error is none."""
    kept: dict = {}
    KEPT.append(kept)

    def answer(*args, **options):
        given = key(*args, **options)
        if given in kept:
            return copy(kept[given])
        made = function(*args, **options)
        if len(kept) >= most:
            return made
        kept[given] = made
        return copy(made)

    return answer
