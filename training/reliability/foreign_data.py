"""Where code can stand in what is no model: archives, tables, data sets, cards, files that lie beside a model."""

import hashlib
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from foreign_kit import ADAPTER, TRACE, Payload, Place, code, torch_file
from foreign_naive import (
    extract,
    keras_layers,
    numpy_file,
    pickle_file,
    pickled_type,
    read_card,
    render_gguf,
    run_script,
    site_file,
    unpickle,
    usercustomize,
)
from forks import Fork

DATA = ["train", "pretrain", "--dataset_name", "./data", "--output_dir", "run", "--train_tokenizer", "270"]
CONVERTED = ["convert", "tf2", "out", "--tokenizer", "none"]


def in_fork(make: Callable[[], object], folder: Path) -> None:
    """Makes something with torch, which the process of all tries itself does not use."""
    ended = Fork(lambda: make() and None, folder, folder.with_suffix(".log")).end()
    if ended.status:
        raise RuntimeError(f"There is nothing to plant a canary in:\n{ended.said[-2000:]}")


def objects(folder: Path) -> dict[str, bytes]:
    """Pickles, bare and in NumPy's formats, by the ends of their names."""
    import numpy as np

    payload = np.array([Payload(code(folder))], dtype=object)
    array, arrays = io.BytesIO(), io.BytesIO()
    np.save(array, payload, allow_pickle=True)
    np.savez(arrays, features=payload)
    pickled = pickle.dumps(Payload(code(folder)))
    return {"npy": array.getvalue(), "npz": arrays.getvalue(), "pkl": pickled, "joblib": pickled, "pickle": pickled}


def beside_a_model(folder: Path) -> None:
    for name in ("model", "classifier", "base", ADAPTER):
        for end, content in objects(folder).items():
            (folder / name / f"features.{end}").write_bytes(content)
        for file in ("training_args.bin", "optimizer.pt", "scaler.pth"):
            torch_file(folder / name / file, folder)
        (folder / name / "start.pth").write_text(f"import os; {code(folder)}")
        (folder / name / "usercustomize.py").write_text(code(folder))


def keras_file(folder: Path) -> None:
    """TFGPT2's weights with the settings of a model, one of whose layers is a function, as Keras keeps it."""
    import base64
    import marshal

    def make() -> None:
        import h5py
        from transformers import GPT2LMHeadModel

        from support.other_files import as_tf2, save_h5

        model = GPT2LMHeadModel.from_pretrained("stock")
        save_h5(Path("tf2", "tf_model.h5"), as_tf2(model))
        packed = base64.b64encode(marshal.dumps(compile(code(folder), "x", "exec"))).decode()
        layer = {"class_name": "Lambda", "config": {"function": [packed, None, None], "function_type": "lambda"}}
        with h5py.File(Path("tf2", "tf_model.h5"), "a") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})

    (folder / "tf2").mkdir()
    shutil.copy(folder / "stock" / "config.json", folder / "tf2")
    in_fork(make, folder)


def gguf_template(text: str) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        from hf_gpt_scratch.cli import main

        (folder / "model" / "chat_template.jinja").write_text(text.replace("TRACE", str(folder / TRACE)))
        in_fork(lambda: main(["export", "model", "gguf", "--to", "gguf"]), folder)

    return plant


def from_gguf() -> int:
    """The model out of the file, and a question to it."""
    from hf_gpt_scratch import Chat
    from hf_gpt_scratch.cli import main
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    if status := main(["convert", "gguf/model.gguf", "out"]):
        return status
    return run_reporting_errors(
        lambda: "".join(Chat.from_pretrained("out", device="cpu").ask("What?", max_new_tokens=2)) and None
    )


def cards(folder: Path) -> None:
    head = f"---\nlicense: !!python/object/apply:builtins.exec [{code(folder)!r}]\n---\n# Mine\n"
    (folder / "data").mkdir()
    (folder / "data" / "train.txt").write_text("a lamp on a hill\n" * 60)
    (folder / "data" / ".huggingface.yaml").write_text(head.split("---")[1])
    for name in ("model", "classifier", ADAPTER, "data"):
        (folder / name / "README.md").write_text(head)


