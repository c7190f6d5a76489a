"""What `train prefer` measures: the log-probabilities of answers, in the rows' order, whatever batches they are in."""

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.training.prefer_results import log_probabilities


def test_log_probabilities_do_not_depend_on_batches_and_keep_their_order(tiny_config):
    tiny_config.initializer_range = 0.5
    torch.manual_seed(0)
    model, lengths = GPTScratchForCausalLM(tiny_config), ((9, 4, 7), (2, 1, 3), (30, 2, 2), (5, 20, 1), (3, 3, 3))
    names, seen = ("prompt_ids", "chosen_ids", "rejected_ids"), []
    rows = [{name: torch.randint(1, 100, (n,)).tolist() for name, n in zip(names, one)} for one in lengths]
    model.transformer.wte.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    found = log_probabilities(model, rows, 0, batch_size=2)
    assert seen == [6, 25, 32]  # the longest of batches of similar ones
    for row, pair in zip(rows, found):
        for name, value in zip(names[1:], pair):
            ids = torch.tensor([row["prompt_ids"] + row[name]])
            logs = model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])[:, 0]
            assert logs[len(row["prompt_ids"]) - 1 :].sum().item() == pytest.approx(value, abs=1e-3)
