"""
Answers the requests to an Inference Endpoint of this repository. The endpoint's container imports this file, makes an
`EndpointHandler` of the repository's folder, and calls it with the JSON of each request. Read it from top to bottom:

    EndpointHandler    takes a request: {"inputs": ..., "parameters": {...}}
    Writer             a language model's answers: to a text, or to a conversation
    Classifier         a classifier's answers: labels with probabilities, after each word if asked
    read_model         the weights as transformers' own GPT-2

The container's transformers (4.51) is too old for the model's own code, so none of that is run: the weights are those
of a GPT-2 under other names, and go into transformers' own, which every version has. `pipeline_gpt_scratch.py`, beside
this file, turns a classifier's scores into probabilities and labels; it runs on old versions too.
"""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPT2PreTrainedModel,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
)


class EndpointHandler:
    """
    Args:
        path: the folder of the repository: of a model, or of a LoRA adapter, whose base model then is downloaded.
    """

    def __init__(self, path: str = ""):
        self.model = read_model(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = self.model.eval().to(device), read_tokenizer(path)
        self.answer = Writer(model, tokenizer, path) if model.can_generate() else Classifier(model, tokenizer, path)

    def __call__(self, data: dict) -> list:
        """
        The answer to a request, as JSON has it: in the form of transformers' pipeline for the task.

        Args:
            data: `inputs`, a text, a conversation (a list of messages with `role` and `content`), or a list of either;
                and maybe `parameters`, those of `Writer` or `Classifier`.

        Raises:
            ValueError: with a sentence on what is wrong with the request, which the container sends back (status 400).
        """
        inputs, parameters = data.get("inputs"), data.get("parameters") or {}
        if data.get("stream"):
            raise ValueError("This endpoint sends whole answers: omit stream.")
        if not isinstance(parameters, dict):
            raise ValueError("parameters must be an object, such as {}.")
        if unknown := parameters.keys() - self.answer.PARAMETERS:
            known = ", ".join(self.answer.PARAMETERS)
            raise ValueError(f"Unknown parameters: {', '.join(sorted(unknown))}; expected some of {known}.")
        parameters = {name: value for name, value in parameters.items() if value is not None}
        one = isinstance(inputs, str) or is_conversation(inputs)
        if not one and not (isinstance(inputs, list) and inputs):
            raise ValueError("inputs must be a text, a conversation, or a list of either that is not empty.")
        return self.answer(inputs, **parameters) if one else self.answer.each(inputs, **parameters)


def is_conversation(inputs) -> bool:
    return isinstance(inputs, list) and bool(inputs) and all(isinstance(message, dict) for message in inputs)


def require_text(text) -> None:
    """Raises `ValueError` for what is no text, or has halves of characters, as JSON can spell them."""
    if not isinstance(text, str) or re.search("[\ud800-\udfff]", text):
        raise ValueError(f"Expected a text, not {ascii(text)[:60]}.")


class Writer:
    """
    What a language model writes after a text, or answers to a conversation. Parameters:

        max_new_tokens, do_sample, temperature, top_k, top_p, repetition_penalty
                            as for `generate` of transformers; by default those of generation_config.json, or else the
                            most likely token each time, 256 times at most; temperature 0 is that too
        seed                the same seed writes the same text
        stop                a text, or several, at which the answer ends
        return_full_text    false: only what was written, without the text or the conversation before it
    """

    SAVED = ("max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
    PARAMETERS = (*SAVED, "seed", "stop", "return_full_text")

    def __init__(self, model, tokenizer, path: str):
        self.model, self.tokenizer = model, tokenizer
        saved = read_json(path, "generation_config.json")
        self.settings = {"max_new_tokens": 256}
        self.settings |= {name: saved[name] for name in self.SAVED if saved.get(name) is not None}
        ends = saved.get("eos_token_id", model.config.eos_token_id)
        ends = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self.ends = sorted({token for token in ends if token is not None and token < model.config.vocab_size})

    def each(self, inputs: list, **parameters) -> list:
        return [self(one, **parameters) for one in inputs]

    def __call__(self, inputs: str | list, return_full_text: bool = True, **parameters) -> list:
        if not is_conversation(inputs):
            wrote = self.write(self.text_ids(inputs), **parameters)
            return [{"generated_text": inputs + wrote if return_full_text else wrote}]
        wrote = self.write(self.chat_ids(inputs), **parameters)
        answer = {"role": "assistant", "content": wrote}
        return [{"generated_text": [*inputs, answer] if return_full_text else wrote}]

    def write(self, ids: list[int], seed: int | None = None, stop: str | list = (), **given) -> str:
        """What the model writes after these tokens."""
        settings, limit = {**self.settings, **given}, self.model.config.n_positions
        wanted = settings.pop("max_new_tokens")
        if not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"max_new_tokens must be a whole number of at least 1, not {wanted!r}.")
        if len(ids) >= limit:
            raise ValueError(f"The text has {len(ids)} tokens; the model reads at most {limit}, its answer included.")
        if given.keys() & {"temperature", "top_k", "top_p"}:
            settings["do_sample"] = given.get("do_sample", True)
        if settings.get("temperature") == 0 or not settings.get("do_sample"):
            settings = {"do_sample": False, "repetition_penalty": settings.get("repetition_penalty", 1.0)}
        if seed is not None:
            torch.manual_seed(seed)
        stops = [one for one in ([stop] if isinstance(stop, str) else stop) if one]
        for text in stops:
            require_text(text)

        def text_of(written: torch.Tensor) -> str:
            return self.tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)

        def is_stopped(written: torch.Tensor, scores, **_) -> torch.Tensor:
            found = bool(stops) and any(one in text_of(written) for one in stops)
            return torch.tensor([found], device=written.device)

        prompt = torch.tensor([ids], device=self.model.device)  # (1, T)
        settings |= {"max_new_tokens": min(wanted, limit - len(ids)), "eos_token_id": self.ends or None}
        settings |= {"pad_token_id": self.ends[0] if self.ends else 0}
        with torch.inference_mode():
            criteria = StoppingCriteriaList([is_stopped])
            mask = torch.ones_like(prompt)
            text = text_of(self.model.generate(prompt, attention_mask=mask, stopping_criteria=criteria, **settings))
        return text[: min((text.find(one) for one in stops if one in text), default=len(text))]

    def text_ids(self, text: str) -> list[int]:
        """The tokens of a text to continue, after a BOS token where the tokenizer puts one, or the text is empty."""
        require_text(text)
        bos = [self.tokenizer.bos_token_id]
        begins = bos if self.tokenizer("")["input_ids"][:1] == bos else []
        ids = begins + self.tokenizer(text, add_special_tokens=False)["input_ids"] or bos
        if ids == [None]:
            raise ValueError("The text is empty.")
        return ids

    def chat_ids(self, messages: list[dict]) -> list[int]:
        """
        The tokens of a conversation up to where its next answer begins. The special tokens that the chat template
        writes are tokens; those that are spelled in a message are its characters.
        """
        if self.tokenizer.chat_template is None:
            raise ValueError("This model has no chat template: send a text in place of messages.")
        for message in messages:
            require_text(message.get("content"))
            if message.get("role") not in ("system", "user", "assistant"):
                raise ValueError("The role of a message must be system, user or assistant.")
        if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
            raise ValueError("The last message must be one of the user, and not empty.")
        special = sorted(self.tokenizer.all_special_tokens, key=len, reverse=True)
        written = "".join(message["content"] for message in messages)
        free = (character for character in map(chr, range(0xE000, 0xF8FF)) if character not in written)
        hidden = dict(zip(special, free))  # each spelled special token as one character that nobody uses

        def hide(text: str) -> str:
            for token, character in hidden.items():
                text = text.replace(token, character)
            return text

        messages = [{**message, "content": hide(message["content"])} for message in messages]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = []
        for piece in re.split(f"({'|'.join(map(re.escape, special))})", rendered) if special else [rendered]:
            if piece in special:
                ids.append(self.tokenizer.convert_tokens_to_ids(piece))
                continue
            for token, character in hidden.items():
                piece = piece.replace(character, token)
            ids += self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids


