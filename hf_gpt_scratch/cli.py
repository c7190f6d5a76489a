"""The command `hf-gpt-scratch`: parses, and calls the module that does the work."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from itertools import chain

from .argument_types import above_0, at_least_0, count, positive, probability

RED, GREEN, RESET = "\033[31m", "\033[32m", "\033[0m"


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, whose options may stand anywhere: `classify DIR --stream TEXT` too."""

    _intermixing = False

    def parse_known_args(self, args=None, namespace=None):
        if self._intermixing or self._subparsers:  # a command that has commands of its own cannot intermix
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)  # calls the above
        finally:
            self._intermixing = False


def make_parser() -> argparse.ArgumentParser:
    from .apps import chat as chat_page
    from .apps import compare
    from .apps import spam as spam_page
    from .conversion.download import SIZES
    from .conversion.formats import FORMATS
    from .evaluation import judge
    from .hub import check, push

    parser = argparse.ArgumentParser(
        prog="hf-gpt-scratch", description="A GPT written from scratch, for Hugging Face."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('hf_gpt_scratch')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)

    convert = commands.add_parser("convert", help="make a model of this package from another GPT-2")
    convert.add_argument("src", metavar="SRC", help="a file, a folder, or a Hub repository like openai-community/gpt2")
    convert.add_argument("out", metavar="OUT", help="the folder to make")
    formats = ["auto", *FORMATS]
    convert.add_argument("--from", dest="format", choices=formats, default="auto", help="SRC's format (default: auto)")
    convert.add_argument(
        "--tokenizer", metavar="PATH", help="the tokenizer to put beside it: a folder, repository or none"
    )
    convert.add_argument("--n-head", type=positive, help="attention heads, where the file cannot tell")
    convert.add_argument("--lora-scale", type=float, help="what LoRA's A @ B is multiplied by, in the book alpha")
    convert.add_argument("--labels", help="the classes of a classifier of the book, such as ham,spam")
    convert.add_argument("--activation", choices=["gelu", "gelu_new"], help="nanoGPT's, before July 2023 gelu_new")
    convert.add_argument("--size", choices=SIZES, help="first download OpenAI's GPT-2 of this size into SRC")
    convert.add_argument("--vocab-size", type=positive, help="cut a vocabulary that was rounded up to this")
    convert.set_defaults(run=run_convert)

    export = commands.add_parser("export", help="write a model of this package in another format")
    export.add_argument("dir", metavar="DIR", help="a model folder, or a Hub repository")
    export.add_argument("out", metavar="OUT", help="the folder to make")
    export.add_argument("--to", required=True, choices=["hf-gpt2", "gguf"], help="hf-gpt2 is transformers' own GPT-2")
    export.add_argument("--dtype", choices=["f32", "f16", "q8_0"], help="of a GGUF's matrices (default: f32)")
    export.add_argument(
        "--perplexity-text", metavar="FILE", help="measure a GGUF's perplexity on it, before and after"
    )
    export.add_argument("--adapter", metavar="DIR", help="merge this LoRA adapter of PEFT first")
    export.set_defaults(run=run_export)

    generate = commands.add_parser("generate", help="let a language model go on from a prompt")
    generate.add_argument("dir", metavar="DIR", help="a model folder or a Hub repository, also of a stock GPT-2")
    generate.add_argument("--prompt", default="", help="the text to go on from; without one, a new document begins")
    _add_sampling(generate, max_new_tokens=100, temperature=1.0)
    generate.set_defaults(run=run_generate)

    chat = commands.add_parser(
        "chat",
        help="talk with an instruction-tuned model",
        description="Reads questions, one a line, and prints the answers; the line /new begins a new conversation. On"
        " a terminal, Ctrl-C stops an answer and Ctrl-D ends. Of a conversation too long for the model, the oldest"
        " part is forgotten.",
    )
    chat.add_argument("dir", metavar="DIR", help="a model folder, an adapter's, or a Hub repository")
    chat.add_argument("--system", help="what the prompt begins with, instead of the sentence the model was trained on")
    chat.add_argument(
        "--no-history", action="store_true", help="read each question alone, as the instructions in training were"
    )
    _add_sampling(chat, max_new_tokens=256, temperature=0.0)
    chat.set_defaults(run=run_chat)

    classify = commands.add_parser(
        "classify",
        help="tell spam from ham: each message's label and its probability of being spam",
        description="Prints a line for each message: its label, the probability (0 to 1) that it is spam, its text,"
        " with tabs between them. With --json, an object of the keys text, label, probability, truncated (whether the"
        " model could not read all of it) and, with --stream, words, each a word and the probability after it.",
    )
    classify.add_argument("dir", metavar="DIR", help="the folder of a trained spam classifier")
    classify.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help="messages, quoted; without any, one a line is read from stdin",
    )
    classify.add_argument("--file", help="read the messages from this file, one a line, none empty")
    classify.add_argument("--stream", action="store_true", help="show the probability of spam after each word")
    classify.add_argument("--json", action="store_true", help="print one JSON object for each message")
    classify.add_argument("--batch-size", type=positive, default=32, help="messages per forward pass (default: 32)")
    classify.set_defaults(run=run_classify)

    command = commands.add_parser("judge", help="let a larger language model score the answers of a model")
    judge.add_arguments(command)
    command.set_defaults(run=judge.run)

    app = commands.add_parser("app", help="pages in the browser")
    apps = app.add_subparsers(dest="app", required=True, metavar="APP", parser_class=CommandParser)
    for name, page, help in (
        ("chat", chat_page, "chat with an instruction follower"),
        ("spam", spam_page, "watch a spam filter read, word by word"),
        ("compare", compare, "vote blindly between two models' answers"),
    ):
        command = apps.add_parser(name, help=help)
        page.add_arguments(command)
        command.set_defaults(run=page.run)

    command = commands.add_parser("check", help="whether a model's folder loads for anyone, anywhere")
    check.add_arguments(command)
    command.set_defaults(run=check.run)

    command = commands.add_parser("push", help="a model's folder, with its card, to the Hub")
    push.add_arguments(command)
    command.set_defaults(run=push.run)
    return parser


