"""What every test shares: no network, the folder of real data, a model small enough to make in milliseconds."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes: a thread each, before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from huggingface_hub.utils import logging as hub_logging  # noqa: E402
from transformers.utils import logging  # noqa: E402

from hf_gpt_scratch import GPTScratchConfig  # noqa: E402
from hf_gpt_scratch.model_folder import clean_process  # noqa: E402
from hf_gpt_scratch.utils import int8, precision  # noqa: E402
from support.preloaded import Preloaded  # noqa: E402

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_configure(config):
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # results are those of a CPU; nothing has asked for a GPU yet
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: Ctrl-C is tested all the same
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Whole jobs, exports, pages and commands, most in processes of their own, and what trains or measures models first:
# nearly three quarters of the time of all tests without a mark of another kind.
E2E = [
    "e2e",
    *(f"apps/test_{name}.py" for name in ("compare", "pages", "server", "spaces")),
    *(f"benchmarks/test_{name}.py" for name in ("across", "conversations", "gpu", "side_by_side")),
    *(f"commands/test_{name}.py" for name in ("classify", "cli", "hostile_terminal", "startup")),
    *(f"conversion/test_{name}.py" for name in ("evidence", "onnx")),
    "evaluation/judge/test_in_process.py",
    "evaluation/test_report.py",
    *(f"evaluation/text_classification/test_{name}.py" for name in ("benchmark", "label_runs")),
    "generation/test_chat.py",
    *(f"hub/test_{name}.py" for name in ("card_code", "check", "twin")),
    "model/test_remote_code.py",
    *(f"model_folder/test_{name}.py" for name in ("contents", "pipeline", "reference_logits", "untrusted_code")),
    "onnx_models",
    *(f"reliability/test_{name}.py" for name in ("kill", "starve")),
    "test_adapter_requirements.py",
    "test_adapters.py",
    "test_public_api.py",
    *(f"training/test_{name}.py" for name in ("progress", "resuming", "stopping")),
    *(f"utils/test_{name}.py" for name in ("console", "errors", "platforms")),
]


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config, items):
    """Marks what `E2E` lists. Where no file or folder of tests is named, what has the mark runs with `-m e2e` only."""
    own = {line.partition(":")[0] for line in config.getini("markers") if "run with -m" in line} - {"e2e"}
    listed = {ROOT / "tests" / path for path in E2E}
    whole = []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if not marks & own and listed & {item.path, *item.path.parents}:
            item.add_marker("e2e")
        if item.get_closest_marker("e2e"):
            whole.append(item)
    named = {(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args}
    if named <= {ROOT, ROOT / "tests"} and "e2e" not in config.getoption("markexpr"):
        config.hook.pytest_deselected(items=whole)
        left_out = set(whole)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def preloaded_processes():
    """Clean processes are forks of one that is ready, where the system can fork."""
    if not hasattr(os, "fork"):
        yield
        return
    preloaded = Preloaded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean_process, "subprocess", preloaded)
        yield
    preloaded.stop()


REAL_MEASURE = precision._measured


@pytest.fixture(scope="session", autouse=True)
def slow_at_bf16():
    """Results do not depend on the machine: its CPU counts as one without bf16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_measured", lambda: (torch.float32, "this CPU has no instructions for bf16"))
        yield


@pytest.fixture(scope="session", autouse=True)
def exact_at_int8():
    """A CPU whose int8 products are inexact is given exact ones."""
    with pytest.MonkeyPatch.context() as patch:
        if not int8.is_exact():
            patch.setattr(torch, "_int_mm", lambda left, right: (left.double() @ right.double()).int())
            int8.is_exact.cache_clear()
        yield


@pytest.fixture(autouse=True)
def talkative():
    """transformers is as for a user, with progress bars and warnings, whatever commands ran before in the process."""
    logging.enable_progress_bar()
    logging.set_verbosity_warning()
    hub_logging.set_verbosity_warning()


@pytest.fixture
def real_cpu_dtype(monkeypatch):
    """The CPU is asked again."""
    monkeypatch.setattr(precision, "_measured", REAL_MEASURE)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets, which are not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets are not beside the project, in ../shared/data")
    return SHARED_DATA


@pytest.fixture
def tiny_config() -> GPTScratchConfig:
    return GPTScratchConfig(
        vocab_size=100,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        classifier_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
