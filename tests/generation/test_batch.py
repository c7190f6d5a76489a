"""Answers in batches: those that each prompt would get alone, ending at the EOS token or where the room ends."""

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.generation.batch import complete_prompts
from hf_gpt_scratch.generation.sampling import sample

LENGTHS = (3, 40, 11, 62, 1, 25, 11)


@pytest.fixture
def lm(tiny_config) -> GPTScratchForCausalLM:
    """A model with large random weights, whose answers vary; token 0 does not end them."""
    tiny_config.eos_token_id = None
    tiny_config.initializer_range = 0.5
    torch.manual_seed(0)
    return GPTScratchForCausalLM(tiny_config)


@pytest.fixture
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 100, (length,), generator=generator).tolist() for length in LENGTHS]


def end_at_a_token_of(lm, prompts) -> None:
    """Makes the fourth token of the first answer the EOS token."""
    lm.config.eos_token_id = complete_prompts(lm, prompts[:1], 10)[0].token_ids[3]


@pytest.mark.parametrize("batch_size", [2, 7])
def test_batched_is_one_by_one(lm, prompts, batch_size):
    end_at_a_token_of(lm, prompts)
    batched = complete_prompts(lm, prompts, 20, batch_size)
    assert batched == [complete_prompts(lm, [prompt], 20)[0] for prompt in prompts]
    for prompt, completion in zip(prompts, batched):
        room = min(20, 64 - len(prompt))
        assert completion.token_ids == list(sample(lm, torch.tensor([prompt]), room, temperature=0))
        assert completion.finish_reason == ("stop" if len(completion.token_ids) < room else "length")
    assert {completion.finish_reason for completion in batched} == {"stop", "length"}
    assert len(batched[3].token_ids) <= 2  # the prompt of 62 tokens leaves room for two


def test_a_batch_is_what_transformers_generates(lm, prompts):
    prompts = [prompt for prompt in prompts if len(prompt) < 40]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    expected = lm.generate(ids, attention_mask=mask, max_new_tokens=15, do_sample=False, pad_token_id=0)
    answers = [completion.token_ids for completion in complete_prompts(lm, prompts, 15)]
    assert answers == expected[:, longest:].tolist()


def test_repeated_tokens_are_made_as_unlikely_as_transformers_makes_them(lm, prompts):
    prompts = [prompt for prompt in prompts if len(prompt) < 40]
    settings = {"max_new_tokens": 15, "do_sample": False, "pad_token_id": 0, "repetition_penalty": 1.5}
    expected = [lm.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist() for prompt in prompts]
    answers = [completion.token_ids for completion in complete_prompts(lm, prompts, 15, repetition_penalty=1.5)]
    assert answers == expected != [completion.token_ids for completion in complete_prompts(lm, prompts, 15)]
    one_by_one = [sample(lm, torch.tensor([prompt]), 15, temperature=0, repetition_penalty=1.5) for prompt in prompts]
    assert [list(tokens) for tokens in one_by_one] == expected


def test_drawn_answers_depend_on_the_seed_and_not_on_the_batch(lm, prompts):
    def draw(batch_size: int, seed: int):
        return complete_prompts(lm, prompts, 12, batch_size, temperature=2.0, top_k=50, top_p=0.95, seed=seed)

    assert draw(1, seed=5) == draw(3, seed=5) != draw(3, seed=6)
    assert draw(3, seed=5) != complete_prompts(lm, prompts, 12)
    assert complete_prompts(lm, prompts, 12, temperature=2.0, top_k=1) == complete_prompts(lm, prompts, 12)


def test_it_leaves_the_model_training_or_not_as_it_was(lm, prompts):
    lm.config.attn_pdrop = 0.9
    expected = complete_prompts(lm.eval(), prompts, 5)
    assert not lm.training
    assert complete_prompts(lm.train(), prompts, 5) == expected
    assert lm.training


@pytest.mark.parametrize(("prompt", "tokens"), [([], 5), ([1] * 64, 5), ([1], 0)])
def test_what_leaves_no_room_is_refused(lm, prompt, tokens):
    with pytest.raises(ValueError, match="expected 1 to 63|at least 1"):
        complete_prompts(lm, [[1], prompt], tokens)


def rows_of_each_call(lm, prompts, lengths, batch_size) -> list[tuple[int, int]]:
    """How many rows and tokens the model reads in each call of it while it answers."""
    shapes = []
    hook = lm.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    answers = complete_prompts(lm, prompts, lengths, batch_size)
    hook.remove()
    assert [len(answer.token_ids) for answer in answers] == lengths
    return shapes


def test_the_next_prompts_take_the_places_of_answers_that_have_ended(lm):
    prompts, lengths = [[number + 1] * 8 for number in range(16)], [1 + number * 7 % 16 for number in range(16)]
    shapes = rows_of_each_call(lm, prompts, lengths, 4)
    read, steps = [rows for rows, length in shapes if length == 8], [rows for rows, length in shapes if length == 1]
    assert sum(read) == 16 and len(read) > 4  # each prompt once, and not in four batches of four
    assert max(read + steps) == 4  # what bounds the memory
    in_turn = sum(max(lengths[start : start + 4]) for start in range(0, 16, 4))
    assert len(shapes) - len(read) < in_turn - 4


def test_answers_that_have_ended_do_not_wait_for_the_longest(lm):
    shapes = rows_of_each_call(lm, [[1, 2]] * 8, [2, 2, 2, 2, 2, 2, 2, 30], 8)
    assert shapes == [(8, 2), (8, 1)] + [(1, 1)] * 28


def test_an_answer_ends_where_it_fills_the_model_while_others_go_on(lm):
    prompts = [[1] * 61, [2] * 3, [3] * 4, [4] * 5, [5] * 6]
    answers = complete_prompts(lm, prompts, 20)
    assert [len(answer.token_ids) for answer in answers] == [3, 20, 20, 20, 20]
    assert answers == [complete_prompts(lm, [prompt], 20)[0] for prompt in prompts]


def test_rows_of_a_model_that_looks_only_so_far_back_join_too(tiny_config, prompts):
    tiny_config.layer_types, tiny_config.sliding_window = ["full_attention", "sliding_attention"], 6
    tiny_config.eos_token_id, tiny_config.initializer_range = None, 0.5
    torch.manual_seed(0)
    lm = GPTScratchForCausalLM(tiny_config)
    lengths = [2, 9, 1, 2, 20, 12, 5]
    answers = complete_prompts(lm, prompts, lengths, 3)
    for prompt, length, answer in zip(prompts, lengths, answers):
        expected = lm.generate(torch.tensor([prompt]), max_new_tokens=length, do_sample=False, pad_token_id=0)
        assert answer.token_ids == expected[0, len(prompt) :].tolist()


def test_progress_counts_every_answer(lm, prompts):
    seen = []
    complete_prompts(lm, prompts, [1, 2, 3, 1, 9, 1, 4], 2, progress=seen.append)
    assert sum(seen) == len(prompts) and complete_prompts(lm, [], 5) == []
