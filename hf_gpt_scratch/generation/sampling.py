"""A readable sampling loop, and text as it is written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..utils.constants import SAMPLING_SETTINGS
from ..utils.errors import InputError
from ..utils.special_tokens import end_token_ids, text_ids
from ..utils.text import has_lone_surrogates
from .cache import GrowingCache


def choose_tokens(
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> torch.LongTensor:
    """
    The next token of each row, `(B,)`, from the logits `(B, V)`.

    Args:
        temperature: divides the logits: below 1 sharpens the distribution, above 1 flattens it; 0 is greedy: always
            the most likely token.
        top_k: sample from the `top_k` most likely tokens only; 0 or `None` for all.
        top_p: nucleus sampling: from the fewest tokens whose probabilities add up to it (Holtzman et al. 2020).
        generators: one for each row, all on one device; torch's global generator by default.

    Raises:
        InputError: for logits that are NaN, as those of damaged weights.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        is_needless = ordered.cumsum(-1) - ordered >= top_p
        is_needless[:, 0] = False
        logits = logits.masked_fill(is_needless.gather(-1, order.argsort(-1)), -torch.inf)
    probabilities = logits.softmax(-1)
    try:
        if generators is None:
            return torch.multinomial(probabilities, 1)[:, 0]
        rows = zip(probabilities.to(generators[0].device), generators, strict=True)
        return torch.cat([torch.multinomial(row, 1, generator=generator) for row, generator in rows]).to(logits.device)
    except RuntimeError:
        if probabilities.isfinite().all():
            raise
        raise InputError(
            "The model's scores are no numbers (NaN or infinite): its weights are damaged, or the temperature is too"
            " low."
        ) from None


def penalize_repetition(logits: torch.Tensor, seen: Iterable[Sequence[int]], penalty: float) -> torch.Tensor:
    """
    The logits `(B, V)` with the repetition penalty of CTRL (Keskar et al. 2019, section 4.1), as transformers applies
    it: of the tokens that each row has seen, its prompt included, positive logits are divided by `penalty` and
    negative ones multiplied. 1 changes nothing.
    """
    if penalty == 1:
        return logits
    logits = logits.float().clone()
    for row, ids in zip(logits, seen):
        ids = torch.tensor(sorted(set(ids)), device=row.device)
        row[ids] = torch.where(row[ids] > 0, row[ids] / penalty, row[ids] * penalty)
    return logits


def sampling_settings(model: PreTrainedModel, given: Mapping, **defaults) -> dict:
    """
    How the model writes: `max_new_tokens` and the settings of `sample`.

    Args:
        given: settings that win; `None` stands for one that is not given.
        defaults: those that are neither given nor saved with the model, in its generation_config.json.
    """
    saved = model.generation_config.to_diff_dict()
    kept = {name: saved[name] for name in SAMPLING_SETTINGS if saved.get(name) is not None}
    if saved.get("do_sample") is False:
        kept["temperature"] = 0.0
    elif saved.get("do_sample"):
        kept.setdefault("temperature", 1.0)
    return {**defaults, **kept, **{name: value for name, value in given.items() if value is not None}}


@torch.no_grad()  # no inference mode: training that lets the model write could not use what FSDP gathers in it
def sample(
    model: PreTrainedModel,
    input_ids: torch.LongTensor,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
    repetition_penalty: float = 1.0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **choice,
) -> Iterator[int]:
    """
    Yields new tokens one by one until one that ends a text, the sampling loop that `generate` hides.

    Args:
        input_ids: the prompt, `(1, T)`.
        generator: torch's global one by default.
        repetition_penalty: as for `penalize_repetition`.
        tokenizer: of the model, whose EOS token ends the text too.
        choice: `temperature`, `top_k` and `top_p`, as for `choose_tokens`.
    """
    ends, seen = end_token_ids(model.config, model.generation_config, tokenizer), input_ids[0].tolist()
    was_training, cache = model.training, GrowingCache()
    model.eval()
    try:
        for _ in range(max_new_tokens):
            # Past tokens' keys and values are cached, so each step reads only the newest token.
            outputs = model(input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = penalize_repetition(outputs.logits[:, -1], [seen], repetition_penalty)  # (1, V)
            token = choose_tokens(logits, generators=generator and [generator], **choice)  # (1,)
            if token.item() in ends:
                return
            yield token.item()
            seen.append(token.item())
            input_ids = token[:, None]
    finally:
        model.train(was_training)


def stream_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    max_new_tokens: int | None = None,
    prompt_ids: Sequence[int] | None = None,
    **given,
) -> Iterator[str]:
    """
    Yields what the model writes after `prompt`, piece by piece, each as soon as its characters are complete. Ends with
    an EOS token, after `max_new_tokens`, or where the prompt and the text fill `n_positions` tokens.

    Args:
        prompt: what to continue; when empty, the text begins as a document does.
        max_new_tokens: by default what the model was saved with, or else 100.
        prompt_ids: the prompt's tokens, where they are known: a rendered chat has special tokens of its own.
        given: the settings of `sample`; those that are omitted or `None` are what the model was saved with.

    Raises:
        InputError: when the prompt leaves no room.
    """
    settings = sampling_settings(model, {"max_new_tokens": max_new_tokens, **given}, max_new_tokens=100)
    limit = model.config.n_positions
    if has_lone_surrogates(prompt):
        raise InputError("The prompt is not UTF-8 text.")
    ids = list(prompt_ids or text_ids(tokenizer, prompt) or [tokenizer.bos_token_id])
    if None in ids or max(ids) >= model.config.vocab_size:
        raise InputError("The tokenizer does not fit the model: some of its tokens are not in the model's vocabulary.")
    if len(ids) >= limit:
        raise InputError(f"The prompt has {len(ids)} tokens; the model reads at most {limit}, its answer included.")
    input_ids = torch.tensor([ids], device=model.device)
    room = min(settings.pop("max_new_tokens"), limit - len(ids))
    decoder = DecodeStream(skip_special_tokens=True)
    for token in sample(model, input_ids, room, tokenizer=tokenizer, **settings):
        yield decoder.step(tokenizer.backend_tokenizer, token) or ""
