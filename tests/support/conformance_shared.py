"""
transformers' shared tests as a package, `transformers_tests`, importable here and in the processes its tests start.

Its source distribution holds only the top folder of its tests. What those import from folders that are not in it
stands here: empty where it tests what we do not use, ours where it has work to do.
"""

import importlib
import multiprocessing
import os
import sys
import tempfile
import types

import torch
import torch.distributed as dist

from support import fetch_conformance as fetch

PACKAGE = "transformers_tests"


def load(name: str) -> types.ModuleType:
    """The module `name` of the shared tests, such as `test_modeling_common`."""
    if PACKAGE not in sys.modules:
        _make_package()
    return importlib.import_module(f"{PACKAGE}.{name}")


def _make_package() -> None:
    package = add_module(PACKAGE)
    package.__path__ = [str(fetch.FOLDER / "tests")]
    for folder in ("exporters", "generation", "utils"):
        add_module(f"{PACKAGE}.{folder}").__path__ = []
    add_module(f"{PACKAGE}.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
    add_module(f"{PACKAGE}.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
    add_module(f"{PACKAGE}.utils.test_configuration_utils", config_common_kwargs={})
    add_module(
        f"{PACKAGE}.distributed_testing_utils",
        run_distributed=run_distributed,
        _start_rank_processes=start_rank_processes,
        _get_distributed_backend=lambda: "gloo",
        _get_distributed_device_type=lambda: "cpu",
        _get_rank_device=lambda rank: torch.device("cpu"),
        _set_rank_device=lambda rank: None,
    )


def add_module(name: str, **content) -> types.ModuleType:
    """Puts a module with this content where `import name` finds it."""
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


def start_rank_processes(function, args: tuple, nprocs: int) -> None:
    """Runs `function(rank, *args)` in `nprocs` new processes; raises `RuntimeError` when one of them fails."""
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=_run_rank, args=(_Reference(function), rank, tuple(map(_Reference, args))))
        for rank in range(nprocs)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    if any(process.exitcode for process in ranks):
        raise RuntimeError(f"{function.__name__} failed on a rank; what it printed is above.")


def run_distributed(world_size: int):
    """Wraps `function(rank, ...)` so that calling it runs it on `world_size` processes in one gloo group."""

    def wrap(function):
        def run(*args):
            with tempfile.TemporaryDirectory() as folder:
                start_rank_processes(_in_group, (f"{folder}/rendezvous", world_size, function, *args), world_size)

        return run

    return wrap


def _in_group(rank: int, rendezvous: str, world_size: int, function, *args) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        dist.destroy_process_group()


class _Reference:
    """What stands for a function of the shared tests on its way into a process that cannot import them by name."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        module = getattr(self.value, "__module__", None) or ""
        if module.startswith(f"{PACKAGE}."):
            return _resolve, (module.removeprefix(f"{PACKAGE}."), self.value.__qualname__)
        return _Reference, (self.value,)


def _resolve(module: str, name: str) -> _Reference:
    return _Reference(getattr(load(module), name))


def _run_rank(function: _Reference, rank: int, args: tuple[_Reference, ...]) -> None:
    torch.set_num_threads(1)
    function.value(rank, *(arg.value for arg in args))
