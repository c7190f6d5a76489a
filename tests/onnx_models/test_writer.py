"""A language model in an ONNX folder writes the tokens that the one with torch's weights writes."""

import copy

import pytest
import torch
from transformers import DynamicCache, StaticCache

from hf_gpt_scratch import load
from hf_gpt_scratch.evaluation.judge.in_process import choice_probabilities
from hf_gpt_scratch.generation.batch import complete_prompts
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.generation.sampling import sample, stream_text
from hf_gpt_scratch.onnx_models.model import PROMPT
from support.commands import run_command
from support.onnx_folders import exported

SHORT, LONG = [5, 6, 7], list(range(20, 20 + PROMPT + 9))


@pytest.fixture(scope="module")
def both() -> list:
    return [load(folder, device="cpu") for folder in exported("writer")]


def equal(results: list):
    torch_has, onnx_has = results
    assert onnx_has == torch_has and torch_has
    return onnx_has


@pytest.mark.parametrize("prompt", [SHORT, LONG])
@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"temperature": 1.0, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.3}]
)
def test_sampled_tokens_by_one_seed(both, prompt, settings):
    written = []
    for model, _ in both:
        generator = torch.Generator().manual_seed(3)
        written.append(list(sample(model, torch.tensor([prompt]), 60, generator, **settings)))
    assert len(set(equal(written))) > 1


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_answers_in_batches(both, temperature):
    prompts = [SHORT, LONG, LONG[4:], SHORT[:1], [*LONG, *SHORT], SHORT[1:]]
    settings = {"batch_size": 3, "temperature": temperature, "seed": 7}
    equal([complete_prompts(model, prompts, [5, 30, 9, 20, 7, 12], **settings) for model, _ in both])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 20}])
def test_generate_of_transformers(both, settings):
    written = []
    for model, _ in both:
        ids = torch.tensor([[0, 0, *SHORT], LONG[:5]])
        mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
        torch.manual_seed(0)
        options = {"do_sample": False, **settings, "max_new_tokens": 12, "pad_token_id": 0}
        written.append(model.generate(ids, attention_mask=mask, **options).tolist())
    equal(written)


def test_a_long_prompt_is_read_without_the_output_head(both, monkeypatch):
    model, asked = both[1][0], []
    run = model.graph.run
    monkeypatch.setattr(model.graph, "run", lambda given, shapes: asked.append(shapes) or run(given, shapes))
    for length, passes in ((PROMPT, 1), (PROMPT + 1, 2)):
        asked.clear()
        model(torch.tensor([LONG[:length]]), use_cache=True, logits_to_keep=1)
        assert [shapes.get("logits", (0, 0))[1] for shapes in asked] == ([length] if passes == 1 else [0, 1])


def test_logits_of_every_place_and_of_some(both):
    ids = torch.tensor([LONG, LONG[::-1]])
    for keep in (0, 3, torch.tensor([0, 4])):
        for use_cache in (False, True):
            expected, found = (m(ids, use_cache=use_cache, logits_to_keep=keep) for m, _ in both)
            assert found.logits.shape == expected.logits.shape
            assert torch.allclose(found.logits, expected.logits, atol=1e-5)
            assert (found.past_key_values is None) == (not use_cache)


def test_a_cache_goes_on_from_where_it_was_cut(both):
    model, cache = both[1][0], DynamicCache()
    model(torch.tensor([LONG]), past_key_values=cache)
    other = copy.deepcopy(cache)
    for one in (cache, other):
        one.crop(3 - len(LONG))
        found = model(torch.tensor([SHORT]), past_key_values=one)
        assert one is found.past_key_values and one.get_seq_length() == 6
        expected = both[0][0](torch.tensor([LONG[:3] + SHORT])).logits[:, 3:]
        assert torch.allclose(found.logits, expected, atol=1e-5)


def test_a_judge_reads_its_choices(both):
    choices = {"8": (8,), "87": (8, 9), "A": (40,)}
    expected, found = (choice_probabilities(model, [SHORT, LONG], choices, 0) for model, _ in both)
    assert torch.allclose(found, expected, atol=1e-6) and expected.min() > 0


def test_the_evaluation_harness_scores_the_same():
    pytest.importorskip("lm_eval", reason="pip install 'hf-gpt-scratch[eval]'")
    from lm_eval.api.instance import Instance

    from hf_gpt_scratch.evaluation.harness import load_language_model

    asked = [Instance("loglikelihood", {}, (text, " on the sea"), i) for i, text in enumerate(("a boat", "the lamp"))]
    expected, found = (load_language_model(str(folder)).loglikelihood(asked) for folder in exported("writer"))
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_a_chat_answers_the_same(both):
    asked = ["the lamp?", "a boat on the sea. " * 3, "on the hill"]
    said = []
    for model, tokenizer in both:
        chat = Chat(model, tokenizer, history=True)
        said.append([("".join(chat.ask(text, 20)), chat.finish_reason) for text in asked])
    equal(said)


def test_the_commands_print_the_same(capsys, monkeypatch):
    printed = []
    for folder in exported("writer"):
        run_command("generate", folder, "--prompt", "the lamp", "--max-new-tokens", 20, "--seed", 1, "--device", "cpu")
        printed.append(capsys.readouterr())
    assert equal([one.out for one in printed]).startswith("the lamp")
    assert printed[1].err.startswith("Using cpu, float32, by onnxruntime.\n")


def test_text_as_it_is_written(both):
    pieces = [list(stream_text(*one, "the lamp on", 30, temperature=0)) for one in both]
    equal(pieces)


def test_what_it_cannot_do_is_refused(both):
    model, config = both[1][0], both[1][0].config
    with pytest.raises(
        ValueError, match="^The sequence has 513 tokens, but the model reads at most n_positions = 512"
    ):
        model(torch.ones(1, 513, dtype=torch.long))
    with pytest.raises(ValueError, match="^An ONNX model needs a cache that grows and keeps all tokens"):
        model(torch.tensor([SHORT]), past_key_values=StaticCache(config=config, max_cache_len=16))
    packed = torch.tensor([[0, 1, 0]])
    with pytest.raises(ValueError, match="packed documents need torch.$"):
        model(torch.tensor([SHORT]), position_ids=packed)
    model(torch.tensor([SHORT]), position_ids=packed, attention_mask=torch.tensor([[1, 1, 0]]))  # padding counts not
