"""What the commands that write text share: how tokens are chosen, and the model that is asked for them."""

import argparse

from ..utils.terminal import quieten_transformers
from .arguments import above_0, add_device_options, at_least_0, count, placement, positive, probability


def add_sampling(parser: argparse.ArgumentParser, max_new_tokens: int, temperature: float) -> None:
    parser.add_argument(
        "--max-new-tokens",
        type=positive,
        default=max_new_tokens,
        help=f"maximum length of the text in tokens, prompt not counted (default: {max_new_tokens})",
    )
    parser.add_argument(
        "--temperature",
        type=at_least_0,
        default=temperature,
        help=f"sampling temperature; 0 is greedy: always the likeliest token (default: {temperature:g})",
    )
    parser.add_argument(
        "--top-k", type=count, help="top-k sampling: among the K likeliest tokens (default: 0, all)", metavar="K"
    )
    parser.add_argument(
        "--top-p",
        type=probability,
        metavar="P",
        help="nucleus sampling: among the fewest tokens whose probabilities add up to P (default: 1, all)",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=above_0,
        help="above 1, tokens seen before get less likely (default: what the model was saved with, or 1)",
    )
    parser.add_argument("--seed", type=int, help="random seed, for the same text again")
    add_device_options(parser)


def language_model(args: argparse.Namespace) -> tuple:
    """The model and the tokenizer of `args.dir`, and the settings of `add_sampling`, with the seed set."""
    import torch

    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_with_tokenizer

    quieten_transformers()
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, args.dir, **placement(args))
    if args.seed is not None:
        torch.manual_seed(args.seed)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
    sampling = {name: getattr(args, name) for name in names}
    if args.repetition_penalty is None:
        sampling["repetition_penalty"] = model.generation_config.repetition_penalty or 1.0
    return model, tokenizer, sampling
