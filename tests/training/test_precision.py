"""The precision of a run on a CPU: bf16 where the CPU is fast at it and the model is wide enough, and said so."""

import pytest
import torch
from datasets import Dataset

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments, training_settings
from hf_gpt_scratch.training.precision import NARROWEST
from hf_gpt_scratch.training.trainer import ScratchTrainer
from hf_gpt_scratch.utils import precision
from hf_gpt_scratch.utils.errors import UsageError

FASTER = (torch.bfloat16, "bf16 products are 2.3x as fast as fp32 on this CPU")


@pytest.fixture
def fast_cpu(monkeypatch):
    monkeypatch.setattr(precision, "_measured", lambda: FASTER)


@pytest.fixture
def train(tmp_path):
    """Trains a model of a width for a step; the settings recorded, the weights' types, and those computed in."""

    def train(width: int = NARROWEST, **settings) -> tuple[str, torch.dtype, torch.dtype]:
        args = ScratchTrainingArguments(
            output_dir=str(tmp_path), max_steps=1, eval_strategy="no", save_strategy="no", report_to=[], **settings
        )
        model = GPTScratchForCausalLM(
            GPTScratchConfig(vocab_size=50, n_positions=16, n_embd=width, n_layer=1, n_head=2, n_inner=8)
        )
        rows = Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 2)
        trainer = ScratchTrainer(model, args, train_dataset=rows)
        seen = []
        hook = model.transformer.h[0].mlp.fc_in.register_forward_hook(
            lambda module, given, out: seen.append(out.dtype)
        )
        trainer.train()
        hook.remove()
        return training_settings(args)["precision"], model.dtype, seen[0]

    return train


def test_a_wide_model_trains_in_bf16_where_the_cpu_is_fast_at_it(train, fast_cpu, capsys):
    assert train() == ("bf16", torch.float32, torch.bfloat16)
    said = capsys.readouterr().out
    assert "Training in bf16: bf16 products are 2.3x as fast as fp32 on this CPU.\n" in said
    assert train(use_cpu=True) == ("bf16", torch.float32, torch.bfloat16)


@pytest.mark.parametrize("width, settings", [(NARROWEST - 2, {}), (NARROWEST, {"precision": "fp32"})])
def test_a_narrow_model_and_one_that_is_told_to_train_in_fp32(train, fast_cpu, capsys, width, settings):
    train()
    capsys.readouterr()
    assert train(width, **settings) == ("fp32", torch.float32, torch.float32)  # also after a run in bf16
    assert "Training in" not in capsys.readouterr().out


def test_a_wide_model_trains_in_fp32_where_the_cpu_is_slow_at_bf16(train, capsys):
    assert train() == ("fp32", torch.float32, torch.float32)
    assert "Training in fp32: this CPU has no instructions for bf16.\n" in capsys.readouterr().out


def test_bf16_on_a_cpu_needs_no_other_option(train):
    assert train(8, precision="bf16") == ("bf16", torch.float32, torch.bfloat16)


def test_fp16_on_a_cpu_is_refused(train):
    for settings in {"precision": "fp16"}, {"fp16": True}, {"precision": "fp16", "use_cpu": True}:
        with pytest.raises(UsageError, match="fp16 needs a GPU; on a CPU train with --precision bf16 or fp32"):
            train(8, **settings)
