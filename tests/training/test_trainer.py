"""The scripts' Trainer stops at a loss that is no number, and names a checkpoint that is still good."""

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
from hf_gpt_scratch.training.trainer import ScratchTrainer, early_stopping
from hf_gpt_scratch.utils.errors import InputError, UsageError


class Spoil(TrainerCallback):
    """Makes the weights no numbers at the end of a step, before that step's checkpoint is saved."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            model.transformer.wte.weight.data.fill_(torch.nan)


@pytest.mark.parametrize(
    "spoilt, reason",
    [
        (3, r"The loss is nan after 3 steps; the last good checkpoint is .*checkpoint-2\. Try a lower"),
        (1, "The loss is nan after 1 steps; there is no good checkpoint"),
    ],
)
def test_loss_that_is_no_number_stops_the_run(tiny_config, tmp_path, spoilt, reason):
    (tmp_path / "checkpoint-best").mkdir()  # of someone else's
    rows = Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 8)
    arguments = ScratchTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=6,
        per_device_train_batch_size=2,
        eval_strategy="no",
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=False,
        use_cpu=True,
    )
    trainer = ScratchTrainer(
        GPTScratchForCausalLM(tiny_config), arguments, train_dataset=rows, callbacks=[Spoil(spoilt)]
    )
    with pytest.raises(InputError, match=reason):
        trainer.train()
    assert trainer.state.global_step == spoilt


def test_early_stopping_needs_a_best_evaluation_to_end_with():
    kept = ScratchTrainingArguments(output_dir="out", use_cpu=True)
    assert early_stopping(None, kept) == []
    (callback,) = early_stopping(3, kept)
    assert callback.early_stopping_patience == 3
    without = ScratchTrainingArguments(output_dir="out", eval_strategy="no", use_cpu=True)
    for patience, arguments in ((0, kept), (3, without)):
        with pytest.raises(UsageError, match="--early_stopping_patience must be 1 or more"):
            early_stopping(patience, arguments)


def test_every_tokenizer_saved_with_the_model_cuts_texts_at_its_length(tiny_config, tmp_path):
    tokenizer = train_tokenizer(["a few words"], 260, model_max_length=10_000)
    settings = {"eval_strategy": "no", "load_best_model_at_end": False, "use_cpu": True}
    arguments = ScratchTrainingArguments(output_dir=str(tmp_path), **settings)
    trainer = ScratchTrainer(GPTScratchForCausalLM(tiny_config), arguments, processing_class=tokenizer)
    trainer.save_model(tmp_path / "checkpoint-1")
    assert load_tokenizer(tmp_path / "checkpoint-1").model_max_length == tiny_config.n_positions
