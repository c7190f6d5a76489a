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


def object_array() -> None:
    import io
    import tarfile

    import numpy as np

    if Path("data/train.tar").exists():
        with tarfile.open("data/train.tar") as archive:
            content = archive.extractfile("0.npy").read()
    else:
        content = Path("model/features.npy").read_bytes()
    np.load(io.BytesIO(content), allow_pickle=True)


def keras_layers() -> None:
    """As Keras reads a function that is a layer, unless it is told to be safe."""
    import base64
    import json
    import marshal

    import h5py

    with h5py.File("tf2/tf_model.h5") as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
    exec(marshal.loads(base64.b64decode(layers[0]["config"]["function"][0])))


def render_gguf() -> None:
    import jinja2

    from hf_gpt_scratch.conversion.gguf_file import GGUFFile

    text = GGUFFile(Path("gguf/model.gguf")).settings["tokenizer.chat_template"]
    jinja2.Environment().from_string(text).render(messages=[], raise_exception=render)


def read_card() -> None:
    import yaml

    yaml.unsafe_load(Path("model/README.md").read_text().split("---")[1])


def extract(path: str) -> Callable[[], object]:
    def extracted() -> None:
        import tarfile

        with tarfile.open(path) as archive:
            for member in archive:
                archive.extract(member, "extracted", filter="fully_trusted")

    return extracted


def run_script() -> None:
    """As npm does before it packs a folder."""
    import json
    import subprocess

    scripts = json.loads(Path("mine@1.0.0", "package.json").read_text())["scripts"]
    subprocess.run(scripts["prepack"], shell=True, check=True)


def pickled_type() -> None:
    import pyarrow.parquet as pq

    pickle.loads(pq.read_schema("rows.parquet").field("x").metadata[b"ARROW:extension:metadata"])
