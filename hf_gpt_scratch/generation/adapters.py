"""Several LoRA adapters of one base model, of which one at a time answers: the base is in memory once."""

import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..adapters import require_peft, require_plain
from ..model_folder import reference_logits
from ..model_folder.contents import ModelFolder, has_tokenizer
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_pretrained, place
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError, one_line
from ..utils.special_tokens import learn_to_end


class AdapterSet:
    """
    A language model with several LoRA adapters, which `use` switches with PEFT's `set_adapter`.

    Args:
        base: the folder or Hub repository of the model that all of them were trained on.
        adapters: their folders or Hub repositories, by the names to call them.
        placement: as for `pretrained.place`.

    Attributes:
        model: the model; which adapter it answers with is the `active` one.
        names: those of the adapters, in order; the first is active at first.
        folders: the folder of each, by its name.

    Raises:
        InputError: when PEFT is missing; for an adapter that is none, does not fit the base model, or was trained on
            another one: by the logits recorded when it was saved, or else by the name of its base.
    """

    def __init__(self, base: str | os.PathLike, adapters: Mapping[str, str | os.PathLike], **placement):
        require_peft()
        folder = ModelFolder.resolve(base)
        if folder.is_adapter:
            raise InputError(f"{base} is an adapter itself; give the base model of all adapters first: {folder.base}.")
        self.names, self.folders = list(adapters), {}
        self.model = load_pretrained(GPTScratchForCausalLM, folder).eval()
        self.model.name_or_path = str(base)
        self._settings, self._ends = deepcopy(self.model.generation_config), self.model.config.eos_token_id
        own = load_tokenizer(folder.path) if has_tokenizer(folder.path) else None
        self._peft, self._tokenizers, self._lock = None, {}, threading.Lock()  # which any thread may release
        for name, source in adapters.items():
            adapter = self.folders[name] = self._resolve(name, source)
            self._add(name, adapter, str(base))
            if own is None or has_tokenizer(adapter.path):
                self._tokenizers[name] = load_tokenizer(adapter.path)
            else:
                self._tokenizers[name] = own
            self._activate(name)
            self._require_base(name, adapter, folder, base)
        place(self.model, folder, **placement)
        self._activate(self.names[0])

    @contextmanager
    def use(self, name: str) -> Iterator[PreTrainedTokenizerBase]:
        """
        The model answers with the adapter of that name, whose tokenizer this yields; nobody switches it meanwhile.

        Raises:
            InputError: when there is none of that name.
        """
        if name not in self.names:
            raise InputError(f"There is no adapter {name!r}; there are {', '.join(self.names)}.")
        with self._lock:
            if name != self.active:
                self._activate(name)
            yield self._tokenizers[name]

    def switch(self, name: str) -> PreTrainedTokenizerBase:
        """The model answers with that adapter from here on; returns its tokenizer, and raises as `use`."""
        with self.use(name) as tokenizer:
            return tokenizer

    @staticmethod
    def _resolve(name: str, source: str | os.PathLike) -> ModelFolder:
        folder = ModelFolder.resolve(source)
        if not folder.is_adapter:
            raise InputError(f"{name}={source} is a whole model, not a LoRA adapter; chat with it alone.")
        if folder.architecture != GPTScratchForCausalLM.__name__:
            raise InputError(f"The adapter {name} ({source}) is of a classifier, which does not write text.")
        return folder

    def _add(self, name: str, adapter: ModelFolder, base: str) -> None:
        from peft import PeftModel

        require_plain(adapter.path)
        key = f"adapter_{self.names.index(name)}"  # PEFT takes no dots in a name
        try:
            with warnings.catch_warnings(action="ignore"):  # about tied matrices; what differs is found by the logits
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(self.model, str(adapter), adapter_name=key)
                else:
                    self._peft.load_adapter(str(adapter), adapter_name=key)
        except Exception as error:  # PEFT's, safetensors' and torch's own
            raise InputError(
                f"The adapter {name} ({adapter}) does not fit {base} ({one_line(error)[:200]}): it was trained on"
                f" {adapter.base}."
            ) from None

    def _activate(self, name: str) -> None:
        self._peft.set_adapter(f"adapter_{self.names.index(name)}")
        self.active, folder = name, self.folders[name].path
        settings, self.model.config.eos_token_id = self._settings, self._ends
        if (folder / "generation_config.json").is_file():
            settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        self.model.generation_config = deepcopy(settings)
        learn_to_end(self.model, self._tokenizers[name])

    def _require_base(self, name: str, adapter: ModelFolder, base: ModelFolder, given: str | os.PathLike) -> None:
        """Raises `InputError` unless the active adapter was trained on this base model."""
        record = reference_logits.read(adapter.path)
        if record:
            ids, expected = torch.tensor(record["input_ids"]), torch.tensor(record["logits"])
            is_its_base = ids.max() < self.model.config.vocab_size and ids.shape[1] <= self.model.config.n_positions
            if is_its_base:
                with torch.no_grad():
                    found = self.model(ids, use_cache=False).logits[:, -1, record["columns"]]
                limit = 10 * reference_logits.TOLERANCE * max(1.0, expected.abs().max().item())
                is_its_base = (found - expected).abs().max().item() <= limit
        else:
            is_its_base = adapter.base == str(given) or Path(adapter.base).resolve() == base.path.resolve()
        if not is_its_base:
            raise InputError(
                f"The adapter {name} ({adapter}) was trained on {adapter.base}, and {given} is another model, or has"
                " changed since: give its own base model, or train the adapter on this one."
            )