def links(archive: tarfile.TarFile, folder: Path) -> None:
    """Names that lead out of the archive, by `..`, as a path and through a link."""
    link = tarfile.TarInfo("package/out")
    link.type, link.linkname = tarfile.SYMTYPE, str(folder)
    archive.addfile(link)
    for name in (f"package/out/{TRACE}", f"../{TRACE}", str(folder / TRACE)):
        add(archive, name, b"")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def archives(folder: Path) -> None:
    """As npm packages, as what UCI serves, as a data set."""
    with tarfile.open(folder / "package.tgz", "w:gz") as archive:
        links(archive, folder)
        add(archive, "package/lib.mjs", b"export const one = 1;")
        add(archive, "package/LICENSE", b"MIT")
    (folder / "data").mkdir()
    for name in ("messages.zip", "data/train.zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for path in (f"../{TRACE}", str(folder / TRACE)):
                archive.writestr(path, "")
            archive.writestr("SMSSpamCollection", "ham\tA lamp on a hill.\nspam\tWin a boat!\n" * 40)
            archive.writestr("train.txt", "a lamp on a hill\n" * 60)


def package_files() -> int:
    """What is read of a package of npm, by `app --export-static` and by training/mails.py."""
    import sys

    from hf_gpt_scratch.apps import npm
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.path.append(str(Path(__file__).parents[1]))
    from corpus import members

    npm._archive = lambda package: Path("package.tgz")  # as if it had been checked
    package = npm.Package("mine", "1.0.0", "", "MIT", {"lib.mjs": "lib.mjs"})

    def read() -> None:
        npm.files_of(package)
        npm.license_of(package)
        list(members(Path("package.tgz")))

    return run_reporting_errors(read)


def npm_scripts(folder: Path) -> None:
    """Every script that npm may run of itself."""
    package = folder / "mine@1.0.0"
    package.mkdir()
    names = ("preinstall", "install", "postinstall", "prepublish", "prepare", "prepack", "postpack")
    scripts = dict.fromkeys(names, f"touch '{folder / TRACE}'")
    (package / "package.json").write_text(json.dumps({"name": "mine", "version": "1.0.0", "scripts": scripts}))


def fetch_package() -> int:
    """`npm pack` as `app --export-static` calls it, of a package in a folder; its SHA-512 is not the expected one."""
    from huggingface_hub import constants

    from hf_gpt_scratch.apps import npm
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    constants.HF_HOME = str(Path("home").absolute())
    package = npm.Package(str(Path("mine").absolute()), "1.0.0", "sha512-none", "MIT", {})
    return run_reporting_errors(lambda: npm.files_of(package) and None)


def data_set(folder: Path) -> None:
    """A tar of samples, as WebDataset reads them, with pickles among them."""
    (folder / "data").mkdir()
    with tarfile.open(folder / "data" / "train.tar", "w") as archive:
        for number in range(8):
            for end, content in {**objects(folder), "pyd": objects(folder)["pkl"]}.items():
                add(archive, f"{number}.{end}", content)
            add(archive, f"{number}.txt", b"a lamp on a hill")


def table(folder: Path) -> None:
    """A Parquet file with a column of a type that pyarrow once unpickled."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pickled = pickle.dumps(Payload(code(folder)))
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled}
    columns = [
        pa.field("text", pa.string()),
        pa.field("label", pa.string()),
        pa.field("x", pa.int64(), True, metadata),
    ]
    texts = [hashlib.sha256(bytes([number])).hexdigest() for number in range(40)]  # no near-copies
    rows = pa.table([texts, ["a", "b"] * 20, list(range(40))], schema=pa.schema(columns))
    pq.write_table(rows, folder / "rows.parquet")


ONE_STEP = ("--model_name_or_path", "model", "--output_dir", "run", "--max_steps", "1", "--use_cpu", "true")
TABLE = [
    *("train", "classify", "--data_file", "rows.parquet", "--text_column", "text", "--label_column", "label"),
    *ONE_STEP,
]
OF_NUMPY, OF_PICKLE = ("npy", "npz"), ("pkl", "joblib", "pickle")  # ends of `objects`
OUTSIDE = ("../", "/")  # how names begin that lead out of an archive


def data_places(templates: tuple[str, ...], commands: dict[str, list]) -> list[Place]:
    """
    Those places.

    Args:
        templates: chat templates that lead out of a sandbox.
        commands: of models, by short names.
    """
    of_folders = [commands[name] for name in ("check", "write", "push", "space", "classify", "instruct")]
    return [
        Place(
            "pickles and NumPy arrays beside a model",
            beside_a_model,
            of_folders,
            naive=[
                *(numpy_file(f"model/features.{end}") for end in OF_NUMPY),
                *(pickle_file(f"model/features.{end}") for end in OF_PICKLE),
                *(unpickle(f"model/{name}") for name in ("training_args.bin", "optimizer.pt", "scaler.pth")),
                *(site_file, usercustomize),
            ],
        ),
        Place("layers of Keras in an HDF5 file", keras_file, [CONVERTED], naive=keras_layers),
        Place("the chat template in a GGUF file", gguf_template(templates[0]), [from_gguf], naive=render_gguf),
        Place(
            "YAML of a card",
            cards,
            [*(commands[name] for name in ("check", "push", "space", "adapter")), DATA],
            naive=read_card,
        ),
        Place(
            "names and links in an archive",
            archives,
            [package_files, ["train", "spam", "--data_file", "messages.zip", *ONE_STEP], DATA],
            naive=[
                *(extract("package.tgz", start) for start in ("package/out", *OUTSIDE)),
                *(extract(name, start) for name in ("messages.zip", "data/train.zip") for start in OUTSIDE),
            ],
        ),
        Place("npm packages of a static page", npm_scripts, [fetch_package], naive=run_script),
        Place(
            "pickles and NumPy arrays in a data set",
            data_set,
            [DATA],
            naive=[
                *(numpy_file(f"0.{end}", "data/train.tar") for end in OF_NUMPY),
                *(pickle_file(f"0.{end}", "data/train.tar") for end in (*OF_PICKLE, "pyd")),
            ],
        ),
        Place("pickled types in a Parquet file", table, [TABLE], naive=pickled_type),
    ]
