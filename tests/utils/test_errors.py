"""How a program ends: one sentence and a status for what is wrong outside, a traceback for a defect of ours."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys

import httpx
import pytest

from hf_gpt_scratch.utils.errors import (
    InputError,
    Terminated,
    UsageError,
    damage_told,
    naming,
    one_line,
    raise_failed,
    raise_if_starved,
    run_reporting_errors,
)

to_processes = pytest.mark.skipif(sys.platform == "win32", reason="a process gets no signal of another")


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("There is no folder x."), 1, "There is no folder x."),
        (InputError("x has the columns a\nb\u2028c."), 1, "x has the columns a b c."),  # one line, whatever is quoted
        (UsageError("Give --a or --b, not both."), 2, "Give --a or --b, not both."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (KeyboardInterrupt("Interrupted; a\nb is kept."), 130, "Interrupted; a b is kept."),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a\nb"), 1, "No such file or directory: a b."),
        (KeyboardInterrupt("Interrupted; go on."), 130, "Interrupted; go on."),
        (Terminated(), 143, "Terminated."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.bin"), 1, "No space left on device: model.bin."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "from", None, "to"), 1, "No space left on device: to."),
        (MemoryError("Unable to allocate 3.2 GiB for an array"), 1, "take smaller batches or a smaller model."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"), 1, "model."),
        (RuntimeError("std::bad_alloc"), 1, "model."),
        (sqlite3.OperationalError("database or disk is full"), 1, "No space left on device."),
        (sqlite3.OperationalError("attempt to write a readonly database"), 1, "Read-only file system."),
        (OSError("4096 requested and 168 written"), 1, "perhaps because the disk is full."),  # numpy's
        (httpx.ReadTimeout("timed out"), 1, "The connection failed (timed out): check the network and try again."),
        # of Arrow, of safetensors and tokenizers, and torch.save's two
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left"), 1, "No space left on device."),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "No space left on device."),
        (RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed"), 1, "disk is full."),
        (RuntimeError("unexpected pos 640 vs 534"), 1, "perhaps because the disk is full."),
        (ImportError("x.so: failed to map segment from shared object"), 1, "smaller model."),
        (RuntimeError("basic_ios::clear: iostream error"), 1, "perhaps because the disk is full."),
        (OSError("Not enough disk space. Needed: 2 TB"), 1, "No space left on device."),  # of datasets
    ],
)
def test_what_is_wrong_outside_is_one_sentence(error, status, sentence, capsys):
    assert run_reporting_errors(raising(error)) == status
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") == (status < 128)  # a signal is what was asked for
    assert printed.endswith(f"{sentence}\n") and printed.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        ValueError("unexpected pos 1 vs 2"),
        KeyError("x"),
        RuntimeError("os error"),
    ],
)
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_reporting_errors(raising(error))


def test_an_error_behind_another_is_told(capsys):
    def run():
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cache/rows.arrow")
        except OSError as error:
            raise ValueError("The data set could not be made") from error

    def clean_up():
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.bin")
        except OSError:
            {}["its file"]

    def defect():
        try:
            os.stat("/there/is/no/such/file")
        except FileNotFoundError:
            {}["a defect of ours"]

    for failing, name in ((run, "cache/rows.arrow"), (clean_up, "model.bin")):
        assert run_reporting_errors(failing) == 1
        assert capsys.readouterr().err == f"error: No space left on device: {name}.\n"
    with pytest.raises(KeyError):
        run_reporting_errors(defect)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "run"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "run"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "elsewhere"), "elsewhere"),
    ],
)
def test_what_could_not_be_written_is_told_with_a_path(error, named):
    with pytest.raises(OSError) as told, naming("run"):
        raise error
    assert told.value.filename == named


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "cache"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "cache"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "cache/x"), "cache/x"),
        (MemoryError(), None),
    ],
)
def test_what_starved_a_download_is_not_taken_for_a_network(error, named):
    with pytest.raises(OSError) as told:
        raise_if_starved(error, "cache")
    assert told.value.filename == named and told.value.errno


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("x"), "faq.json is damaged ('x'): train again."),
        (MemoryError(), "faq.json is damaged (MemoryError): train again, or too little memory was free."),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), None),
        (OSError(errno.EIO, os.strerror(errno.EIO)), None),
    ],
)
def test_what_the_system_lacks_is_not_taken_for_damage(error, told):
    with (
        pytest.raises(InputError if told else OSError) as raised,
        damage_told("faq.json is damaged ({}): train again."),
    ):
        raise error
    assert str(raised.value) == told if told else raised.value is error


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), PermissionError(1, "blocked"), ValueError("x")])
def test_a_network_is_not_taken_for_a_disk(error):
    raise_if_starved(error, "cache")


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        (-9, "", "It failed (it was ended by SIGKILL, perhaps because there was not enough memory: end other"),
        (-11, "Loading", "It failed (it was ended by SIGSEGV)."),
        (-60, "", "It failed (it was ended by signal 60)."),
        (3, "", "It failed (exit status 3)."),
        (1, "Traceback\nKeyError: 'x'\n", "It failed (KeyError: 'x')."),
        (1, "Traceback\nMemoryError\n", "There is not enough memory: end other programs"),
        (1, "ImportError: x.so: failed to map segment from shared object", "There is not enough memory: end"),
        (1, "OSError: [Errno 28] No space left on device", "No space left on device: scratch."),
    ],
)
def test_a_process_that_failed_is_one_sentence(status, said, sentence, capsys):
    assert run_reporting_errors(lambda: raise_failed("It failed ({}).", status, said, "scratch")) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {sentence}") and printed.count("\n") == 1


def test_other_errors_keep_their_type():
    for error in (InputError("No space left on device"), ConnectionError("gone"), KeyError("x")):
        with pytest.raises(type(error)) as told, naming("run"):
            raise error
        assert told.value is error


def test_a_status_is_passed_on():
    assert run_reporting_errors(lambda: None) == 0
    assert run_reporting_errors(lambda: 3) == 3


def test_an_error_on_one_line():
    assert one_line(ValueError("two\n  lines.")) == "two lines"
    assert one_line(ValueError()) == "ValueError"


@to_processes
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
        assert process.communicate(timeout=30) == ("", "Terminated.\n")
    assert process.returncode == 143
    assert not list(tmp_path.iterdir())


@to_processes
@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_a_signal_is_heeded_though_a_destructor_is_what_runs(number, status, said):
    code = """
import sys, time
from hf_gpt_scratch.utils.errors import run_reporting_errors

class Waiting:
    def __del__(self):
        print("begun", flush=True)
        time.sleep(30)

def run():
    del [Waiting()][0]
    time.sleep(30)

sys.exit(run_reporting_errors(run))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == f"{said}.\n"
    assert process.returncode == status


def test_other_errors_in_a_destructor_are_printed():
    class Defect:
        def __del__(self):
            raise ValueError("a defect")

    told = []
    before, sys.unraisablehook = sys.unraisablehook, lambda unraisable: told.append(str(unraisable.exc_value))
    try:
        hook = sys.unraisablehook
        assert run_reporting_errors(lambda: Defect() and None) == 0
        assert told == ["a defect"] and sys.unraisablehook is hook
    finally:
        sys.unraisablehook = before


def test_handler_of_somebody_else_stays():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert run_reporting_errors(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run_reporting_errors(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert signal.getsignal(signal.SIGTERM) == before