def _add_sampling(command: argparse.ArgumentParser, max_new_tokens: int, temperature: float) -> None:
    command.add_argument("--max-new-tokens", type=positive, default=max_new_tokens, help=f"default: {max_new_tokens}")
    command.add_argument(
        "--temperature",
        type=at_least_0,
        default=temperature,
        help=f"below 1 bolder choices are rarer, 0 allows none (default: {temperature:g})",
    )
    command.add_argument("--top-k", type=count, help="choose among the so many likeliest tokens (default: 0, all)")
    command.add_argument("--top-p", type=probability, help="choose among the fewest tokens of this probability")
    command.add_argument(
        "--repetition-penalty",
        type=above_0,
        help="above 1, tokens seen before are less likely (default: what the model was saved with, or 1)",
    )
    command.add_argument("--seed", type=int, help="for the same text again")


def run_convert(args: argparse.Namespace) -> None:
    from .conversion import convert

    _quieten_transformers()
    if args.size:
        from .conversion.download import download_openai
        from .errors import UsageError

        if args.format not in ("auto", "openai-tf"):
            raise UsageError(f"--size does not apply to {args.format}; OpenAI published it as openai-tf.")
        download_openai(args.size, args.src)
    names = ("n_head", "lora_scale", "labels", "vocab_size", "activation")
    options = {name: getattr(args, name) for name in names}
    done = convert(args.src, args.out, args.format, args.tokenizer, prove=True, **options)
    print(f"Converted {args.src} ({done.format}) into {done.folder}.")
    print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's.")


def run_export(args: argparse.Namespace) -> None:
    from .adapters import merged_folder
    from .conversion import export
    from .conversion.gguf_export import export_gguf
    from .errors import UsageError

    if args.to != "gguf" and (args.dtype or args.perplexity_text):
        raise UsageError("--dtype and --perplexity-text are for --to gguf.")
    _quieten_transformers()
    with merged_folder(args.dir, args.adapter) if args.adapter else nullcontext(args.dir) as src:
        if args.to == "hf-gpt2":
            done = None
            export(str(src), args.out)
        else:
            done = export_gguf(str(src), args.out, args.dtype or "f32", text=args.perplexity_text)
    print(f"Exported {args.dir} as {args.to} into {args.out}.")
    if done is not None:
        print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's.")
        if args.perplexity_text:
            before, after = done.perplexity_before, done.perplexity_after
            print(f"Perplexity on {args.perplexity_text}: {before:.4f} before, {after:.4f} after.")


