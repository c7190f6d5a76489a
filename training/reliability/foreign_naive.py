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


def pipeline(name: str) -> Callable[[], object]:
    def made() -> None:
        import transformers

        transformers.pipeline("text-classification", name, trust_remote_code=True)

    return made


def load_adapter(name: str) -> Callable[[], object]:
    def loaded() -> None:
        from peft import AutoPeftModelForCausalLM

        AutoPeftModelForCausalLM.from_pretrained(name)

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


def numpy_file(path: str, archive: str | None = None) -> Callable[[], object]:
    def loaded() -> None:
        import io

        import numpy as np

        arrays = np.load(io.BytesIO(content(path, archive)), allow_pickle=True)
        if path.endswith("npz"):
            arrays["features"]

    return loaded


def pickle_file(path: str, archive: str | None = None) -> Callable[[], object]:
    def loaded() -> None:
        pickle.loads(content(path, archive))

    return loaded


def content(path: str, archive: str | None) -> bytes:
    """Of a file, or of a member of a tar archive."""
    import tarfile

    if archive is None:
        return Path(path).read_bytes()
    with tarfile.open(archive) as opened:
        return opened.extractfile(path).read()


def site_file() -> None:
    """As Python does at its start, were the model's folder one of packages."""
    import site

    site.addpackage("model", "start.pth", None)


def usercustomize() -> None:
    import importlib
    import sys

    sys.path.insert(0, "model")
    importlib.invalidate_caches()
    importlib.import_module("usercustomize")


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


def extract(path: str, start: str) -> Callable[[], object]:
    """
    Unpacks the members whose names begin so, without any look at them. Python's `zipfile` itself cleans names, so that
    those of a zip are joined here.
    """

    def extracted() -> None:
        import tarfile
        import zipfile

        Path("extracted").mkdir()
        if path.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.startswith(start):
                        Path("extracted", name).write_bytes(archive.read(name))
            return
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.startswith(start):
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
