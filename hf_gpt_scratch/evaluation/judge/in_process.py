"""A judge in this process: a causal language model whose probabilities of the possible answers are read."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ...model_folder.code import code_of_the_hub
from ...model_folder.contents import ModelFolder
from ...modeling_gpt_scratch import GPTScratchForCausalLM
from ...pretrained import load_placed, place, precision_name, resolve_device
from ...prompts import as_text, is_alpaca
from ...tokenizer import load_tokenizer
from ...utils.chat_template import render_template
from ...utils.errors import InputError, one_line
from ...utils.int8 import is_int8
from ...utils.provenance import sha256
from ...utils.special_tokens import beginning
from .answers import Answer, NoAnswer
from .prompts import Mode, Task

TOKENS_PER_BATCH = 4096
ROWS_PER_BATCH = 16
PLACE = "The question stands here."
# The files whose hashes are the judge's identity, by which stored answers are found again: what is in here stays.
IDENTITY_FILES = (
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.bin",
    "onnx/*.onnx",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "*.jinja",
)


class ModelJudge:
    """
    The model in a folder, whose answer is the expectation over its choices (0 to 100; A, B or tie) of their values:
    each choice's probability as the next tokens (after a space, where it is a token of its own), divided by that of
    all. A number that begins another one (8 of 87) has the probability that it does not continue as one.

    A prompt that is longer than the model reads loses the end of its responses, and the answer's details say so.

    Texts that spell a special token, such as <|endoftext|>, are read as its characters.

    Args:
        placement: that of `pretrained.place`.

    Raises:
        InputError: when the folder holds no causal language model with a tokenizer.
    """

    def __init__(self, name_or_path: str, **placement):
        resolve_device(placement.get("device", "auto"))  # before anything is downloaded
        folder = ModelFolder.resolve(name_or_path)
        self.name = str(name_or_path)
        self.model = _load(folder, self.name, **placement).eval()
        self.tokenizer = load_tokenizer(folder.path)
        self.beginning = beginning(self.tokenizer)
        self.special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self.limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        self.files = _hashes(folder.path)
        if folder.is_adapter:
            self.files |= {f"base/{name}": hash for name, hash in _hashes(folder.base_folder.path).items()}

    @property
    def identity(self) -> dict:
        """What an answer depends on besides the question; the folder's name is not part of it."""
        return {"kind": "in process", "files": self.files} | ({"dtype": "int8"} if is_int8(self.model) else {})

    def describe(self) -> dict:
        dtype = f"torch.{precision_name(self.model)}"
        return {**self.identity, "model": self.name, "device": str(self.model.device), "dtype": dtype}

    @property
    def known(self) -> dict:
        """What is found out while it answers: nothing."""
        return {}

    def resume(self, known: Mapping) -> None:
        """Takes over what a stopped run had found out: nothing."""

    def form(self, task: Task) -> str:
        return task.mode.as_text

    def answers(
        self, tasks: Mapping[str, Task], is_known_to_work: bool = True
    ) -> Iterator[tuple[str, Answer | NoAnswer]]:
        """
        Yields the answer to each task by the tasks' keys, those of like length together, or that there is none where
        the question alone is longer than the model reads.

        Raises:
            InputError: when all of them are.
        """
        if not tasks:
            return
        mode = next(iter(tasks.values())).mode
        before, after = self._frame(mode)
        extra, choices = self._choices(mode, after)
        room = self.limit - len(extra) - max(map(len, choices.values()))
        prompts, too_long = {}, {}
        for key, task in tasks.items():
            try:
                prompts[key] = self._encode(task, before, after, room)
            except NoAnswer as failure:
                too_long[key] = failure
        if not prompts and not is_known_to_work:
            raise InputError(f"The judge {self.name} {next(iter(too_long.values()))}.")
        yield from too_long.items()
        order = sorted(prompts, key=lambda key: len(prompts[key][0]))
        while order:
            longest = len(prompts[order[-1]][0])
            size = max(1, min(ROWS_PER_BATCH, TOKENS_PER_BATCH // longest))
            batch, order = order[-size:], order[:-size]  # the longest first: what does not fit in memory shows at once
            rows = [prompts[key][0] + extra for key in batch]
            probabilities = choice_probabilities(self.model, rows, choices, self.tokenizer.pad_token_id or 0)
            for key, row in zip(batch, probabilities.tolist()):
                yield key, self._answer(row, mode, truncated=prompts[key][1])

    def _answer(self, probabilities: list[float], mode: Mode, truncated: bool) -> Answer:
        mass = sum(probabilities)
        if not mass > 0:
            raise InputError(
                f"The judge {self.name} gives no answer any probability, so its weights are damaged; use another."
            )
        expectation = sum(p * value for p, value in zip(probabilities, mode.choices.values())) / mass
        likeliest = max(zip(probabilities, mode.choices))[1]
        return Answer(likeliest, expectation, {"probability_mass": mass, "truncated": truncated})

    def _frame(self, mode: Mode) -> tuple[str, str]:
        """What stands before a question and after it, up to the answer."""
        if self.tokenizer.chat_template is None:
            return "", f"\n\n{mode.cue}"
        try:
            text = render_template(self.tokenizer, [{"role": "user", "content": PLACE}], enable_thinking=False)
        except Exception as error:  # a template may raise anything
            raise InputError(
                f"The chat template of {self.name} cannot be used with a question alone ({one_line(error)}); use"
                " another judge."
            ) from None
        before, *after = text.split(PLACE)
        if len(after) != 1:
            raise InputError(f"The chat template of {self.name} changes the question; use another judge.")
        return before, after[0]

    def _tokens(self, text: str, split_special_tokens: bool = False) -> list[int]:
        options = {"add_special_tokens": False, "verbose": False, "split_special_tokens": split_special_tokens}
        return self.tokenizer(text, **options)["input_ids"]

    def _prompt(self, before: str, question: str, after: str) -> list[int]:
        # A chat template spells out the token that begins a text; elsewhere the tokenizer may add one.
        beginning = [] if self.tokenizer.chat_template else self.beginning
        if is_alpaca(self.tokenizer.chat_template):
            question = as_text(question)
        if any(token in question for token in self.special):
            within = self._tokens(question, split_special_tokens=True)
            return beginning + self._tokens(before) + within + self._tokens(after)
        return beginning + self._tokens(before + question + after)

    def _choices(self, mode: Mode, after: str) -> tuple[list[int], dict[str, tuple[int, ...]]]:
        """The tokens that follow every prompt, whatever the choice, and those of each choice after them."""
        prompt = self._tokens(after)
        space = "" if self.tokenizer.chat_template else " "
        rows = [self._tokens(f"{after}{space}{choice}") for choice in mode.choices]
        if any(row[: len(prompt)] != prompt for row in rows):
            raise InputError(
                f"The tokenizer of {self.name} merges an answer with the text before it; use another judge."
            )
        shared = len(prompt)
        while all(len(row) > shared + 1 for row in rows) and len({row[shared] for row in rows}) == 1:
            shared += 1
        choices = {choice: tuple(row[shared:]) for choice, row in zip(mode.choices, rows)}
        if len(set(choices.values())) < len(choices):
            raise InputError(f"The tokenizer of {self.name} encodes different numbers alike; use another judge.")
        return rows[0][len(prompt) : shared], choices

    def _encode(self, task: Task, before: str, after: str, room: int) -> tuple[list[int], bool]:
        """A task's prompt of at most `room` tokens, and whether its responses were cut; `NoAnswer` if that fails."""

        def encode(task: Task) -> list[int]:
            return self._prompt(before, task.message(self.form(task)), after)

        ids = encode(task)
        if len(ids) <= room:
            return ids, False
        shortest = encode(task.cut(0))
        if len(shortest) > room:
            raise NoAnswer(
                f"has a context of {self.limit} tokens, and the question {task.instruction[:60]!r} takes"
                f" {len(shortest)} without any response; use a judge with a longer context"
            )
        kept, too_many = 0, max(map(len, task.responses))
        while too_many - kept > 1:
            middle = (kept + too_many) // 2
            if len(encode(task.cut(middle))) <= room:
                kept = middle
            else:
                too_many = middle
        return encode(task.cut(kept)), True


def _hashes(folder: Path) -> dict[str, str]:
    paths = {path for pattern in IDENTITY_FILES for path in folder.glob(pattern)}
    return {path.name: sha256(path) for path in sorted(paths)}


def _load(folder: ModelFolder, name: str, **placement) -> PreTrainedModel:
    if folder.is_adapter or folder.is_native or folder.settings.get("model_type") == "gpt2":
        return load_placed(GPTScratchForCausalLM, folder, **placement)
    if found := code_of_the_hub(folder):
        named = ", ".join(sorted(found))
        raise InputError(f"{name} asks for code from the Hub ({named}), which is never run; use another judge.")
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder.path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # safetensors, torch and transformers each have their own for damaged files
        raise InputError(
            f"{name} cannot be loaded as a language model ({one_line(error)}); use another judge."
        ) from None
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise InputError(f"{name} is not a complete language model (it lacks {missing}); use another judge.")
    return place(model, folder, **placement)


@torch.inference_mode()
def choice_probabilities(
    model: PreTrainedModel, prompts: list[list[int]], choices: Mapping[str, tuple[int, ...]], pad_token_id: int
) -> torch.Tensor:
    """
    The probability of each choice as the next tokens after each prompt, `(B, number of choices)`.

    A choice that begins another one gets what is left of its probability after those; no two have the same tokens.
    The prompt is read once: each beginning that choices share is one step more on a copy of its keys and values.
    """
    ids, mask = _left_padded(prompts, pad_token_id, model.device)
    numbers = {tokens: number for number, tokens in enumerate(choices.values())}
    beginnings = {tokens[:length] for tokens in numbers for length in range(len(tokens))}
    found = torch.zeros(len(prompts), len(choices), dtype=torch.float64)

    def walk(path: tuple[int, ...], reached: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, cache) -> None:
        """Fills in the choices that begin with `path`, which has the probability `reached`, `(B,)`."""
        following, cache = _next_probabilities(model, ids, mask, cache)
        following = following * reached[:, None]  # (B, V)
        continued = torch.zeros_like(reached)
        for token in sorted(
            {tokens[len(path)] for tokens in numbers if tokens != path and tokens[: len(path)] == path}
        ):
            longer, probability = (*path, token), following[:, token]
            continued += probability
            if longer in beginnings:
                step = torch.full((len(prompts), 1), token, device=ids.device)
                longer_mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
                walk(longer, probability, step, longer_mask, copy.deepcopy(cache))
            else:
                found[:, numbers[longer]] = probability
        if path in numbers:
            found[:, numbers[path]] = (reached - continued).clamp(min=0)

    walk((), found.new_ones(len(prompts)), ids, mask, None)
    return found


def _left_padded(prompts: list[list[int]], pad_token_id: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """The token ids and the attention mask, `(B, T)` each."""
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[pad_token_id] * pad + prompt for pad, prompt in zip(padding, prompts)], device=device)
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding], device=device)
    return ids, mask


def _next_probabilities(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, cache) -> tuple:
    """
    The probabilities of the next token, `(B, V)` on the CPU, as MPS has no float64, after the cache and the new tokens
    `ids`; and the new cache.
    """
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    outputs = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return outputs.logits[:, -1].cpu().double().softmax(-1), outputs.past_key_values