def _quieten_transformers() -> None:
    """What does not fit is said in our own sentence, and a progress bar does not go with an answer of one line."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def run_generate(args: argparse.Namespace) -> None:
    from .inference import stream_text

    model, tokenizer, sampling = _language_model(args)
    pieces = stream_text(model, tokenizer, args.prompt, **sampling)
    first = next(pieces, "")  # a prompt that does not fit is found here
    written = 0
    for piece in chain([args.prompt, first], pieces):
        print(piece, end="", flush=True)
        written += len(piece)
    print()
    if written == len(args.prompt):
        advice = f"; it was tuned to answer: `hf-gpt-scratch chat {args.dir}`" if tokenizer.chat_template else ""
        print(f"note: the model ended the text at once{advice}.", file=sys.stderr)


def run_chat(args: argparse.Namespace) -> None:
    from .chat import Chat, converse

    model, tokenizer, sampling = _language_model(args)
    converse(Chat(model, tokenizer, args.system, history=not args.no_history), **sampling)


def _language_model(args: argparse.Namespace) -> tuple:
    """The model and the tokenizer of `args.dir`, and the settings of `_add_sampling`, with the seed set."""
    import torch

    from .conversion.source import resolve_source
    from .modeling_gpt_scratch import GPTScratchForCausalLM
    from .pretrained import load_pretrained
    from .tokenizer import load_tokenizer

    _quieten_transformers()
    folder = str(resolve_source(args.dir))
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, folder), load_tokenizer(folder)
    if args.seed is not None:
        torch.manual_seed(args.seed)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
    sampling = {name: getattr(args, name) for name in names}
    if args.repetition_penalty is None:
        sampling["repetition_penalty"] = model.generation_config.repetition_penalty or 1.0
    return model, tokenizer, sampling


def run_classify(args: argparse.Namespace) -> None:
    from .inference import SpamClassifier

    _quieten_transformers()
    classifier = SpamClassifier.from_pretrained(args.dir)
    colours = (GREEN, RED) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    reset = RESET if colours[0] else ""
    threshold = classifier.calibration.threshold
    typed = not (args.text or args.file) and sys.stdin.isatty()  # then each line is answered at once
    predictions = classifier.classify(_messages(args), batch_size=1 if typed else args.batch_size)
    for number, prediction in enumerate(predictions, start=1):
        if prediction.truncated:
            limit = classifier.model.config.n_positions
            print(f"note: message {number} is longer than {limit} tokens; only those were read.", file=sys.stderr)
        words = classifier.word_probabilities(prediction.text) if args.stream else []
        if args.json:
            record = {
                "text": prediction.text,
                "label": prediction.label,
                "probability": prediction.probability,
                "truncated": prediction.truncated,
            }
            if args.stream:
                record["words"] = [{"word": word.strip(), "probability": value} for word, value in words]
            print(json.dumps(record, ensure_ascii=False), flush=True)
            continue
        for word, value in words:
            colour = colours[value > threshold]
            print(f"{colour}{value:7.1%} {'█' * round(20 * value):20} {word.strip()}{reset}", flush=True)
        colour = colours[prediction.probability > threshold]
        print(f"{colour}{prediction.label}{reset}\t{prediction.probability:.4f}\t{prediction.text}", flush=True)


def _messages(args: argparse.Namespace) -> Iterator[str]:
    """The messages to classify, from the command line, a file or standard input; an empty line is an error."""
    from .errors import InputError, UsageError

    if args.text and args.file:
        raise UsageError("Give messages or --file, not both.")
    if args.text:
        yield from args.text
        return
    if not args.file and sys.stdin.isatty():
        print("Type a message a line; Ctrl-D ends.", file=sys.stderr)
    source = open(args.file, encoding="utf-8-sig") if args.file else sys.stdin  # noqa: SIM115 (closed below)
    with source:
        try:
            for number, line in enumerate(source, start=1):
                if not line.strip():
                    raise InputError(
                        f"Line {number} of {args.file or 'the input'} is empty; expected a message a line."
                    )
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{args.file or 'The input'} is not UTF-8 text ({error.reason}).") from None


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, or 1 when it failed; bad usage exits with 2."""
    args = make_parser().parse_args(argv)
    from .errors import run_reporting_errors

    return run_reporting_errors(lambda: args.run(args))


def run() -> None:
    """The console script."""
    sys.exit(main())
