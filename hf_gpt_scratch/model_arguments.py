"""The settings of the training scripts that say which model and which tokenizer, and the making of both."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from .configuration_gpt_scratch import GPTScratchConfig
from .errors import InputError, UsageError
from .modeling_gpt_scratch import GPTScratchPreTrainedModel
from .pretrained import load_pretrained
from .tokenizer import is_missing_folder, load_tokenizer, train_tokenizer


@dataclass
class ModelArguments:
    """Pretrained weights with their tokenizer, or random ones of a shape."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model folder or Hub repository to start from, also a stock GPT-2."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "A folder or Hub repository with a tokenizer, if not the model's."}
    )
    train_tokenizer: int | None = field(
        default=None, metadata={"help": "Train a tokenizer of so many tokens on the training texts."}
    )
    individual_digits: bool = field(default=False, metadata={"help": "Make every digit a token, in that tokenizer."})
    n_positions: int = field(default=256, metadata={"help": "Tokens the model reads at once, for random weights."})
    n_embd: int = field(default=128, metadata={"help": "Width of the model, for random weights."})
    n_layer: int = field(default=4, metadata={"help": "Blocks of the model, for random weights."})
    n_head: int = field(default=4, metadata={"help": "Attention heads of the model, for random weights."})
    dropout: float = field(default=0.1, metadata={"help": "All dropout probabilities of the model."})

    def make_tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """
        The tokenizer: trained on `texts`, or the one named, or the model's.

        Raises:
            InputError: when it cannot be read, or has no end token.
            UsageError: when the settings name none, or two.
        """
        source = self.tokenizer_name or self.model_name_or_path
        if self.train_tokenizer and source:
            raise UsageError("--train_tokenizer is for random weights and no --tokenizer_name: leave it out.")
        if self.train_tokenizer:
            return train_tokenizer(texts, self.train_tokenizer, self.individual_digits, self.n_positions)
        if source is None:
            raise UsageError("Give --model_name_or_path, or for random weights --tokenizer_name or --train_tokenizer.")
        for option in ("tokenizer_name", "model_name_or_path"):
            if is_missing_folder(value := getattr(self, option) or ""):
                raise InputError(f"There is no folder {value}; make it, or name another by --{option}.")
        tokenizer = load_tokenizer(source)
        if tokenizer.eos_token_id is None:
            raise InputError(f"The tokenizer of {source} has no end token, which texts have to end with.")
        return tokenizer

    def make_model(
        self,
        model_class: type[GPTScratchPreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        new_head: bool = False,
        quantization=None,
        **config_settings,
    ) -> GPTScratchPreTrainedModel:
        """
        The model, from pretrained or random weights; the arguments are those of `pretrained.load_model`.

        Raises:
            InputError: when pretrained weights cannot be loaded.
            UsageError: when the shape is none of a model, or the tokenizer does not fit it.
        """
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), self.dropout)
        settings = {"pad_token_id": tokenizer.pad_token_id, **dropouts, **config_settings}
        if self.model_name_or_path:
            model = load_pretrained(model_class, self.model_name_or_path, new_head, quantization, **settings)
            if len(tokenizer) > model.config.vocab_size:
                raise UsageError(
                    f"The tokenizer has {len(tokenizer)} tokens, more than the model ({model.config.vocab_size});"
                    " leave out --tokenizer_name."
                )
            return model
        shape = {name: getattr(self, name) for name in ("n_positions", "n_embd", "n_layer", "n_head")}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        try:
            config = GPTScratchConfig(vocab_size=len(tokenizer), **shape, **{**ends, **settings})
        except ValueError as error:
            raise UsageError(str(error)) from None
        return model_class(config)
