"""
The code that travels with every model computes, and does nothing else: it reads no file, opens no connection, starts
no program and makes no code out of text. Shown by its syntax tree.
"""

import ast
from collections.abc import Iterator

import pytest

from hf_gpt_scratch.model_folder.code import package_code
from hf_gpt_scratch.model_folder.contents import CODE_FILES

MODULES = {"bisect", "collections", "collections.abc", "dataclasses", "math", "re", "torch"}
FROM_TORCH = {"torch", "torch.nn", "torch.nn.utils.rnn"}
FROM_TRANSFORMERS = {
    *("transformers", "activations", "cache_utils", "configuration_utils", "generation", "loss.loss_utils"),
    *("masking_utils", "modeling_layers", "modeling_outputs", "modeling_utils", "models.auto.modeling_auto"),
    *("utils.generic", "utils.output_capturing"),
}
# Of Python's own names those that are not for computing
BUILTINS = {
    *("open", "eval", "exec", "compile", "__import__", "input", "breakpoint", "globals", "locals", "vars", "print"),
    *("memoryview", "help", "exit", "quit", "delattr", "__builtins__", "__loader__", "__spec__"),
}
# What reads, writes, loads or calls the system, wherever it is looked up
ATTRIBUTES = {
    *("load", "save", "loads", "dumps", "dump", "hub", "jit", "package", "serialization", "cpp_extension", "ops"),
    *("load_library", "from_file", "tofile", "fromfile", "multiprocessing", "distributed", "from_pretrained"),
    *("push_to_hub", "save_pretrained", "system", "popen", "environ", "read_text", "write_text", "read_bytes"),
    *("write_bytes", "urlopen", "urlretrieve", "get_kernel", "import_module", "load_state_dict_from_url", "library"),
}
DUNDERS = {
    *("__init__", "__init_subclass__", "__post_init__", "__all__", "__name__", "__class__", "__module__", "__bases__"),
    *("__func__", "__getitem__", "__dict__"),
}


def problems(text: str) -> Iterator[str]:
    tree = ast.parse(text)
    modules = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {alias.name}" for alias in node.names if alias.name not in MODULES)
        elif isinstance(node, ast.ImportFrom) and not _may_be_imported(node):
            yield f"imports from {'.' * node.level}{node.module}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"imports {one.name}" for one in node.names if one.name in ATTRIBUTES or one.name == "*")
        elif isinstance(node, ast.Name):
            is_dunder = node.id.startswith("__") and node.id not in DUNDERS
            if node.id in BUILTINS or is_dunder:
                yield f"uses {node.id}"
        elif isinstance(node, ast.Attribute):
            is_dunder = node.attr.startswith("__") and node.attr not in DUNDERS
            if node.attr in ATTRIBUTES or is_dunder:
                yield f"uses .{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            subject, name, *_ = node.args
            if node in called or (isinstance(subject, ast.Name) and subject.id in modules):
                yield f"{node.func.id} of a module, or called"
            if isinstance(name, ast.Constant) and name.value in ATTRIBUTES | BUILTINS:
                yield f"{node.func.id} of {name.value}"


def _may_be_imported(node: ast.ImportFrom) -> bool:
    if node.level:
        return node.level == 1 and f"{node.module}.py" in CODE_FILES
    if node.module.split(".")[0] == "transformers":
        return node.module.removeprefix("transformers.") in FROM_TRANSFORMERS
    return node.module in MODULES | FROM_TORCH


@pytest.mark.parametrize("name", CODE_FILES)
def test_the_travelling_code_only_computes(name):
    assert list(problems(package_code(name).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        *("import os", "import sys, math", "from pathlib import Path", "from torch import hub", "import torch.hub"),
        *("from transformers import *", "from transformers.utils import hub", "from .other import x"),
        *("from ..utils.files import read_json", "import subprocess as math", "open('x')", "eval('1')"),
        *("exec(text)", "compile('1', '', 'eval')", "__import__('os')", "torch.load('x')", "torch.hub.load('x')"),
        *(
            "torch.save(x, 'y')",
            "torch.ops.load_library('x')",
            "tensor.tofile('x')",
            "getattr(torch, 'lo' + 'ad')('x')",
        ),
        *("getattr(x, 'load')", "getattr(x, name)()", "x.__globals__", "().__class__.__subclasses__()", "globals()"),
        *("model.from_pretrained('x')", "__builtins__['open']", "def f():\n    import socket", "print('x')"),
        *("torch.utils.cpp_extension.load(name='x')", "torch.Tensor.from_file", "breakpoint()"),
    ],
)
def test_what_does_more_is_found(line):
    assert list(problems(line))
