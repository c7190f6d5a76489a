"""The judge's command, as its tests run it."""

import argparse

import pytest

from hf_gpt_scratch.errors import run_reporting_errors
from hf_gpt_scratch.evaluation import judge


@pytest.fixture
def run(capsys):
    """Runs the command; returns its exit status and what it printed on stdout and stderr."""

    def run(*args) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        judge.add_arguments(parser)
        parsed = parser.parse_args([str(arg) for arg in args])
        capsys.readouterr()
        return run_reporting_errors(lambda: judge.run(parsed)), *capsys.readouterr()

    return run
