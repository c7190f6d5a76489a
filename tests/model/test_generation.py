"""Every way of generating gives the tokens that stock GPT-2 gives with the same weights and seed."""

import pytest
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.generation.sampling import sample
from hf_gpt_scratch.tokenizer import train_tokenizer

PROMPTS = torch.randint(2, 100, (3, 6), generator=torch.Generator().manual_seed(0))

STRATEGIES = {
    "greedy": {"do_sample": False},
    "temperature": {"do_sample": True, "temperature": 0.7, "top_k": 0},
    "top-k": {"do_sample": True, "top_k": 5},
    "top-p": {"do_sample": True, "top_p": 0.6, "top_k": 0},
    "min-p": {"do_sample": True, "min_p": 0.05, "top_k": 0},
    "beams": {"do_sample": False, "num_beams": 4},
    "sampled beams": {"do_sample": True, "num_beams": 3, "top_k": 10},
    "repetition penalty": {"do_sample": False, "repetition_penalty": 1.5},
    "no repeated pairs": {"do_sample": False, "no_repeat_ngram_size": 2},
    "static cache": {"do_sample": False, "cache_implementation": "static"},
    "no cache": {"do_sample": False, "use_cache": False},
    "prompt lookup": {"do_sample": False, "prompt_lookup_num_tokens": 3},
}


def make_pair(folder, seed: int = 0):
    """A stock GPT-2 with random weights, wide enough that its choices differ, and the same weights in our model."""
    torch.manual_seed(seed)
    config = {"vocab_size": 100, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    stock = GPT2LMHeadModel(GPT2Config(**config, **ends)).eval()
    stock.save_pretrained(folder / f"stock{seed}")
    ours = GPTScratchForCausalLM.from_pretrained(
        convert(str(folder / f"stock{seed}"), folder / f"ours{seed}").folder
    ).eval()
    return stock, ours


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


def generate(model, input_ids=PROMPTS, **settings) -> list[list[int]]:
    torch.manual_seed(0)
    return model.generate(input_ids, max_new_tokens=24, **settings).tolist()


@pytest.mark.parametrize("settings", STRATEGIES.values(), ids=STRATEGIES)
def test_tokens_are_those_of_stock_gpt2(pair, settings):
    prompts = PROMPTS[:1] if "prompt_lookup_num_tokens" in settings else PROMPTS
    expected, found = (generate(model, prompts, **settings) for model in pair)
    assert found == expected
    assert len(set(sum(found, []))) > 10  # not one token again and again


def test_left_padded_batch(pair):
    prompts = PROMPTS.clone()
    prompts[0, :3] = 1
    mask = (prompts != 1).long()
    expected, found = (generate(model, prompts, attention_mask=mask, do_sample=False) for model in pair)
    assert found == expected
    assert found[0][6:] == generate(pair[1], PROMPTS[:1, 3:], do_sample=False)[0][3:]


def test_stop_strings(pair):
    tokenizer = train_tokenizer(["nothing to merge"], 258)
    torch.manual_seed(0)
    free_text = tokenizer.decode(generate(pair[1], PROMPTS[:1], do_sample=False)[0])
    stop = free_text[10:12]
    settings = {"stop_strings": stop, "tokenizer": tokenizer, "do_sample": False}
    expected, found = (generate(model, PROMPTS[:1], **settings) for model in pair)
    assert found == expected
    assert tokenizer.decode(found[0]) == free_text[:12]


def test_assisted_decoding_gives_greedy_tokens(pair, tmp_path):
    _, assistant = make_pair(tmp_path, seed=1)
    greedy = generate(pair[0], PROMPTS[:1], do_sample=False)
    assert generate(pair[1], PROMPTS[:1], do_sample=False, assistant_model=assistant) == greedy
    assert generate(pair[1], PROMPTS[:1], do_sample=False, assistant_model=pair[0]) == greedy


def test_continuous_batching(pair):
    _, ours = pair
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": 0, "pad_token_id": 1}
    prompts = [PROMPTS[0].tolist(), PROMPTS[1, :2].tolist(), PROMPTS[2, :4].tolist()]
    try:
        answers = ours.generate_batch(
            inputs=prompts,
            generation_config=GenerationConfig(**settings),
            continuous_batching_config=ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64),
        )
    finally:
        ours.set_attn_implementation("sdpa")  # it leaves its own behind
    by_prompt = {tuple(answer.prompt_ids): answer.generated_tokens for answer in answers.values()}
    for prompt in prompts:
        alone = pair[0].generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist()
        assert by_prompt[tuple(prompt)] == alone


def test_compiled_decoding_is_one_graph_that_is_not_compiled_again(pair):
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    stock, ours = pair
    expected = generate(stock, do_sample=False)
    plain = ours.forward
    torch.compiler.reset()
    try:
        ours.forward = torch.compile(ours.forward, fullgraph=True, backend=count)
        found = generate(ours, do_sample=False, cache_implementation="static")
    finally:
        ours.forward = plain
    assert found == expected
    assert len(graphs) == 2  # the prompt's, and one that serves all 23 steps


@pytest.mark.parametrize("filters", [{"top_k": 0}, {"temperature": 0.5, "top_k": 7}, {"top_p": 0.7, "top_k": 20}])
def test_the_loop_by_hand_samples_what_generate_samples(pair, filters):
    _, ours = pair
    expected = generate(ours, PROMPTS[:1], do_sample=True, **filters)[0][6:]
    torch.manual_seed(0)
    found = list(sample(ours, PROMPTS[:1], 24, **filters))
    assert found == [token for token in expected if token != 0]
    assert len(found) > 5
