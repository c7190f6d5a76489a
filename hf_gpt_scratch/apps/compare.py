"""A blind comparison of two models' answers in the browser, and the table of its votes."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import InputError, UsageError
from . import page

if TYPE_CHECKING:  # where it is used it is imported late, as it needs scipy, and `hf-gpt-scratch --help` does not
    from ..evaluation.preference import Pair, Votes
    from ..utils.result_card import ResultCard

TASK, CARD_TASK = "human preference", "answers compared by people"
BUTTONS = ("1 is better", "2 is better", "Tie", "Both bad")  # in the order of votes.CHOICES
HELP = "Keys: 1 or ← and 2 or → for the better answer, 0 for a tie, 9 for both bad, u to undo."
# A held key votes once, and shortcuts of the browser are not ours. Where no vote is due, there is no button.
KEYBOARD = """<script>
document.addEventListener("keydown", (event) => {
  const buttons = {"1": "left", ArrowLeft: "left", "2": "right", ArrowRight: "right", "0": "tie", "9": "both_bad",
                   u: "undo", U: "undo"};
  const button = document.getElementById(buttons[event.key]);
  if (!button || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  button.click();
});
</script>"""
TO_THE_TOP = "() => { window.scrollTo(0, 0); }"
# The buttons stay in sight below answers of any length; gradio's columns do not let them be sticky.
CSS = """
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 16px; line-height: 1.5; }
.label { font-weight: 600; margin-bottom: 8px; }
#question .text { border-left: 4px solid var(--color-accent); padding-left: 12px; }
.answer { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 4px; }
#page { padding-bottom: 80px; }
#votes { position: fixed; left: 0; right: 0; bottom: 0; z-index: 10; padding: 8px; gap: 8px; flex-wrap: nowrap;
         background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }
#votes button { padding: 10px 4px; }
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments that `run` reads."""
    parser.add_argument(
        "a", metavar="A.json", help="a model's responses, such as responses.json of instruction tuning"
    )
    parser.add_argument("b", metavar="B.json", help="another model's responses to the same questions")
    parser.add_argument("--output", help="the SQLite file of votes (default: preferences.sqlite beside A.json)")
    parser.add_argument("--results", action="store_true", help="print what the votes say and write it as JSON beside")
    parser.add_argument("--judge", metavar="FILE", help="with --results, compare with a pairwise judge's judge.json")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled sides (default: 0)")
    page.add_address_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """
    Serves the page until Ctrl-C, or prints the results.

    Raises:
        InputError: for files that cannot be used, or that the results would replace; the votes so far stay as they
            are.
    """
    from ..evaluation.preference import Votes, load_pairs

    output = Path(args.output) if args.output else Path(args.a).with_name("preferences.sqlite")
    if output.suffix == ".json":
        raise UsageError("--output is the SQLite file of votes, which cannot end in .json; the results get that.")
    if args.judge and not args.results:
        raise UsageError("--judge is for --results.")
    _require_own(output.with_suffix(".json"), TASK)
    _require_own(output.parent / "results" / f"{output.stem}.json", CARD_TASK)
    pairs = load_pairs(args.a, args.b)
    if args.results:
        show_results(args, pairs, output)
    else:
        serve(args, pairs, Votes.open_or_create(output, args.a, args.b, len(pairs), args.seed))


def _require_own(path: Path, task: str) -> None:
    """Raises `InputError` where results would replace a file that holds none of this `task`, such as an input."""
    if not path.exists():
        return
    try:
        is_own = json.loads(path.read_text(encoding="utf-8"))["task"] == task
    except (OSError, ValueError, LookupError, TypeError):
        is_own = False
    if not is_own:
        raise InputError(f"The results would replace {path}, which holds something else; choose another --output.")


def show_results(args: argparse.Namespace, pairs: list[Pair], output: Path) -> None:
    """Prints the statistics of the votes in `output` and writes them with their provenance beside it."""
    from ..evaluation.preference import DEFINITIONS, Votes, judge_statistics, load_verdicts, statistics
    from ..utils.files import write_json
    from ..utils.provenance import environment, sha256

    votes = Votes(output, args.a, args.b)
    given = votes.all()
    results = {"task": TASK, "items": len(pairs), **statistics(given)}
    files = {"A": args.a, "B": args.b}
    command = ["hf-gpt-scratch", "app", "compare", args.a, args.b, "--results"]
    if args.output:
        command += ["--output", args.output]
    if args.judge:
        results |= judge_statistics(given, load_verdicts(args.judge, pairs))
        files["judge"] = args.judge
        command += ["--judge", args.judge]
    print(table(results))
    results |= {
        "definitions": DEFINITIONS,
        "seed": votes.seed,
        "files": {name: {"path": str(path), "sha256": sha256(path)} for name, path in files.items()},
        **environment(),
        "command": shlex.join(command),
    }
    write_json(output.with_suffix(".json"), results)
    make_card(results, output.with_suffix(".json").name).write(output.parent, output.stem)
    print(f"Written to {output.with_suffix('.json')}.")


def make_card(results: dict, predictions: str) -> ResultCard:
    """The result card of what `show_results` wrote into the file named `predictions`."""
    from ..utils.provenance import ENVIRONMENT
    from ..utils.result_card import Metric, ResultCard

    win_rate = Metric(results["win_rate"], results["win_rate_interval"])
    return ResultCard(
        task=CARD_TASK,
        protocol=f"win rate of A, blind, random sides; {results['votes']} votes of {len(results['raters'])} raters on"
        f" {results['items_voted_on']} of {results['items']} questions",
        data=[{"source": file["path"], "sha256": file["sha256"]} for file in map(results["files"].get, "AB")],
        metrics={"win_rate": win_rate},
        baselines={"B": {"win_rate": win_rate.complement()}},
        command=results["command"],
        environment={name: results[name] for name in ENVIRONMENT},
        seeds=[results["seed"]],
        predictions=predictions,
    )


def table(results: dict) -> str:
    """The statistics as lines of a name and a value."""

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


def serve(args: argparse.Namespace, pairs: list[Pair], votes: Votes) -> None:
    """Serves the page until Ctrl-C; prints its address when it is ready."""
    page.serve(make_page(pairs, votes), args.host, args.port, CSS, KEYBOARD, f"Votes go to {votes.path}. ")


def as_text(text: str) -> str:
    """HTML that shows `text` as it is, line ends and all: the texts are not trusted."""
    return (
        f'<div class="text" dir="auto">{page.escape(text)}</div>'
        if text.strip()
        else '<div class="text"><i>(empty)</i></div>'
    )


class Voting:
    """What the page does: each method answers a click with new values of `make_page`'s components, by their names."""

    def __init__(self, pairs: Sequence[Pair], votes: Votes):
        self.pairs, self.votes = pairs, votes

    def begin(self, name: str) -> dict:
        from ..evaluation.preference import rater_name

        return self._show(rater_name(name))

    def vote(self, ticket: str, choice: str) -> dict:
        from ..evaluation.preference import CHOICES

        rater, item = _read_ticket(ticket)
        if choice not in CHOICES:
            raise InputError(f"A vote is one of {', '.join(CHOICES)}.")
        self.votes.vote(rater, item, choice)
        return self._show(rater)

    def undo(self, ticket: str) -> dict:
        rater, item = _read_ticket(ticket)
        self.votes.undo(rater, item)
        return self._show(rater)

    def _show(self, rater: str) -> dict:
        """The rater's next pair, or that there is none."""
        gr, item, n = page.gradio(), self.votes.next_item(rater), len(self.pairs)
        update = {
            "start": gr.Column(visible=False),
            "voting": gr.Column(visible=True),
            "comparison": gr.Column(visible=item < n),
            "ticket": json.dumps({"rater": rater, "item": item}),
        }
        if item == n:
            return update | {"progress": f"<div class='label'>All {n} of {n} are done. Thank you!</div>"}
        pair = self.pairs[item]
        left, right = (pair.a, pair.b) if self.votes.a_is_left(rater, item) else (pair.b, pair.a)
        return update | {
            "progress": f"<div class='label'>{item + 1} of {n}</div>",
            "question": as_text(f"{pair.instruction}\n\n{pair.input}" if pair.input else pair.instruction),
            "left": "<div class='label'>Answer 1</div>" + as_text(left),
            "right": "<div class='label'>Answer 2</div>" + as_text(right),
        }