class Classifier:
    """
    The label of a text and its probability, by the calibration and the thresholds in config.json. Parameters:

        top_k        the probabilities of that many labels, in place of what is said of the text
        words        true: also what is said after each word
        decide_at    such as 0.99: also after how many words the verdict is as good as final
        function_to_apply    "none", "softmax" or "sigmoid" in place of the calibration
    """

    PARAMETERS = ("top_k", "words", "decide_at", "function_to_apply")

    def __init__(self, model, tokenizer, path: str):
        sys.path.insert(0, str(path))
        from pipeline_gpt_scratch import GPTScratchTextClassificationPipeline

        task = {"task": "text-classification", "device": model.device}
        self.pipeline = GPTScratchTextClassificationPipeline(model=model, tokenizer=tokenizer, **task)

    def each(self, inputs: list, **parameters) -> list:
        for text in inputs:
            require_text(text)
            if not text.strip():
                raise ValueError("A text is empty.")
        return self.pipeline(inputs, **parameters)

    def __call__(self, inputs: str, **parameters) -> list:
        return self.each([inputs], **parameters)


class ScoredGPT2(GPT2PreTrainedModel):
    """GPT-2 with a classifier's head. It gives the scores after every token, which the pipeline reads."""

    def __init__(self, config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.score = torch.nn.Linear(config.n_embd, config.num_labels, bias=config.classifier_bias)
        self.post_init()

    def forward(self, input_ids, attention_mask, **_):
        hidden = self.transformer(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return SimpleNamespace(token_logits=self.score(hidden))  # (B, T, C) -> (B, T, labels)


def read_tokenizer(path: str):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    template = Path(path, "chat_template.jinja")
    if template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def read_json(path: str, name: str) -> dict:
    file = Path(path, name)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def read_weights(path: str, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """The tensors of a folder, in one file or in several that an index lists, in fp32."""
    index = read_json(path, f"{name}.index.json")
    files = sorted(set(index["weight_map"].values())) if index else [name]
    if outside := [file for file in files if Path(file).name != file]:
        raise ValueError(f"{name}.index.json points outside its folder, to {outside[0]}.")
    return {key: tensor.float() for file in files for key, tensor in load_file(Path(path, file)).items()}


def read_model(path: str) -> torch.nn.Module:
    """
    The model in a folder as GPT-2: `GPT2LMHeadModel`, or `ScoredGPT2` of a classifier.

    Raises:
        ValueError: for weights that are not those of such a model.
    """
    adapter, folder = read_json(path, "adapter_config.json"), path
    if adapter:
        folder = adapter["base_model_name_or_path"]
        folder = (
            folder if Path(folder).is_dir() else snapshot_download(folder, allow_patterns=["*.json", "*.safetensors"])
        )
    settings, tensors = read_json(folder, "config.json"), read_weights(folder)
    is_classifier = "SequenceClassification" in settings["architectures"][0]
    if adapter:
        tensors = with_adapter(tensors, path, adapter)
        is_classifier = adapter["task_type"] == "SEQ_CLS"
        if is_classifier and len(settings.get("id2label", {0: 0, 1: 1})) != len(tensors["score.weight"]):
            settings["id2label"] = {number: f"LABEL_{number}" for number in range(len(tensors["score.weight"]))}
    for name in ("architectures", "auto_map", "custom_pipelines", "model_type", "dtype", "label2id"):
        settings.pop(name, None)
    # "eager" heeds all of GPT-2's settings in every version.
    config = GPT2Config(**{"classifier_bias": False, **settings}, attn_implementation="eager")
    model = ScoredGPT2(config) if is_classifier else GPT2LMHeadModel(config)
    missing, unexpected = model.load_state_dict(as_gpt2(tensors), strict=False)
    zeros = () if config.qkv_bias else ("attn.c_attn.bias",)  # GPT-2 has them, this model not
    tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
    if lacking := [name for name in missing if not name.endswith((*zeros, *tied))] + unexpected:
        raise ValueError(f"The weights do not fit GPT-2: {', '.join(lacking[:5])}.")
    model.tie_weights()
    return model


def as_gpt2(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as GPT-2 has them: query, key and value are one, and linear layers are kept as (in, out)."""
    theirs = {}
    for name, tensor in tensors.items():
        block, is_query, kind = name.partition(".attn.q_proj.")
        if is_query:
            name = f"{block}.attn.c_attn.{kind}"
            tensor = torch.cat([tensors[f"{block}.attn.{one}_proj.{kind}"] for one in "qkv"])
        elif ".attn.k_proj." in name or ".attn.v_proj." in name:
            continue
        for ours, other in (("attn.o_proj", "attn.c_proj"), ("mlp.fc_in", "mlp.c_fc"), ("mlp.fc_out", "mlp.c_proj")):
            name = name.replace(ours, other)
        theirs[name] = tensor.t() if ".h." in name and tensor.ndim == 2 else tensor
    return theirs


def with_adapter(tensors: dict[str, torch.Tensor], path: str, settings: dict) -> dict[str, torch.Tensor]:
    """A base model's tensors with a LoRA adapter's added: W + B A alpha / r (Hu et al. 2021)."""
    scale = settings["lora_alpha"] / (settings["r"] ** 0.5 if settings.get("use_rslora") else settings["r"])
    adapter, merged = read_weights(path, "adapter_model.safetensors"), dict(tensors)
    for key, tensor in adapter.items():
        name, is_lora, _ = key.removeprefix("base_model.model.").partition(".lora_A.")
        if is_lora:
            merged[f"{name}.weight"] = tensors[f"{name}.weight"] + scale * adapter[key.replace("_A.", "_B.")] @ tensor
        elif ".lora_B." not in key:  # a head that was trained whole
            merged[name] = tensor
    return merged
