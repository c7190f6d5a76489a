"""What the commands that write text share: how tokens are chosen, and the model that is asked for them."""

import argparse

from ..utils.terminal import quieten_transformers
from .arguments import above_0, at_least_0, count, positive, probability


def add_sampling(parser: argparse.ArgumentParser, max_new_tokens: int, temperature: float) -> None:
    parser.add_argument("--max-new-tokens", type=positive, default=max_new_tokens, help=f"default: {max_new_tokens}")
    parser.add_argument(
        "--temperature",
        type=at_least_0,
        default=temperature,
        help=f"below 1 bolder choices are rarer, 0 allows none (default: {temperature:g})",
    )
    parser.add_argument("--top-k", type=count, help="choose among the so many likeliest tokens (default: 0, all)")
    parser.add_argument("--top-p", type=probability, help="choose among the fewest tokens of this probability")
    parser.add_argument(
        "--repetition-penalty",
        type=above_0,
        help="above 1, tokens seen before are less likely (default: what the model was saved with, or 1)",
    )
    parser.add_argument("--seed", type=int, help="for the same text again")


def language_model(args: argparse.Namespace) -> tuple:
    """The model and the tokenizer of `args.dir`, and the settings of `add_sampling`, with the seed set."""
    import torch

    from ..model_folder.contents import resolve_source
    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_pretrained
    from ..tokenizer import load_tokenizer

    quieten_transformers()
    folder = str(resolve_source(args.dir))
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, folder), load_tokenizer(folder)
    if args.seed is not None:
        torch.manual_seed(args.seed)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
    sampling = {name: getattr(args, name) for name in names}
    if args.repetition_penalty is None:
        sampling["repetition_penalty"] = model.generation_config.repetition_penalty or 1.0
    return model, tokenizer, sampling
