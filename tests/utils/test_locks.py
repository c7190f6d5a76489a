"""What a killed process leaves is removed by the next one; what a living one writes is not."""

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_gpt_scratch.utils import files, locks
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import atomic_folder, claim, scratch_folder, write_whole

# Another process that has begun to write, and is not finished
WRITER = """
import sys, time, types
from pathlib import Path

package = sys.modules["hf_gpt_scratch"] = types.ModuleType("hf_gpt_scratch")  # without torch, which takes seconds
package.__path__ = [sys.argv[3]]
from hf_gpt_scratch.utils import files

kind, target = sys.argv[1], Path(sys.argv[2])
if kind == "file":
    files.os.fsync = lambda _: (print("begun", flush=True), time.sleep(60))
    files.write_whole(target, "half")
with files.atomic_folder(target) if kind == "folder" else files.scratch_folder(target.parent, target.name) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "half").write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@contextmanager
def writer(kind: str, target: Path):
    command = [sys.executable, "-c", WRITER, kind, target, Path(files.__file__).parents[1]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        try:
            yield process
        finally:
            process.kill()


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_killed_writer_of_a_file_leaves_the_old_one_and_the_next_removes_the_rest(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")
    with writer("file", target) as process:
        kill(process)
    assert target.read_text() == "old" and len(names(tmp_path)) == 3
    write_whole(target, "new")
    assert target.read_text() == "new" and names(tmp_path) == ["out.json"]


def test_killed_writer_of_a_folder_leaves_what_the_next_removes(tmp_path):
    target = tmp_path / "out"
    with writer("folder", target) as process:
        kill(process)
    assert not target.exists() and any(name.endswith("deep/half") for name in names(tmp_path))
    with atomic_folder(target) as folder:
        (folder / "whole").write_text("1")
        assert not any("half" in name for name in names(tmp_path))
    assert names(tmp_path) == ["out", "out/whole"]


def test_killed_when_the_folder_had_its_name_already_it_leaves_nothing_for_long(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "whole").touch()
    for name in (".out.partial.lock", ".out.partial-1", ".other.partial.lock"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="already exists"):
        files.require_new(tmp_path / "out")
    assert names(tmp_path) == [".other.partial.lock", "out", "out/whole"]


def test_folder_that_a_living_command_writes_is_left_alone(tmp_path):
    target = tmp_path / "out"
    with writer("folder", target) as process:
        before = names(tmp_path)
        said = f"^Another command is writing {target}; wait for it to end, or choose"
        with pytest.raises(InputError, match=said), atomic_folder(target):
            pytest.fail("The block ran.")
        assert names(tmp_path) == before and process.poll() is None
        with atomic_folder(tmp_path / "other"):  # another target is nobody's
            pass
        write_whole(tmp_path / "out.json", "{}")
        assert set(before) < set(names(tmp_path))


def test_file_that_a_living_command_writes_is_waited_for(tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    with writer("file", target) as process:
        monkeypatch.setattr(files, "WAIT", 0.1)
        with pytest.raises(InputError, match="^Another command is writing .*out.json"):
            write_whole(target, "new")
        monkeypatch.setattr(files, "WAIT", 30)
        threading.Timer(0.3, kill, [process]).start()
        write_whole(target, "new")
    assert target.read_text() == "new" and names(tmp_path) == ["out.json"]


def test_threads_write_the_same_file_one_after_another(tmp_path):
    target = tmp_path / "out.json"
    contents = [str(number) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(target, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in contents and names(tmp_path) == ["out.json"]


def test_scratch_folder_of_a_dead_process_is_removed_and_that_of_a_living_one_stays(tmp_path):
    with writer("scratch", tmp_path / ".model.") as dead, writer("scratch", tmp_path / ".model.") as living:
        kill(dead)
        (tmp_path / ".model.yours").mkdir()  # without a lock, it is not ours to remove
        with scratch_folder(tmp_path, ".model.") as folder:
            assert len([name for name in names(tmp_path) if name.endswith("/deep/half")]) == 1
            assert folder.is_dir() and not any(folder.iterdir())
        assert living.poll() is None
        kill(living)
    with scratch_folder(tmp_path, ".model."):
        pass
    assert names(tmp_path) == [".model.yours"]


def test_scratch_folder_that_cannot_be_removed_yet_is_left_to_the_next(tmp_path, monkeypatch):
    with writer("scratch", tmp_path / "a.") as dead:
        kill(dead)
    before = names(tmp_path)
    with monkeypatch.context() as patch:  # a process that the dead one started still writes there
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        files._remove_dead(tmp_path, "a.")
    assert names(tmp_path) == before
    files._remove_dead(tmp_path, "a.")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_are_removed_and_not_what_they_lead_to(tmp_path):
    (tmp_path / "yours").mkdir()
    (tmp_path / "yours" / "file").write_text("1")
    (tmp_path / ".out.partial.lock").touch()
    (tmp_path / ".out.partial-1").symlink_to(tmp_path / "yours")
    (tmp_path / ".out.partial-2").symlink_to(tmp_path / "yours" / "file")
    with atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out", "yours", "yours/file"]


def test_lock_that_its_owner_removes_as_we_open_it_is_no_lock(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.touch()

    def removed_meanwhile(descriptor):
        path.unlink()
        return True

    monkeypatch.setattr(locks, "_lock", removed_meanwhile)
    assert locks.take(path) is None


def test_where_the_file_system_has_no_locks_nothing_of_others_is_removed(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    (tmp_path / ".out.partial.lock").touch()
    (tmp_path / ".out.partial-1").mkdir()
    write_whole(tmp_path / "out", "1")
    assert names(tmp_path) == [".out.partial-1", "out"]


def test_windows_locks_by_its_own_call_and_closes_before_it_removes(tmp_path, monkeypatch):
    done = []

    class Windows:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor, kind, count):
            done.append((kind, count))

    close, unlink = os.close, os.unlink
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", Windows, raising=False)
    monkeypatch.setattr(locks.os, "close", lambda descriptor: (done.append("close"), close(descriptor)))
    monkeypatch.setattr(locks.os, "unlink", lambda path: (done.append("unlink"), unlink(path)))
    with claim(tmp_path / "out"):
        pass
    assert done == [(2, 1), "close", "unlink"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_error_names_the_target_and_not_the_temporary_file(tmp_path, monkeypatch, number):
    def full(_):
        raise OSError(number, "Full")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / "out.json", "1")
    assert caught.value.filename == str(tmp_path / "out.json") and caught.value.errno == number
    with pytest.raises(OSError) as caught, atomic_folder(tmp_path / "out") as partial:
        raise PermissionError(errno.EACCES, "Permission denied", str(partial / "config.json"))
    assert caught.value.filename == str(tmp_path / "out" / "config.json")
    with pytest.raises(ConnectionError) as caught, atomic_folder(tmp_path / "out"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset")  # which is not of the folder
    assert caught.value.filename is None
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, renamed, fsync = [], [], os.fsync

    def recorded(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def rename(self, target, do=Path.rename):
        renamed.append((self.name, [Path(name).name for name in synced]))
        return do(self, target)

    monkeypatch.setattr(files.os, "fsync", recorded)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", rename)
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "weights").write_text("1")
    [(name, before)] = renamed
    assert before == ["weights", "deep", name]
    assert synced[-1] == str(tmp_path)
    synced.clear()
    write_whole(tmp_path / "out.json", "1")
    name, before = renamed[-1]
    assert before == [name] and synced[-1] == str(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_that_was_forked_holds_no_lock_of_its_parent_and_frees_none(tmp_path):
    """A data loader lives on for seconds when the run that started it is killed."""
    path, (reading, writing), (hearing, telling) = tmp_path / "x.lock", os.pipe(), os.pipe()
    descriptor, _ = locks.take(path)
    child = os.fork()
    if child == 0:
        locks.release(path, descriptor)  # of the parent: nothing happens
        os.write(telling, b".")
        os.read(reading, 1)
        os._exit(0)
    try:
        os.read(hearing, 1)
        assert path.exists() and locks.take(path) is None  # the parent has it still
        locks.free(descriptor)  # as the system does when the parent is killed
        taken, was_left = locks.take(path)
        assert was_left
        locks.release(path, taken)
    finally:
        os.write(writing, b".")
        os.waitpid(child, 0)
        for one in (reading, writing, hearing, telling):
            os.close(one)


def test_an_error_of_the_system_is_not_taken_for_a_living_process(tmp_path, monkeypatch):
    def fails(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks, "_lock", fails)
    with pytest.raises(OSError, match="Input/output"):
        locks.take(tmp_path / "x.lock")
    assert not (tmp_path / "x.lock").exists()


def test_a_folder_that_cannot_be_listed_is_still_written_in(tmp_path, monkeypatch):
    def iterdir(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with scratch_folder(tmp_path) as folder:
        (folder / "x").touch()
    assert not folder.exists()