def _read_ticket(text: str) -> tuple[str, int]:
    """The rater and the item that the browser showed."""
    from ..evaluation.preference import rater_name

    try:
        content = json.loads(text)
        return rater_name(content["rater"]), int(content["item"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError("Type your name first, of at most 80 characters.") from None


def make_page(pairs: Sequence[Pair], votes: Votes):
    """The Gradio page on which raters vote."""
    from ..evaluation.preference import CHOICES

    gr, does = page.gradio(), Voting(pairs, votes)
    with page.blocks("Which answer is better?") as blocks:
        gr.HTML("<h2>Which answer is better?</h2>")
        with gr.Column() as start:
            name = gr.Textbox(label="Your name", max_length=80, autofocus=True, elem_id="name")
            go = gr.Button("Start, or go on where you stopped", variant="primary", elem_id="start")
        with gr.Column(visible=False, elem_id="page") as voting:
            progress = gr.HTML(elem_id="progress")
            with gr.Column() as comparison:
                question = gr.HTML(elem_id="question", elem_classes="question")
                with gr.Row():  # on a phone a column
                    left, right = map(_answer, (1, 2))
                gr.HTML(f"<div>{HELP}</div>")
                with gr.Row(elem_id="votes"):
                    buttons = [
                        gr.Button(label, elem_id=choice, min_width=0) for label, choice in zip(BUTTONS, CHOICES)
                    ]
            take_back = gr.Button("Undo the last vote", elem_id="undo", size="sm")
        # What the browser shows, sent back with each vote: a second click then votes on nothing that was not seen.
        ticket = gr.Textbox(visible=False)
        choices = [gr.Textbox(choice, visible=False) for choice in CHOICES]

        shown = {
            "start": start,
            "voting": voting,
            "comparison": comparison,
            "progress": progress,
            "question": question,
            "left": left,
            "right": right,
            "ticket": ticket,
        }

        def answering(act):
            def answer(*values):
                with page.errors_on_page():
                    return {shown[component]: value for component, value in act(*values).items()}

            return answer

        options = {"outputs": [*shown.values()], "show_progress": "hidden", "api_visibility": "undocumented"}
        gr.on([go.click, name.submit], answering(does.begin), name, api_name="begin", **options)
        for button, choice in zip(buttons, choices):
            click = button.click(answering(does.vote), [ticket, choice], api_name="vote", **options)
            click.then(js=TO_THE_TOP)
        take_back.click(answering(does.undo), ticket, api_name="undo", **options)
    return blocks


def _answer(number: int):
    gr = page.gradio()
    with gr.Column(min_width=320, elem_classes="answer"):
        return gr.HTML(elem_id=f"answer-{number}", padding=True)
