"""How a converted model writes: its generation config, and special tokens on which all of its files agree."""

from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError, one_line
from ..utils.files import read_json_object
from ..utils.special_tokens import as_setting, end_token_ids, token_ids

FILE = "generation_config.json"
# Settings that only sampling, or only beam search, uses: beside another way of writing, transformers cannot save them.
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
OF_BEAMS = ("early_stopping", "length_penalty")
NOT_OF_WRITING = ("use_cache", "return_dict_in_generate", "transformers_version")


def generation_config(folder: Path | None, config: GPTScratchConfig) -> GenerationConfig:
    """
    That of the folder; where it has none, one of the settings that older folders keep in config.json, as transformers
    reads them, and of the configuration's special tokens.

    Raises:
        InputError: when the folder's cannot be read, or the settings fail.
    """
    special = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    path = None if folder is None else folder / FILE
    if path is not None and path.is_file():
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # a damaged file raises nearly anything
            raise InputError(f"{path} cannot be read ({one_line(error)}).") from None
    older = {}
    if folder is not None and (folder / "config.json").is_file():
        known = GenerationConfig().to_dict().keys() - {*special, *NOT_OF_WRITING}
        settings = read_json_object(folder / "config.json")
        older = {name: settings[name] for name in known & settings.keys() if not name.startswith("output_")}
    try:
        return GenerationConfig(**special, **{name: value for name, value in older.items() if value is not None})
    except Exception as error:
        where = "The configuration" if folder is None else folder / "config.json"
        raise InputError(f"{where} has settings of generation that fail ({one_line(error)}).") from None


def settle(
    config: GPTScratchConfig, generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase | None, is_stated: bool
) -> list[str]:
    """
    Makes the configuration, the generation config and the tokenizer agree on the special tokens, and drops generation
    settings without effect; changes the first two in place.

    Args:
        is_stated: whether the source says itself which tokens those of `config` are; else they are a default, and no
            contradiction.

    Returns:
        A sentence for each setting that contradicted another one or was filled in.
    """
    notes = []
    _keep_pad(config, generation, tokenizer)
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        if name == "eos_token_id":
            chosen = end_token_ids(config, generation, tokenizer)
        else:
            chosen = _one_of(name, config, generation, tokenizer)
        if is_stated and (note := _note(name, chosen, config, generation)):
            notes.append(note)
        setattr(config, name, as_setting(chosen))
        setattr(generation, name, as_setting(chosen))
    return [*notes, *_drop_inert(generation)]


def _keep_pad(config, generation, tokenizer) -> None:
    """Padding of its own stays where the tokenizer lacks it, and has got the EOS token for it."""
    if tokenizer is None or tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    added = tokenizer.added_tokens_decoder
    for token in (*token_ids(generation.pad_token_id), *token_ids(config.pad_token_id)):
        if token in added and added[token].special:
            tokenizer.pad_token = added[token].content
            return


def _one_of(name: str, config, generation, tokenizer) -> list[int]:
    """The tokenizer's, as that is what stands in texts; else the generation config's, else the configuration's."""
    for one in (tokenizer, generation, config):
        if found := [token for token in token_ids(getattr(one, name, None)) if 0 <= token < config.vocab_size]:
            return found
    return []


def _note(name: str, chosen: list[int], config, generation) -> str | None:
    """What is said of a setting; nothing where both files had it so, or one had it and the other did not say."""
    held = {"config.json": token_ids(getattr(config, name)), FILE: token_ids(getattr(generation, name))}
    others = {file: ids for file, ids in held.items() if ids and set(ids) != set(chosen)}
    if others.get(FILE) == others.get("config.json"):
        others.pop(FILE, None)  # which may not be there, and then says what config.json says
    if others:
        found = " and ".join(f"{as_setting(ids)} in {file}" for file, ids in others.items())
        return f"{name} was {found}; it is {_named(chosen)} now, in all files."
    if chosen and not any(held.values()) and name == "eos_token_id":
        return f"{name} was in no file; it is {_named(chosen)} now, the tokenizer's."
    return None


def _named(ids: list[int]) -> str:
    return "none" if not ids else str(as_setting(ids))


def _drop_inert(generation: GenerationConfig) -> list[str]:
    """Drops settings that another one makes ineffective, which transformers would refuse to save; says which."""
    notes, default = [], GenerationConfig()
    reasons = {
        "without do_sample": OF_SAMPLING if generation.do_sample is not True else (),
        "without beams": OF_BEAMS if generation.num_beams in (None, 1) else (),
    }
    for reason, names in reasons.items():
        dropped = {name: getattr(generation, name) for name in names if getattr(generation, name) is not None}
        for name in dropped:
            setattr(generation, name, getattr(default, name))
        if dropped:
            said = ", ".join(f"{name} {value}" for name, value in dropped.items())
            notes.append(f"{said}: no effect {reason}, so dropped from {FILE}.")
    return notes
