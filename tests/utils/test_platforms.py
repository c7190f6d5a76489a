"""
The package on Windows and macOS, as far as Linux can show it: without the modules and functions that only POSIX
systems have, and with the names of those systems where the code asks for them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import hf_gpt_scratch
from hf_gpt_scratch.apps import server
from hf_gpt_scratch.utils import files, locks, provenance

PACKAGE = Path(hf_gpt_scratch.__file__).parent
ROOT = Path(__file__).parents[2]

# Imports every module of the package, or collects the tests. An import of a module of POSIX alone fails in our own
# files, as it would on Windows, and so does a look at a function of POSIX alone; libraries have other code there.
IMPORT_ALL = """
import builtins, importlib, os, signal, sys, types
from pathlib import Path

package, *others = map(Path, sys.argv[1:])
real = builtins.__import__
POSIX = {"fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"}

def is_ours(frame):
    return any(Path(frame.f_code.co_filename).is_relative_to(folder) for folder in (package, *others))

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.partition(".")[0] in POSIX and is_ours(sys._getframe(1)):
        raise ModuleNotFoundError(f"{name} is not there on Windows", name=name)
    return real(name, globals, locals, fromlist, level)

class Windows(types.ModuleType):
    def __init__(self, module, missing):
        super().__init__(module.__name__)
        self.__dict__.update(module.__dict__)
        self._module, self._missing = module, missing

    def __getattribute__(self, name):
        get = super().__getattribute__
        if not name.startswith("_") and name in get("_missing") and is_ours(sys._getframe(1)):
            raise AttributeError(f"{name} is not there on Windows")
        return get(name) if name.startswith("_") else getattr(get("_module"), name)

import torch, transformers, psutil  # before: libraries keep what they have
builtins.__import__ = guarded
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
names = "fork fchmod fchown geteuid getuid uname killpg setsid O_NOFOLLOW O_DIRECTORY sync statvfs"
sys.modules["os"] = Windows(os, set(names.split()))
sys.modules["signal"] = Windows(signal, {"SIGALRM", "SIGKILL", "SIGHUP", "setitimer", "alarm", "pthread_sigmask"})
if others:
    import pytest

    by_name = importlib.import_module  # by which pytest.importorskip looks
    importlib.import_module = lambda name, package=None: by_name(f"{name}_" if name in POSIX else name, package)
    sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(package)]))
names = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.rglob("*.py")]
for name in sorted(names):
    importlib.import_module(name.removesuffix(".__init__"))
from hf_gpt_scratch.utils import locks
assert locks.fcntl is None and locks.msvcrt is sys.modules["msvcrt"]
print(len(names))
"""


def imported_as_on_windows(*folders: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", IMPORT_ALL, *map(str, folders)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_every_module_imports_without_what_windows_lacks():
    done = imported_as_on_windows(PACKAGE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(list(PACKAGE.rglob("*.py")))


def test_the_tests_are_collected_without_it():
    done = imported_as_on_windows(ROOT / "tests", ROOT / "training")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert " tests collected" in done.stdout


class Msvcrt:
    """Windows' locks: of a byte, and an error where another has it."""

    LK_NBLCK, held = 2, set()

    @classmethod
    def locking(cls, descriptor: int, mode: int, size: int) -> None:
        key = os.fstat(descriptor).st_ino
        assert mode == cls.LK_NBLCK and size == 1
        if key in cls.held:
            raise PermissionError(13, "Permission denied")
        cls.held.add(key)


def test_windows_locks_by_a_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", Msvcrt, raising=False)
    path = tmp_path / "out.lock"
    descriptor, is_left = locks.take(path)
    assert not is_left and locks.take(path) is None  # a living one holds it
    locks.release(path, descriptor)
    assert not path.exists()
    Msvcrt.held.clear()
    path.touch()  # what a dead process has left
    descriptor, is_left = locks.take(path)
    assert is_left
    locks.release(path, descriptor)
    Msvcrt.held.clear()


def test_windows_brings_files_to_the_disk_and_opens_no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    modes, real = [], open

    def opened(path, mode="r", *args, **kwargs):
        modes.append(mode)
        return real(path, mode, *args, **kwargs)

    class Nt:
        name = "nt"

        def __getattr__(self, name):
            assert name != "open", "Windows opens no folders"
            return getattr(os, name)

    monkeypatch.setattr(files, "open", opened, raising=False)
    monkeypatch.setattr(files, "os", Nt())
    files.sync(tmp_path)
    assert modes == ["r+b"]  # Windows asks for the right to write


def test_chat_templates_render_without_limits_of_the_system():
    code = "import runpy, sys; sys.modules['resource'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    program, request = PACKAGE / "utils" / "chat_template_main.py", {"template": "{{ a }}", "variables": {"a": "text"}}
    command = [sys.executable, "-I", "-c", code, str(program)]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"text": "text"}, done.stderr


def test_other_systems_have_no_glibc_and_no_proc(monkeypatch):
    for platform in ("win32", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        assert server._glibc("mallopt") is None
        monkeypatch.setattr(provenance.platform, "processor", lambda: "a processor")
        assert provenance._cpu_name() == "a processor"
