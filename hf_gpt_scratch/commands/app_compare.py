"""`hf-gpt-scratch app compare`: the page of a blind comparison, the table of its votes, and their export."""

import argparse
from pathlib import Path

from ..utils.errors import UsageError
from ..utils.files import require_file
from ..utils.requirements import GRADIO, require_package
from .app_options import access, add_address_arguments, refuse_access


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Example: hf-gpt-scratch app compare runs/instruct/responses.json runs/instruct-2/responses.json"
    parser.add_argument(
        "a", metavar="A.json", help="a model's responses: the responses.json that `train instruct` writes"
    )
    parser.add_argument("b", metavar="B.json", help="another model's responses to the same questions")
    parser.add_argument(
        "--output", help="the SQLite file that the votes are saved in (default: preferences.sqlite beside A.json)"
    )
    parser.add_argument(
        "--results",
        action="store_true",
        help="print the results of the votes, and write them as JSON beside the file of votes",
    )
    parser.add_argument(
        "--judge", metavar="FILE", help="with --results: also compare with this judge.json of a pairwise judge"
    )
    parser.add_argument(
        "--export-preferences",
        metavar="FILE.jsonl",
        help="write the votes as rows of prompt, chosen and rejected, for `train prefer` or TRL",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed for shuffling the sides (default: 0)")
    add_address_arguments(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before anything heavy is imported."""
    if _output(args).suffix == ".json":
        raise UsageError("--output is the SQLite file of votes and cannot end in .json; the results get that name.")
    if args.export_preferences and args.results:
        raise UsageError("Give --results or --export-preferences, not both.")
    if args.judge and not args.results:
        raise UsageError("--judge needs --results.")
    if args.results or args.export_preferences:
        refuse_access(args, "--results" if args.results else "--export-preferences")
    for file in (args.a, args.b, *([args.judge] if args.judge else [])):
        require_file(file)
    if not (args.results or args.export_preferences):
        require_package(*GRADIO)


def _output(args: argparse.Namespace) -> Path:
    return Path(args.output) if args.output else Path(args.a).with_name("preferences.sqlite")


def run(args: argparse.Namespace) -> None:
    """
    Serves the page until Ctrl-C, or prints the results, or writes the votes as a preference set.

    Raises:
        InputError: for files that cannot be used, or that the results would replace; the votes so far stay as they
            are.
    """
    from ..evaluation.preference import Votes, load_pairs
    from ..evaluation.preference_export import preferences, require_own_export, write_preferences
    from ..evaluation.preference_results import require_own, write_results
    from ..utils.provenance import own_command

    output = _output(args)
    require_own(output)
    pairs = load_pairs(args.a, args.b)
    if args.results:
        print(table(write_results(output, args.a, args.b, pairs, own_command(args.argv), args.judge)))
        print(f"Written to {output.with_suffix('.json')}.")
    elif args.export_preferences:
        require_own_export(args.export_preferences)
        found = preferences(pairs, Votes(output, args.a, args.b).all())
        write_preferences(args.export_preferences, found)
        print(f"Wrote {len(found.rows)} preferences of {len(pairs)} questions to {args.export_preferences}. {found}")
    else:
        from ..apps.compare import serve

        votes = Votes.open_or_create(output, args.a, args.b, len(pairs), args.seed)
        serve(pairs, votes, args.host, args.port, args.share, access(args))


def table(results: dict) -> str:
    """The results as lines of a name and a value."""

    def number(name: str) -> str:
        value, interval = results[name], results.get(f"{name}_interval")
        text = "-" if value is None else f"{value:.3f}"
        return f"{text}  (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else text

    raters = ", ".join(f"{name} {count}" for name, count in results["raters"].items())
    rows = [
        ("votes", f"{results['votes']} on {results['items_voted_on']} of {results['items']} questions"),
        ("votes by rater", raters),
        *((name.replace("_", " "), str(results[name])) for name in ("wins_A", "wins_B", "ties", "both_bad")),
        ("win rate of A", number("win_rate")),
        ("left share", number("left_share")),
        ("raters' alpha", number("raters_alpha")),
        ("raters' agreement", number("raters_agreement")),
    ]
    if "judge_alpha" in results:
        rows += [
            ("judged, voted on", f"{results['judged_items_voted_on']} questions"),
            ("judge's agreement", number("judge_agreement")),
            ("... without ties", number("judge_agreement_without_ties")),
            ("judge's alpha", number("judge_alpha")),
        ]
    return "\n".join(f"{name:20}{value}" for name, value in rows)
