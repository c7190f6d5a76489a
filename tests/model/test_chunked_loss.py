"""The loss in chunks of tokens is the plain one, its gradients too, in less memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_gpt_scratch import GPTScratchForCausalLM


def random_ids(*shape: int) -> torch.Tensor:
    return torch.randint(1, 100, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_items_in_batch", [None, 31])
@pytest.mark.parametrize("tied", [True, False])
def test_chunked_loss_equals_the_plain_one(tiny_config, num_items_in_batch, tied):
    tiny_config.tie_word_embeddings = tied
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = random_ids(3, 11)
    labels = ids.clone()
    labels[0, :5] = -100
    results = []
    for chunk_size in (0, 7, 1000):
        model.config.loss_chunk_size = chunk_size
        model.zero_grad()
        outputs = model(ids, labels=labels, num_items_in_batch=num_items_in_batch)
        assert (outputs.logits is None) == (chunk_size > 0)
        (outputs.loss * 3).backward()
        results.append([outputs.loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for chunked in results[1:]:
        for value, expected in zip(chunked, results[0]):
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


def test_chunked_loss_leaves_a_frozen_head_alone(tiny_config):
    tiny_config.tie_word_embeddings = False
    model = GPTScratchForCausalLM(tiny_config).train()
    model.lm_head.requires_grad_(False)
    model(random_ids(2, 9), labels=random_ids(2, 9)).loss.backward()
    assert model.lm_head.weight.grad is None
    assert model.transformer.wte.weight.grad.abs().sum() > 0


def gradients_of_two_passes(model, first: str) -> list[torch.Tensor]:
    """The gradients of a loss whose graph was kept, of the first pass and of both."""
    parameters, ids = [one for one in model.parameters() if one.requires_grad], random_ids(2, 9)
    loss = model(ids, labels=ids).loss * 3
    if first == "grad":
        kept = list(torch.autograd.grad(loss, parameters, retain_graph=True))
    else:
        loss.backward(retain_graph=True)
        kept = [one.grad.clone() for one in parameters]
    (loss * 5).backward()
    return kept + [one.grad for one in parameters]


@pytest.mark.parametrize("first", ["grad", "backward"])
@pytest.mark.parametrize("frozen", ["nothing", "head", "all but the head"])
def test_two_backward_passes_through_the_chunked_loss(tiny_config, first, frozen):
    tiny_config.tie_word_embeddings = False
    results = []
    for tiny_config.loss_chunk_size in (0, 7):
        torch.manual_seed(0)
        model = GPTScratchForCausalLM(tiny_config).train()
        model.requires_grad_(frozen != "all but the head")
        model.lm_head.requires_grad_(frozen != "head")
        results.append(gradients_of_two_passes(model, first))
    assert len(results[0]) == len(results[1]) > 0
    for value, expected in zip(*results):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


def test_gradients_share_no_memory_with_a_graph_that_is_kept(tiny_config):
    tiny_config.tie_word_embeddings = False
    model, ids = GPTScratchForCausalLM(tiny_config).train(), random_ids(2, 9)
    loss = model(ids, labels=ids).loss
    loss.backward(retain_graph=True)
    once = model.lm_head.weight.grad.clone()
    model.zero_grad(set_to_none=False)
    loss.backward()
    assert torch.equal(model.lm_head.weight.grad, once)


def test_a_graph_that_is_gone_and_second_derivatives_end_with_an_error(tiny_config):
    tiny_config.tie_word_embeddings, tiny_config._attn_implementation = (
        False,
        "eager",
    )  # SDPA has no second ones either
    model, ids = GPTScratchForCausalLM(tiny_config).train(), random_ids(2, 9)
    loss = model(ids, labels=ids).loss
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    loss, weight = model(ids, labels=ids).loss, model.lm_head.weight
    with pytest.raises(RuntimeError, match="no second derivatives: set config.loss_chunk_size to 0"):
        torch.autograd.grad(loss, weight, create_graph=True)
    model.config.loss_chunk_size = 0
    (gradient,) = torch.autograd.grad(model(ids, labels=ids).loss, weight, create_graph=True)
    gradient.sum().backward()


@pytest.mark.parametrize("num_items_in_batch", [None, 5])
def test_without_any_label_the_chunked_loss_is_the_plain_one(tiny_config, num_items_in_batch):
    results = []
    for tiny_config.loss_chunk_size in (0, 7):
        torch.manual_seed(0)
        model, ids = GPTScratchForCausalLM(tiny_config).train(), random_ids(2, 9)
        loss = model(ids, labels=torch.full_like(ids, -100), num_items_in_batch=num_items_in_batch).loss
        loss.backward()
        results.append([loss.detach(), *(one.grad for one in model.parameters())])
    for value, expected in zip(*results):
        torch.testing.assert_close(value, expected, equal_nan=True)


def test_a_head_with_a_bias_or_a_hook_is_not_bypassed(tiny_config):
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = random_ids(2, 9)
    seen = []
    handle = model.lm_head.register_forward_hook(lambda *_: seen.append(1))
    assert model(ids, labels=ids).logits is not None and seen
    handle.remove()
    model.lm_head = torch.nn.Linear(32, 100, bias=True)
    model(ids, labels=ids).loss.backward()
    assert model.lm_head.bias.grad is not None


def test_the_head_scores_only_the_labelled_positions(tiny_config, monkeypatch):
    model, ids, scored = GPTScratchForCausalLM(tiny_config).train(), random_ids(3, 11), []
    labels = ids.clone()
    labels[:, :6], labels[1, 9:] = -100, -100
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *factors, out: scored.append(out.shape) or product(*factors, out=out))
    tiny_config.loss_chunk_size = 4
    model(ids, labels=labels).loss.backward()
    rows = [length for length, width in scored if width == tiny_config.vocab_size]
    assert rows == [4, 4, 4, 1] and sum(rows) == (labels[:, 1:] != -100).sum()


def test_another_loss_function_is_not_bypassed(tiny_config):
    model, ids = GPTScratchForCausalLM(tiny_config).train(), random_ids(2, 9)
    model.loss_function = lambda logits, **kwargs: logits.square().mean()
    outputs = model(ids, labels=ids)
    assert outputs.loss == outputs.logits.square().mean()


def test_labels_to_ignore_may_have_another_number(tiny_config):
    model, losses, ids = GPTScratchForCausalLM(tiny_config).train(), [], random_ids(2, 9)
    labels = ids.clone()
    labels[:, 3:5] = 7
    for model.config.loss_chunk_size in (0, 4):
        losses.append(model(ids, labels=labels, ignore_index=7).loss)
    torch.testing.assert_close(*losses)
    assert losses[1] != model(ids, labels=labels).loss


def test_a_label_outside_the_vocabulary_is_an_error(tiny_config):
    model, ids = GPTScratchForCausalLM(tiny_config).train(), random_ids(2, 9)
    with pytest.raises(RuntimeError, match="out of bounds"):
        model(ids, labels=torch.full_like(ids, tiny_config.vocab_size))


def test_training_never_holds_all_logits(tiny_config):
    class LargestTensor(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for value in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(value, torch.Tensor):
                    self.largest = max(self.largest, value.numel())
            return result

    tiny_config.vocab_size, tiny_config.loss_chunk_size = 5000, 16
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = random_ids(8, 64)
    with LargestTensor() as seen:
        model(ids, labels=ids).loss.backward()
    assert seen.largest <= max(model.lm_head.weight.numel(), 16 * 5000) < ids.numel() * 5000


@pytest.mark.parametrize("divisor", [None, 31])
def test_in_bf16_autocast_the_chunked_loss_is_as_close_as_the_plain_one(tiny_config, divisor):
    ids, results = random_ids(3, 11), []
    for tiny_config.loss_chunk_size, precision in ((0, torch.float32), (0, torch.bfloat16), (7, torch.bfloat16)):
        torch.manual_seed(0)
        model = GPTScratchForCausalLM(tiny_config).train()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            loss = model(ids, labels=ids, num_items_in_batch=divisor).loss
        loss.backward()
        assert loss.dtype == torch.float32
        results.append(torch.cat([loss.detach().view(1), *(one.grad.flatten() for one in model.parameters())]))
    exact, plain, chunked = results
    assert (chunked - exact).norm() <= 1.5 * (plain - exact).norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_have_gradients_as_close_as_the_plain_ones(tiny_config, dtype):
    """As DeepSpeed trains in fp16: the loss is scaled up, and a quotient by the number of tokens would be 0."""
    tiny_config.tie_word_embeddings, results, ids = False, [], random_ids(3, 60)
    for tiny_config.loss_chunk_size, precision in ((0, torch.float32), (0, dtype), (4, dtype)):
        torch.manual_seed(0)
        model = GPTScratchForCausalLM(tiny_config).train().to(precision)
        (model(ids, labels=ids, num_items_in_batch=10**6).loss * 2**16).backward()
        assert model.lm_head.weight.grad.dtype == precision
        results.append(model.lm_head.weight.grad.float())
    exact, plain, chunked = results
    assert (chunked - exact).norm() <= 1.5 * (plain - exact).norm()
