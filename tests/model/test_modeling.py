"""The model computes what it says: masks, positions, caches, packed rows, pooling and losses."""

import pytest
import torch

from hf_gpt_scratch import (
    GPTScratchConfig,
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
)

IMPLEMENTATIONS = ["eager", "sdpa"]
# What blocks may look back at: everything, as in GPT-2; three tokens; three tokens in the first block alone
WINDOWS = {
    "": {},
    " window": {"sliding_window": 3},
    " mixed": {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]},
}


def random_ids(*shape: int) -> torch.Tensor:
    return torch.randint(1, 100, shape, generator=torch.Generator().manual_seed(0))


def padded(rows: list[torch.Tensor], side: str, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows as one batch, padded on `side`, and its attention mask."""
    length = max(len(row) for row in rows)
    ids, mask = torch.full((len(rows), length), pad), torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(length - len(row), None) if side == "left" else slice(len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask


@pytest.fixture(params=[implementation + window for implementation in IMPLEMENTATIONS for window in WINDOWS])
def lm(request, tiny_config):
    torch.manual_seed(0)
    implementation, _, window = request.param.partition(" ")
    settings = {**tiny_config.to_dict(), **WINDOWS[window and f" {window}"]}
    return GPTScratchForCausalLM(GPTScratchConfig(**settings, attn_implementation=implementation)).eval()


def test_a_token_does_not_see_the_future(lm):
    ids = random_ids(1, 12)
    changed = ids.clone()
    changed[0, 6:] = random_ids(6) % 50 + 50
    before, after = lm(ids).logits, lm(changed).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(lm, side):
    rows = [random_ids(12), random_ids(5), random_ids(9)]
    ids, mask = padded(rows, side)
    logits = lm(ids, attention_mask=mask).logits
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i][mask[i].bool()], lm(row[None]).logits[0], atol=1e-5, rtol=0)


def test_cached_decoding_equals_one_pass_under_left_padding(lm):
    rows = [random_ids(12), random_ids(5)]
    ids, mask = padded(rows, "left")
    whole = lm(ids, attention_mask=mask).logits
    outputs, steps = None, []
    for t in range(ids.shape[1]):
        past = outputs.past_key_values if outputs else None
        outputs = lm(ids[:, t : t + 1], attention_mask=mask[:, : t + 1], past_key_values=past, use_cache=True)
        steps.append(outputs.logits)
    steps = torch.cat(steps, dim=1)
    torch.testing.assert_close(steps[mask.bool()], whole[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_packed_documents_do_not_see_each_other(lm, use_cache, with_mask):
    first, second = random_ids(4), random_ids(7) % 40 + 50
    packed = torch.cat([first, second])[None]
    position_ids = torch.cat([torch.arange(4), torch.arange(7)])[None]
    mask = torch.ones_like(packed) if with_mask else None
    logits = lm(packed, position_ids=position_ids, attention_mask=mask, use_cache=use_cache).logits[0]
    torch.testing.assert_close(logits[:4], lm(first[None]).logits[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[4:], lm(second[None]).logits[0], atol=1e-5, rtol=0)


def test_a_packed_row_can_be_continued_from_the_cache(lm):
    first, second = random_ids(4), random_ids(7) % 40 + 50
    packed = torch.cat([first, second[:-1]])[None]
    past = lm(packed, position_ids=torch.cat([torch.arange(4), torch.arange(6)])[None]).past_key_values
    last = lm(second[None, -1:], position_ids=torch.tensor([[6]]), past_key_values=past).logits[0, -1]
    torch.testing.assert_close(last, lm(second[None]).logits[0, -1], atol=1e-5, rtol=0)


def test_generate_gives_the_same_text_in_a_left_padded_batch(lm):
    rows = [random_ids(10), random_ids(4)]
    ids, mask = padded(rows, "left")
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    batch = lm.generate(ids, attention_mask=mask, **settings)
    for i, row in enumerate(rows):
        alone = lm.generate(row[None], attention_mask=torch.ones_like(row[None]), **settings)
        assert torch.equal(batch[i, -8:], alone[0, -8:])


def test_a_sequence_longer_than_n_positions_is_refused_in_words(lm):
    ids, positions = random_ids(1, 65), torch.arange(65)[None]
    for arguments in ({}, {"attention_mask": torch.ones_like(ids)}, {"position_ids": positions}):
        with pytest.raises(ValueError, match="65 tokens, but the model reads at most n_positions = 64"):
            lm(ids, **arguments)


def test_a_padded_row_may_be_longer_than_n_positions(lm):
    ids, mask = padded([random_ids(60), torch.zeros(0)], "left")
    ids, mask = (
        torch.cat([torch.zeros(2, 9, dtype=torch.long), ids], 1),
        torch.cat([mask[1:].repeat(2, 1)[:, :9], mask], 1),
    )
    torch.testing.assert_close(
        lm(ids, attention_mask=mask).logits[0, 9:], lm(ids[:1, 9:]).logits[0], atol=1e-5, rtol=0
    )


def test_both_or_neither_input_is_refused(lm):
    with pytest.raises(ValueError, match="exactly one"):
        lm.transformer()
    with pytest.raises(ValueError, match="exactly one"):
        lm.transformer(random_ids(1, 3), inputs_embeds=torch.zeros(1, 3, 32))


def test_logits_to_keep(lm):
    ids = random_ids(2, 9)
    torch.testing.assert_close(lm(ids, logits_to_keep=2).logits, lm(ids).logits[:, -2:])


def test_hidden_states_and_attentions_are_captured(tiny_config):
    tiny_config._attn_implementation = "eager"
    outputs = GPTScratchModel(tiny_config).eval()(random_ids(2, 5), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(2, 5, 32)] * 3
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 4, 5, 5)] * 2
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(2, 4, 5))


def test_eager_and_sdpa_agree(tiny_config):
    model = GPTScratchForCausalLM(tiny_config).eval()
    ids, mask = padded([random_ids(12), random_ids(5)], "left")
    results = []
    for implementation in IMPLEMENTATIONS:
        model.set_attn_implementation(implementation)
        results.append(model(ids, attention_mask=mask).logits[mask.bool()])
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


def test_it_compiles_without_a_graph_break(lm):
    ids = random_ids(2, 9)
    compiled = torch.compile(lm, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ids, use_cache=False).logits, lm(ids, use_cache=False).logits)


def test_gradient_checkpointing_changes_no_gradient(tiny_config):
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = random_ids(2, 9)

    def gradients():
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    calls = []
    model.transformer.h[0].ln_1.register_forward_hook(lambda *_: calls.append(1))
    plain = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed_gradients = gradients()
    assert len(calls) == 1 + 2  # the block runs again in the backward pass
    for checkpointed, expected in zip(checkpointed_gradients, plain):
        torch.testing.assert_close(checkpointed, expected, atol=1e-6, rtol=0)


def test_initial_weights_follow_gpt2(tiny_config):
    tiny_config.n_embd, tiny_config.n_layer, tiny_config.initializer_range = 128, 8, 0.02
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config)
    for block in model.transformer.h:
        for projection, std in (
            (block.attn.q_proj, 0.02),
            (block.attn.o_proj, 0.02 / 4),  # sqrt(2 * n_layer) = 4
            (block.mlp.fc_in, 0.02),
            (block.mlp.fc_out, 0.02 / 4),
        ):
            assert projection.weight.std().item() == pytest.approx(std, rel=0.05)
            assert projection.bias.abs().max() == 0
    assert model.lm_head.weight is model.transformer.wte.weight


def test_untied_head_has_weights_of_its_own(tiny_config):
    tiny_config.tie_word_embeddings = False
    model = GPTScratchForCausalLM(tiny_config)
    assert model.lm_head.weight is not model.transformer.wte.weight


def test_dropout_falls_as_often_as_asked_and_only_while_training(tiny_config):
    tiny_config.resid_pdrop = 0.25
    dropout = GPTScratchModel(tiny_config).h[0].mlp.dropout
    ones = torch.ones(100_000)
    dropped = dropout.train()(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.max().item() == pytest.approx(1 / 0.75)
    assert torch.equal(dropout.eval()(ones), ones)


@pytest.mark.parametrize("name", ["resid_pdrop", "embd_pdrop", "attn_pdrop"])
def test_each_dropout_acts_while_training_only(lm, name):
    ids = random_ids(1, 9)
    setattr(lm.config, name, 0.5)
    model = GPTScratchForCausalLM(lm.config)
    assert not torch.allclose(model.train()(ids).logits, model(ids).logits)
    torch.testing.assert_close(model.eval()(ids).logits, model(ids).logits)


@pytest.fixture
def classifier(tiny_config):
    torch.manual_seed(0)
    tiny_config.pad_token_id = 0  # the end token as well
    return GPTScratchForSequenceClassification(tiny_config).eval()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_score_depends_on_neither_batch_nor_padding(classifier, side):
    end = torch.tensor([0])
    rows = [random_ids(12), torch.cat([random_ids(4), end]), random_ids(1)]  # one ends with a real end token
    ids, mask = padded(rows, side)
    logits = classifier(ids, attention_mask=mask).logits
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i], classifier(row[None]).logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_found_without_a_mask_if_it_is_not_the_end_token(classifier, side):
    classifier.config.pad_token_id = 99
    rows = [random_ids(12) % 90, random_ids(5) % 90]
    ids, mask = padded(rows, side, pad=99)
    expected = classifier(ids, attention_mask=mask).logits
    torch.testing.assert_close(classifier(ids).logits, expected, atol=1e-5, rtol=0)


def test_token_logits_are_the_scores_of_every_prefix(classifier):
    ids = random_ids(1, 8)
    outputs = classifier(ids, output_token_logits=True)
    assert outputs.token_logits.shape == (1, 8, 2)
    for length in range(1, 9):
        prefix = classifier(ids[:, :length]).logits
        torch.testing.assert_close(outputs.token_logits[:, length - 1], prefix, atol=1e-5, rtol=0)
    assert "token_logits" not in classifier(ids)


def test_prefix_loss_averages_within_each_message_first(classifier):
    rows, labels = [random_ids(6), random_ids(3)], torch.tensor([1, 0])
    ids, mask = padded(rows, "right")
    classifier.train()
    classifier.config.prefix_loss_weight = 1.0
    loss = classifier(ids, attention_mask=mask, labels=labels).loss
    by_hand = []
    for row, label in zip(rows, labels):
        scores = classifier(row[None], output_token_logits=True).token_logits[0]
        by_hand.append(torch.nn.functional.cross_entropy(scores, label.expand(len(row))))
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    classifier.config.prefix_loss_weight = 0.25
    mixed = classifier(ids, attention_mask=mask, labels=labels).loss
    classifier.config.prefix_loss_weight = 0.0
    pooled = classifier(ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(mixed, 0.75 * pooled + 0.25 * loss)


def test_regression_and_multi_label_losses(tiny_config):
    ids = random_ids(3, 5)
    for problem_type, labels in (("regression", torch.rand(3, 2)), ("multi_label_classification", torch.rand(3, 2))):
        tiny_config.problem_type = problem_type
        model = GPTScratchForSequenceClassification(tiny_config).eval()
        outputs = model(ids, labels=labels)
        if problem_type == "regression":
            expected = torch.nn.functional.mse_loss(outputs.logits, labels)
        else:
            expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
        torch.testing.assert_close(outputs.loss, expected)
        # The loss on every prefix, by hand
        model.config.prefix_loss_weight = 1.0
        scores = model.train()(ids, output_token_logits=True).token_logits
        losses = torch.nn.functional
        distance = losses.mse_loss if problem_type == "regression" else losses.binary_cross_entropy_with_logits
        expected = torch.stack([distance(scores[i], labels[i].expand(5, 2)) for i in range(3)]).mean()
        torch.testing.assert_close(model(ids, labels=labels).loss, expected)


@pytest.mark.parametrize("prefix_loss_weight", [0.0, 0.5])
def test_class_weights_multiply_the_training_loss_of_each_labels_texts(prefix_loss_weight, classifier):
    ids, labels = random_ids(3, 5), torch.tensor([0, 1, 1])
    classifier.config.prefix_loss_weight = prefix_loss_weight
    classifier.config.problem_type = "single_label_classification"
    unweighted = classifier.eval()(ids, labels=labels).loss
    alone = torch.stack([classifier.train()(ids[i : i + 1], labels=labels[i : i + 1]).loss for i in range(3)])
    classifier.config.class_weights = [3.0, 0.5]
    torch.testing.assert_close(classifier(ids, labels=labels).loss, (alone * torch.tensor([3.0, 0.5, 0.5])).mean())
    torch.testing.assert_close(classifier.eval()(ids, labels=labels).loss, unweighted)  # of what was measured


def test_token_classification_loss_counts_labelled_tokens_over_all_batches(tiny_config):
    model = GPTScratchForTokenClassification(tiny_config).eval()
    ids = random_ids(4, 6)
    labels = ids % 2
    labels[0, :5] = -100  # one token in the first row, six in the others
    whole = model(ids, labels=labels)
    assert whole.logits.shape == (4, 6, 2)
    parts = [model(ids[i : i + 1], labels=labels[i : i + 1], num_items_in_batch=19).loss for i in range(4)]
    torch.testing.assert_close(sum(parts), whole.loss)
