"""The names on the command line are those of what does the work, and cost it no import of torch."""

import subprocess
import sys

import pytest

from hf_gpt_scratch.conversion import choices, formats, gguf


def test_every_name_has_its_work():
    assert tuple(gguf.DTYPES) == choices.GGUF_DTYPES
    for name in choices.FORMATS:
        assert hasattr(formats, name.replace("-", "_"))


# The command's module alone, without those of the other commands beside it
HELP = """
import argparse, importlib, sys, types
import hf_gpt_scratch_cli, hf_gpt_scratch
package = types.ModuleType("hf_gpt_scratch.commands")
package.__path__ = [hf_gpt_scratch.__path__[0] + "/commands"]
sys.modules[package.__name__] = package
parser = argparse.ArgumentParser()
importlib.import_module("hf_gpt_scratch.commands." + sys.argv[1]).add_arguments(parser)
parser.print_help()
print(sorted({"torch", "transformers", "numpy", "datasets", "huggingface_hub"} & set(sys.modules)))
"""


@pytest.mark.parametrize("command", ["convert", "export"])
def test_help_is_printed_without_torch(command):
    done = subprocess.run([sys.executable, "-c", HELP, command], capture_output=True, text=True)
    assert f"Example: hf-gpt-scratch {command} " in done.stdout, done.stderr
    assert done.stdout.endswith("\n[]\n"), done.stdout[-200:]
