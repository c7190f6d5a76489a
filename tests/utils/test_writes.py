"""Every file is written by `utils.files`, whole or not at all: the syntax trees show no other write."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "hf_gpt_scratch"
WRITERS = {
    *("write_text", "write_bytes", "savefig", "to_json", "to_parquet", "save_pretrained", "save_model", "save_file"),
    *("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile", "copyfile", "copy2", "copytree", "move"),
    *("rename", "os.replace", "shutil.copy", "torch.save", "onnx.save", "sqlite3.connect"),
}
IN_A_NEW_FOLDER = "in a folder that gets its name, or is removed, when all is written"
ALLOWED = {
    "adapters.merged_folder": IN_A_NEW_FOLDER,
    "apps.classify.write_table": "a new file in Gradio's temporary folder",
    "apps.space._copy_model": IN_A_NEW_FOLDER,
    "apps.space._write_files": IN_A_NEW_FOLDER,
    "apps.static_page.write_static": IN_A_NEW_FOLDER,
    "conversion.convert._write": IN_A_NEW_FOLDER,
    "conversion.export.export": IN_A_NEW_FOLDER,
    "conversion.gguf._write_modelfile": IN_A_NEW_FOLDER,
    "conversion.onnx._write_beside": IN_A_NEW_FOLDER,
    "conversion.onnx.export_onnx": IN_A_NEW_FOLDER,
    "conversion.onnx_int8.quantize": IN_A_NEW_FOLDER,
    "conversion.onnx_int8.store": IN_A_NEW_FOLDER,
    "conversion.safetensors_file._write_file": IN_A_NEW_FOLDER,
    "conversion.safetensors_file._write_tensor": IN_A_NEW_FOLDER,
    "conversion.safetensors_file.write_safetensors": IN_A_NEW_FOLDER,
    "conversion.tokenizers.copy_tokenizer": IN_A_NEW_FOLDER,
    "evaluation.judge.scoring.collect": "a line for each answer; the reader skips one that was cut",
    "evaluation.plots.save_figure": "in memory",
    "evaluation.preference._connect": "SQLite has a journal of its own",
    "evaluation.preference._schema": "in memory",
    "hub.twin._add_graph": IN_A_NEW_FOLDER,
    "model_folder.clean_process._copy": IN_A_NEW_FOLDER,
    "model_folder.clean_process._staged": IN_A_NEW_FOLDER,
    "model_folder.clean_process_main.main": IN_A_NEW_FOLDER,
    "model_folder.saving.replace_model": "the files of a complete model, one by one, its config.json last",
    "model_folder.saving.save_config_and_code": IN_A_NEW_FOLDER,
    "pretrained._load_merged": IN_A_NEW_FOLDER,
    "training.instruct.merge": IN_A_NEW_FOLDER,
    "training.pretrain.Sampling.on_step_end": "a line for each sample; the reader skips one that was cut",
    "training.trainer.ScratchTrainer._push_from_checkpoint": IN_A_NEW_FOLDER,
    "training.trainer.ScratchTrainer.save_final": IN_A_NEW_FOLDER,
    "utils.download": "a download, which the next command continues and compares with its checksum",
    "utils.files": "here it is done",
    "utils.weight_layout._save": "the caller's `save_pretrained`",
}


def is_write(call: ast.Call) -> bool:
    """Whether a call may write, move or make a file."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    given += [one for choice in given if isinstance(choice, ast.IfExp) for one in (choice.body, choice.orelse)]
    words = [one.value for one in given if is_word(one)]
    if last in ("open", "fdopen"):
        return any(set(word) <= set("rwxabt+") and set(word) & set("wxa+") for word in words)
    if last == "to_csv":
        return bool(call.args)  # without a file it returns the text
    if last == "replace" and name != "os.replace":  # a path's; that of a text has two, a dataclass's has keywords
        return len(call.args) == 1 and not call.keywords
    return last in WRITERS or name in WRITERS


def is_word(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def writes(tree: ast.AST, place: str) -> set[str]:
    """The functions, by their dotted names, in which something is written."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        is_named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if isinstance(node, ast.Call) and is_write(node):
            found.add(place)
        found |= writes(node, f"{place}.{node.name}" if is_named else place)
    return found


def found_in(path: Path) -> set[str]:
    return writes(
        ast.parse(path.read_text(encoding="utf-8")), ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    )


def is_allowed(place: str) -> bool:
    return any(place == name or place.startswith(f"{name}.") for name in ALLOWED)


def test_files_are_written_by_the_functions_that_write_them_whole():
    places = set().union(*map(found_in, sorted(PACKAGE.rglob("*.py"))))
    wrong = sorted(place for place in places if not is_allowed(place))
    assert not wrong, f"{', '.join(wrong)}: write with write_whole, atomic_folder or scratch_folder of utils.files."
    unused = [name for name in ALLOWED if not any(is_allowed(place) and place.startswith(name) for place in places)]
    assert not unused


@pytest.mark.parametrize(
    "code",
    [
        "Path('x').write_text('1')",
        "open('x', 'w')",
        "path.open(mode='a+')",
        "open('x', 'r+b' if start else 'wb')",
        "frame.to_csv('x', index=False)",
        "tempfile.TemporaryDirectory()",
        "os.replace(a, b)",
        "partial.replace(path)",
        "torch.save(model, path)",
        "shutil.copy(a, b)",
    ],
)
def test_a_write_is_seen(code):
    assert writes(ast.parse(f"class A:\n def f(self):\n  with x:\n   {code}"), "room") == {"room.A.f"}


@pytest.mark.parametrize(
    "code", ["open('in.txt')", "a.replace('b', 'c')", "replace(a, b=1)", "a.to_csv(index=False)", "a.copy()"]
)
def test_what_only_reads_is_not(code):
    assert not writes(ast.parse(code), "room")
