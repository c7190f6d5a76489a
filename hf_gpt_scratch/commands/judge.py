"""`hf-gpt-scratch judge`: a language model scores the answers of another one, or compares those of two."""

import argparse
import re
from pathlib import Path

from ..utils.console import bar
from ..utils.errors import InputError, UsageError
from ..utils.files import require_file, require_present
from ..utils.text import has_lone_surrogates
from .arguments import above_0, add_device_options, count, is_classifier, placement, positive

LONGEST_TIMEOUT = 86_400
DEFAULTS = {"workers": 4, "timeout": 300.0, "retries": 4, "max_tokens": 512, "seed": 0}


def seconds(text: str) -> float:
    value = above_0(text)
    if value > LONGEST_TIMEOUT:  # far less than a socket or a lock can count
        raise argparse.ArgumentTypeError(f"must be at most {LONGEST_TIMEOUT:,}, a day, not {text}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Scores the responses in a file from 0 to 100, or compares those of two files, with an OpenAI-compatible"
        " endpoint (Ollama, vLLM, llama.cpp...) or a model in this process. The endpoint's key is read from the"
        " environment: OPENAI_API_KEY, or HF_TOKEN for Hugging Face's hosts. The same command continues a run that was"
        " stopped."
    )
    parser.epilog = (
        "Example: hf-gpt-scratch judge runs/demo/follower/responses.json --model llama3"
        " --base-url http://localhost:11434/v1"
    )
    parser.add_argument(
        "responses",
        metavar="RESPONSES.json",
        nargs="+",
        help="a list of objects with instruction, input, output (the reference) and model_response, as"
        " `hf-gpt-scratch train instruct` writes it; a second file is compared with the first",
    )
    parser.add_argument("--base-url", metavar="URL", help="the endpoint's address, such as http://localhost:11434/v1")
    parser.add_argument("--model", metavar="NAME", help="the endpoint's model, such as llama3")
    parser.add_argument(
        "--judge-model",
        metavar="DIR",
        help="judge with the language model in a folder or Hub repository, without a server",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file to write (default: judge.json next to the first file)"
    )
    settings = {
        "workers": (positive, "requests at a time"),
        "timeout": (seconds, "seconds to wait for an answer"),
        "retries": (count, "how often to repeat a request after a temporary error"),
        "max_tokens": (positive, "maximum length of an answer in tokens, reasoning included"),
        "seed": (int, "random seed of the requests; their temperature is 0"),
    }
    for name, (kind, help) in settings.items():
        default = DEFAULTS[name]
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=default, help=f"{help} (default: {default:g})")
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before anything heavy is imported."""
    if len(args.responses) > 2:
        raise UsageError("Give one file of responses, or two to compare.")
    if args.judge_model and (args.base_url or args.model):
        raise UsageError("Give --base-url and --model for an endpoint or --judge-model for a model here, not both.")
    if not args.judge_model and not (args.base_url and args.model):
        raise UsageError("Give --base-url and --model of an endpoint, or --judge-model with a model's folder.")
    names = (*args.responses, args.base_url, args.model, args.judge_model, args.output)
    if any(has_lone_surrogates(name) for name in names if name):
        raise UsageError("The names of files and models must be UTF-8 text, since they are written into the result.")
    for file in args.responses:
        if (inside := Path(file) / "responses.json").is_file():
            raise InputError(f"{file} is a folder; give the file {inside}.")
        require_file(file)
    if args.judge_model:
        require_present(args.judge_model)
        if is_classifier(args.judge_model):
            raise InputError(f"{args.judge_model} holds a classifier; give --judge-model a language model.")


def run(args: argparse.Namespace) -> None:
    """
    The command: writes `judge.json`, a picture of the same name and a result card.

    Raises:
        InputError: for what is wrong with the files or the judge; also, when all is written, where the judge failed
            on some of the responses or gave only unparsable answers.
    """
    files = [Path(name) for name in args.responses]
    from ..evaluation.judge.scoring import check_output, check_same_judge, journal_of, measure, write
    from ..evaluation.responses import read_pairs, read_responses
    from ..utils.provenance import sha256

    rows = read_pairs(*files) if len(files) == 2 else [(row,) for row in read_responses(files[0])]
    data = [{"file": str(path), "sha256": sha256(path)} for path in files]
    output = check_output(files, args.output)
    judge = _make_judge(args)
    check_same_judge(output, judge, "comparison" if len(files) == 2 else "scores")
    journal = journal_of(output, judge)
    result = measure(judge, rows, journal, {"data": data, "command": _command(args)})
    write(result, judge.name, output)
    print(report(result, judge.name))
    print(f"Wrote {output} (the judge's answers and all numbers) and {output.with_suffix('.png')}.")
    # What is not kept: all is answered, or a model in this process would fail at the same questions again.
    if args.judge_model or not result["n_failed"]:
        journal.unlink(missing_ok=True)
    _require_scores(result, output, may_be_repeated=not args.judge_model)


def _make_judge(args: argparse.Namespace):
    if args.judge_model:
        from ..evaluation.judge.in_process import ModelJudge
        from ..utils.terminal import quieten_transformers

        quieten_transformers()
        return ModelJudge(args.judge_model, **placement(args))
    from ..evaluation.judge.endpoint import EndpointJudge

    return EndpointJudge(args.base_url, args.model, **{name: getattr(args, name) for name in DEFAULTS})


def _command(args: argparse.Namespace) -> str:
    """The command that does the same again, without what may be secret in --base-url."""
    from ..utils.provenance import own_command

    if args.judge_model:
        return own_command(args.argv)
    from ..evaluation.judge.endpoint import public_url

    address = re.compile("https?://.*", re.IGNORECASE | re.DOTALL)
    return own_command([address.sub(lambda found: public_url(found[0]), word) for word in args.argv])


def _require_scores(result: dict, output: Path, may_be_repeated: bool) -> None:
    """Raises `InputError` where the judge failed on a response, or none could be scored."""
    from ..evaluation.judge.results import unparsable

    if result["n_failed"]:
        answers = [one for item in result["items"] for one in item.get("orders", [item])]
        error = next(one["error"] for one in answers if "error" in one)
        again = "; the same command asks for these again" if may_be_repeated else ""
        raise InputError(f"{result['n_failed']} of {result['n']} could not be judged, as the judge {error}{again}.")
    if not result["n_scored"]:
        was_cut = any(one.get("finish_reason") == "length" for one in unparsable(result))
        remedy = "raise --max-tokens" if was_cut else "take another judge"
        raise InputError(
            f"None of the {result['n']} could be scored, as every answer of the judge is unparsable; {remedy} (the"
            f" answers are in {output})."
        )


def report(result: dict, judge: str) -> str:
    """The result in some lines: the counts, the win rate or the scores."""
    is_comparison = result["task"] == "comparison"
    counts = f"{result['n_scored']} scored, {result['n_unparsed']} unparsed, {result['n_failed']} failed"
    lines = [f"{result['n']} {'pairs' if is_comparison else 'responses'} judged by {judge}: {counts}."]
    if "mean_probability_mass" in result:
        mass = f"{result['mean_probability_mass']:.1%}"
        lines.append(f"The model gives {mass} of its probability to the answers it was asked for; only these count.")
    if n := result.get("n_truncated"):
        prompts = "1 prompt was" if n == 1 else f"{n} prompts were"
        lines.append(f"{prompts} too long for the judge, so its responses were cut.")
    if result["n_unparsed"]:
        lines += _about_unparsable(result)
    if result["n_scored"]:
        lines += _comparison(result) if is_comparison else _scores(result)
    return "\n".join(lines)


def _about_unparsable(result: dict) -> list[str]:
    from ..evaluation.judge.results import unparsable

    answers = unparsable(result)
    example = _short(answers[0]["answer"])
    lines = [f"The first unparsable answer {f'is {example!r}' if example else 'is empty'}."]
    if cut := sum(one.get("finish_reason") == "length" for one in answers):
        lines.append(f"{cut} of {len(answers)} such answers were cut off; raise --max-tokens.")
    return lines


def _comparison(result: dict) -> list[str]:
    interval = " (95 % interval {:.1%} to {:.1%})".format(*result["interval"]) if result["interval"] else ""
    return [
        f"Win rate of A: {result['win_rate']:.1%}{interval}. Wins in both orders: A {result['wins']}, B"
        f" {result['losses']}, neither {result['ties']}.",
        f"Both orders agree on {result['consistency']:.1%} of the questions; the answer shown first gets"
        f" {result['first_position_rate']:.1%} of the points.",
    ]


def _scores(result: dict) -> list[str]:
    """The mean score, the histogram and the worst responses."""
    interval = " (95 % interval {:.1f} to {:.1f})".format(*result["interval"]) if result["interval"] else ""
    lines = [f"Mean score {result['mean']:.1f} of 100{interval}."]
    edges, bars = result["histogram"]["edges"], result["histogram"]["counts"]
    for start, end, number in zip(edges, edges[1:], bars):
        lines.append(f"{start:4}-{end:<3} {number:6}  {bar(round(40 * number / max(bars)))}".rstrip())
    lines.append("The lowest scores:")
    for item in result["worst"]:
        question, response = _short(f"{item['instruction']} {item['input']}"), _short(item["model_response"])
        lines.append(f"{item['score']:6.1f}  {question}  ->  {response}")
    return lines


def _short(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
