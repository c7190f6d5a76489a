"""Training is exact: batches cut up, padded, packed or smoothed give the loss and gradients they should."""

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification, GPTScratchForTokenClassification

LENGTHS = [12, 3, 7, 5, 12, 9, 4, 11] * 2


def rows(model_class) -> list[dict]:
    """Padded rows of 12 with as few as one label each, so that batches differ in how many labels they hold."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in LENGTHS:
        ids = torch.randint(2, 100, (length,), generator=generator).tolist()
        padding = 12 - length
        row = {"input_ids": ids + [0] * padding, "attention_mask": [1] * length + [0] * padding}
        if model_class is GPTScratchForCausalLM:
            row["labels"] = ids + [-100] * padding
        elif model_class is GPTScratchForTokenClassification:
            row["labels"] = [token % 2 for token in ids] + [-100] * padding
        else:
            row["labels"] = ids[0] % 2
        rows.append(row)
    return rows


def train(model_class, config, folder, model=None, data=None, **settings) -> tuple[dict, list[float]]:
    """Trains two steps of SGD on 16 rows; the weights after them, and the losses."""
    torch.manual_seed(0)
    model = model or model_class(config)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=2,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        **{"per_device_train_batch_size": 8, **settings},
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data or Dataset.from_list(rows(model_class)))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return dict(model.named_parameters()), losses


def assert_equal_training(found, expected, atol=1e-6):
    torch.testing.assert_close(found[0], expected[0], atol=atol, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=atol, rtol=0)


@pytest.mark.parametrize("prefix_loss_weight", [0.0, 0.5])
@pytest.mark.parametrize(
    "model_class", [GPTScratchForCausalLM, GPTScratchForSequenceClassification, GPTScratchForTokenClassification]
)
def test_accumulated_batches_equal_one_large_batch(model_class, prefix_loss_weight, tiny_config, tmp_path):
    tiny_config.prefix_loss_weight = prefix_loss_weight
    tiny_config.problem_type = "single_label_classification"
    whole = train(model_class, tiny_config, tmp_path)
    accumulated = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert_equal_training(train(model_class, tiny_config, tmp_path, **accumulated), whole)


def test_checkpointed_training_equals_plain(tiny_config, tmp_path):
    plain = train(GPTScratchForCausalLM, tiny_config, tmp_path)
    assert_equal_training(train(GPTScratchForCausalLM, tiny_config, tmp_path, gradient_checkpointing=True), plain)


def losses_and_gradients(model, batches) -> list[torch.Tensor]:
    """The mean loss over all labels of some batches, and its gradients."""
    model.zero_grad()
    counts = [(F.pad(batch["labels"][:, 1:], (0, 1), value=-100) != -100).sum() for batch in batches]
    losses = [model(**batch, num_items_in_batch=sum(counts)).loss for batch in batches]
    loss = sum(losses)
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("chunk_size", [0, 10])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_documents_train_as_rows_of_their_own(attention, chunk_size, tiny_config):
    tiny_config.loss_chunk_size = chunk_size
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config).train()
    model.set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(1)
    documents = [torch.randint(2, 100, (length,), generator=generator).tolist() for length in (9, 1, 14, 6)]
    alone = losses_and_gradients(
        model, [{"input_ids": torch.tensor([ids]), "labels": torch.tensor([ids])} for ids in documents]
    )
    # transformers' own collator for packing: positions start again, and a document's first token is no label
    packed = DataCollatorWithFlattening()([{"input_ids": ids} for ids in documents])
    for with_cache in (False, True):
        together = losses_and_gradients(model, [{**packed, "use_cache": with_cache}])
        torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("model_class", [GPTScratchForCausalLM, GPTScratchForSequenceClassification])
def test_label_smoothing_is_that_of_cross_entropy(model_class, tiny_config, tmp_path):
    torch.manual_seed(0)
    model = model_class(tiny_config).train()
    data = Dataset.from_list(rows(model_class))
    batch = {key: torch.tensor(column) for key, column in data.with_format(None)[:].items()}
    labels = batch.pop("labels")
    logits = model(**batch).logits
    if model_class is GPTScratchForCausalLM:
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    expected = F.cross_entropy(logits, labels, label_smoothing=0.2).item()
    settings = {"label_smoothing_factor": 0.2, "per_device_train_batch_size": 16}
    _, losses = train(model_class, tiny_config, tmp_path, model=model, data=data, **settings)
    assert losses[0] == pytest.approx(expected, abs=1e-5)
