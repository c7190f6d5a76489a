"""What `import hf_gpt_scratch` offers: every name resolves, is typed and documented, and costs nothing until used."""

import doctest
import inspect
import json
import subprocess
import sys

import pytest

import hf_gpt_scratch

MODEL = [name for name in hf_gpt_scratch.__all__ if name.startswith("GPTScratch")]
REST = [name for name in hf_gpt_scratch.__all__ if name not in MODEL]


def callables(name: str) -> list:
    """The function of that name, or the public methods of the class."""
    value = getattr(hf_gpt_scratch, name)
    if not inspect.isclass(value):
        return [value]
    own = {key: found for key, found in vars(value).items() if key == "__init__" or not key.startswith("_")}
    return [
        getattr(found, "__func__", found) for found in own.values() if callable(found) or hasattr(found, "__func__")
    ]


def test_the_names_are_listed_once_and_found_by_dir():
    names = hf_gpt_scratch.__all__
    assert names == sorted(set(names))
    assert set(names) == set(hf_gpt_scratch._HOME)
    assert {name for name in dir(hf_gpt_scratch) if not name.startswith("__")} == set(names)
    assert {"__version__", "__doc__", "__all__"} <= set(dir(hf_gpt_scratch))


@pytest.mark.parametrize("name", hf_gpt_scratch.__all__)
def test_every_name_resolves_and_is_documented(name):
    value = getattr(hf_gpt_scratch, name)
    assert value.__name__ == name
    assert len(value.__doc__.split()) > 5  # its own: `__doc__` is not inherited


@pytest.mark.parametrize("name", REST)
def test_every_name_has_an_example_that_uses_it(name):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(hf_gpt_scratch, name)))
    source = "".join(example.source for example in examples)
    compile(source, name, "exec")
    assert f"{name}(" in source or f"{name}." in source
    assert "from hf_gpt_scratch import" in source


@pytest.mark.parametrize("name", REST)
def test_every_signature_is_annotated(name):
    for function in callables(name):
        parameters = list(inspect.signature(function).parameters.values())
        bare = [one.name for one in parameters if one.annotation is one.empty and one.kind is not one.VAR_KEYWORD]
        assert set(bare) <= {"self", "cls"}, function
        if function.__name__ != "__init__":
            assert inspect.signature(function).return_annotation is not inspect.Signature.empty, function


@pytest.mark.parametrize("name", ["no_such_name", "torch", "os"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'hf_gpt_scratch' has no attribute '{name}'"):
        getattr(hf_gpt_scratch, name)


def test_importing_registers_and_imports_nothing_of_the_rest():
    code = """
import json, sys
import hf_gpt_scratch, transformers
transformers.AutoConfig.for_model("gpt_scratch")
print(json.dumps(sorted(name for name in sys.modules if name.startswith("hf_gpt_scratch."))))
from hf_gpt_scratch import *
print(json.dumps(sorted(name for name in hf_gpt_scratch.__all__ if name not in globals())))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    modules, missing = map(json.loads, done.stdout.splitlines())
    travelling = ("configuration_gpt_scratch", "modeling_gpt_scratch", "pipeline_gpt_scratch")
    assert modules == [f"hf_gpt_scratch.{name}" for name in travelling]
    assert missing == []
