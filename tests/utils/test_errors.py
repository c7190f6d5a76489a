"""How a program ends: one sentence and a status for what is wrong outside, a traceback for a defect of ours."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from hf_gpt_scratch.utils.errors import InputError, Terminated, UsageError, one_line, run_reporting_errors


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("There is no folder x."), 1, "There is no folder x."),
        (UsageError("Give --a or --b, not both."), 2, "Give --a or --b, not both."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (KeyboardInterrupt("Interrupted; go on."), 130, "Interrupted; go on."),
        (Terminated(), 143, "Terminated."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.bin"), 1, "No space left on device: model.bin."),
        # safetensors' own error, and torch.save's two
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "No space left on device."),
        (RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed"), 1, "disk is full."),
        (RuntimeError("unexpected pos 640 vs 534"), 1, "perhaps because the disk is full."),
    ],
)
def test_what_is_wrong_outside_is_one_sentence(error, status, sentence, capsys):
    assert run_reporting_errors(raising(error)) == status
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.endswith(f"{sentence}\n") and printed.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("unexpected pos of speech"), KeyError("x"), RuntimeError("os error")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_reporting_errors(raising(error))


def test_a_status_is_passed_on():
    assert run_reporting_errors(lambda: None) == 0
    assert run_reporting_errors(lambda: 3) == 3


def test_an_error_on_one_line():
    assert one_line(ValueError("two\n  lines.")) == "two lines"
    assert one_line(ValueError()) == "ValueError"


def test_sigterm_cleans_up_and_ends_with_its_status(tmp_path):
    code = """
import sys, tempfile, time
from hf_gpt_scratch.utils.errors import run_reporting_errors

def run():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        print("begun", flush=True)
        time.sleep(30)

sys.exit(run_reporting_errors(run))
"""
    command = [sys.executable, "-c", code, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "error: Terminated.\n")
    assert process.returncode == 143
    assert not list(tmp_path.iterdir())


def test_handler_of_somebody_else_stays():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert run_reporting_errors(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run_reporting_errors(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert signal.getsignal(signal.SIGTERM) == before
