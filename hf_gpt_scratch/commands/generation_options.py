"""What the commands that write text share: how tokens are chosen, and the model that writes them."""

import argparse
import sys

from ..utils.constants import SAMPLING_SETTINGS
from ..utils.terminal import quieten_transformers
from .arguments import above_0, add_device_options, at_least_0, count, placement, positive, probability

SAVED = "default: the model's saved setting"


def add_sampling(parser: argparse.ArgumentParser, max_new_tokens: int, temperature: float) -> None:
    """The options of sampling; the arguments are the defaults where the model was saved without that setting."""
    parser.add_argument(
        "--max-new-tokens",
        type=positive,
        metavar="N",
        help=f"maximum number of new tokens ({SAVED}, or {max_new_tokens})",
    )
    parser.add_argument(
        "--temperature",
        type=at_least_0,
        metavar="T",
        help=f"sampling temperature; 0 is greedy ({SAVED}, or {temperature:g})",
    )
    parser.add_argument(
        "--top-k",
        type=count,
        metavar="K",
        help=f"top-k sampling: from the K most likely tokens; 0 is all of them ({SAVED}, or 0)",
    )
    parser.add_argument(
        "--top-p",
        type=probability,
        metavar="P",
        help=f"nucleus sampling: from the fewest tokens whose probabilities add up to P ({SAVED}, or 1)",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=above_0,
        metavar="R",
        help=f"above 1 makes tokens that occurred before less likely ({SAVED}, or 1)",
    )
    parser.add_argument("--seed", type=int, help="random seed; the same seed gives the same text")
    add_device_options(parser)
    parser.set_defaults(default_temperature=temperature)


def language_model(args: argparse.Namespace, adapters=None) -> tuple:
    """
    The model and the tokenizer of `args.dir`, or of the `AdapterSet` on it, and the settings of `add_sampling` that
    are given; sets the seed.
    """
    import torch

    from ..generation.sampling import sampling_settings
    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_with_tokenizer

    quieten_transformers()
    if adapters:
        model, tokenizer = adapters.model, adapters.switch(adapters.names[0])
    else:
        model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, args.dir, **placement(args))
    if args.seed is not None:
        torch.manual_seed(args.seed)
    given = {name: getattr(args, name) for name in SAMPLING_SETTINGS}
    idle = [option for option, acts in (("--top-k", args.top_k), ("--top-p", (args.top_p or 1) < 1)) if acts]
    if idle and sampling_settings(model, given, temperature=args.default_temperature)["temperature"] == 0:
        verb = "has" if len(idle) == 1 else "have"
        print(f"note: {' and '.join(idle)} {verb} no effect at temperature 0; add --temperature 0.8.", file=sys.stderr)
    return model, tokenizer, {name: value for name, value in given.items() if value is not None}
