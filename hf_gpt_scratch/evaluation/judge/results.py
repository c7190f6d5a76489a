"""What a judge's answers come to: items, numbers with intervals, a picture and a result card."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...utils.provenance import ENVIRONMENT, json_sha256, public_name
from ...utils.result_card import Metric, ResultCard
from ..intervals import bootstrap_mean, wilson
from .answers import Answer, NoAnswer
from .prompts import Task

TASKS = {"scores": "answers scored by a language model", "comparison": "answers compared by a language model"}
EDGES = list(range(0, 101, 10))
WORST = 10
SCORING = {
    "score": "0 to 100; of a judge in process, the expectation over its probabilities of the answers 0 to 100",
    "interval": "95 % interval of the mean: percentiles of a bootstrap over the responses; null for fewer than two",
    "histogram": "the number of scores from each edge up to the next, the last edge included",
    "n_unparsed": "responses without a score because the judge's answer is unparsable; see items",
    "n_failed": "responses that the judge did not answer",
    "changed": "what the judge's server refused, and what it was sent in its place; absent where nothing was",
}
COMPARING = {
    "score": "points of A for a question (1, 0.5 for a tie, 0), averaged over both orders; of a judge in process,"
    " their expectation over its probabilities of the answers A, B and tie",
    "win_rate": "mean score, that of A; B's is 1 minus it",
    "interval": "95 % interval of the win rate: Wilson's, wider than necessary with ties; of a judge in process,"
    " whose scores are not whole wins, percentiles of a bootstrap over the questions",
    "wins": "questions of which A gets more than 0.5 in both orders; losses: less in both; ties: all others",
    "consistency": "share of the questions for which both orders give the same winner, or both a tie",
    "first_position_rate": "average points of the response shown first; 0.5 for a judge without position bias",
    "n_unparsed": "questions without a score because an answer is unparsable; see items",
    "n_failed": "questions with an order that the judge did not answer",
    "changed": SCORING["changed"],
}


def summarize(tasks: Sequence[Sequence[Task]], outcomes: Sequence[Sequence[Answer | NoAnswer]]) -> dict:
    """The numbers and the items of a judgement: of one task for each response, or of two, A first and B first."""
    is_comparison = len(tasks[0]) == 2
    make_item = _pair_item if is_comparison else _score_item
    items = [make_item(number, *pair) for number, pair in enumerate(zip(tasks, outcomes), start=1)]
    answers = [one for row in outcomes for one in row if isinstance(one, Answer)]
    n_failed = sum(any(isinstance(one, NoAnswer) for one in row) for row in outcomes)
    scores = [item["score"] for item in items if item["score"] is not None]
    result = {
        "task": "comparison" if is_comparison else "scores",
        "n": len(items),
        "n_scored": len(scores),
        "n_unparsed": len(items) - len(scores) - n_failed,
        "n_failed": n_failed,
    }
    masses = [answer.details["probability_mass"] for answer in answers if "probability_mass" in answer.details]
    result |= _comparison(items, scores, is_expectation=bool(masses)) if is_comparison else _scores(scores)
    if masses:  # a judge in process
        result["n_truncated"] = sum(answer.details["truncated"] for answer in answers)
        result["mean_probability_mass"] = sum(masses) / len(masses)
    if changed := sorted({one for answer in answers for one in answer.details.get("changed", ())}):
        result["changed"] = changed
    worst = sorted((item for item in items if item["score"] is not None), key=lambda item: item["score"])[:WORST]
    hidden = ("answer", "orders", "probability_mass", "truncated", "finish_reason", "changed")
    result["worst"] = [{name: value for name, value in item.items() if name not in hidden} for item in worst]
    result["definitions"] = COMPARING if is_comparison else SCORING
    return {**result, "items": items}


def _question(number: int, task: Task) -> dict:
    return {"number": number, "instruction": task.instruction, "input": task.input, "output": task.reference}


def _record(outcome: Answer | NoAnswer) -> dict:
    if isinstance(outcome, NoAnswer):
        return {"score": None, "answer": None, "error": str(outcome)}
    return {"score": outcome.value, "answer": outcome.text, **outcome.details}


def _score_item(number: int, tasks: Sequence[Task], outcomes: Sequence[Answer | NoAnswer]) -> dict:
    [task], [outcome] = tasks, outcomes
    return {**_question(number, task), "model_response": task.responses[0], **_record(outcome)}


def _pair_item(number: int, tasks: Sequence[Task], outcomes: Sequence[Answer | NoAnswer]) -> dict:
    a_first, b_first = ({"first": name, **_record(outcome)} for name, outcome in zip("AB", outcomes))
    if b_first["score"] is not None:
        b_first["score"] = 1 - b_first["score"]  # A's, as everywhere
    both = [a_first["score"], b_first["score"]]
    score = None if None in both else sum(both) / 2
    response_a, response_b = tasks[0].responses
    return {
        **_question(number, tasks[0]),
        "model_response_a": response_a,
        "model_response_b": response_b,
        "score": score,
        "winner": _winner(both),
        "orders": [a_first, b_first],
    }


def _winner(scores: Sequence[float | None]) -> str | None:
    """The one that both orders prefer (Zheng et al. 2023, section 3.4): else it may be the place that won."""
    if None in scores:
        return None
    return "A" if min(scores) > 0.5 else "B" if max(scores) < 0.5 else "tie"


def _scores(scores: list[float]) -> dict:
    return {
        "mean": sum(scores) / len(scores) if scores else None,
        "interval": bootstrap_mean([[score] for score in scores]),
        "histogram": {"edges": EDGES, "counts": np.histogram(scores, EDGES)[0].tolist()},
    }


def _comparison(items: list[dict], scores: list[float], is_expectation: bool) -> dict:
    pairs = [[order["score"] for order in item["orders"]] for item in items if item["score"] is not None]
    same = [np.sign(a_first - 0.5) == np.sign(b_first - 0.5) for a_first, b_first in pairs]
    first = [value for a_first, b_first in pairs for value in (a_first, 1 - b_first)]
    winners = [item["winner"] for item in items]
    interval = bootstrap_mean([[score] for score in scores]) if is_expectation else wilson(sum(scores), len(scores))
    return {
        "win_rate": sum(scores) / len(scores) if scores else None,
        "interval": interval,
        **{name: winners.count(winner) for name, winner in (("wins", "A"), ("ties", "tie"), ("losses", "B"))},
        "consistency": float(np.mean(same)) if same else None,
        "first_position_rate": float(np.mean(first)) if first else None,
    }


def plot(result: dict, path: Path) -> None:
    """The histogram of the scores with their mean, or how often A wins, ties and loses."""
    from matplotlib.figure import Figure

    from ..plots import BLUE, GREY, VERMILION, save_figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis, judge = figure.subplots(), textwrap.fill(result.get("judge", {}).get("model") or "the judge", 50)
    if result["task"] == "comparison":
        names = {"A is better": ("wins", BLUE), "tie": ("ties", GREY), "B is better": ("losses", VERMILION)}
        counts, colours = [result[name] for name, _ in names.values()], [colour for _, colour in names.values()]
        axis.bar_label(axis.bar(list(names), counts, color=colours))
        axis.set(xlabel="verdict, the same in both orders of the answers", ylabel="questions")
        said = "" if result["win_rate"] is None else f"\nwin rate of A {result['win_rate']:.1%}"
        axis.set_title(f"A against B, judged by {judge}{said}", fontsize=11)
    else:
        edges, counts = result["histogram"]["edges"], result["histogram"]["counts"]
        axis.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white")
        axis.set(xlabel="score (0: wrong, 100: correct and complete)", ylabel="responses", xlim=(0, 100), xticks=edges)
        title = f"Scores given by {judge}"
        if result["mean"] is not None:
            axis.axvline(result["mean"], color=VERMILION, linestyle="--")
            title += f"\nmean {result['mean']:.1f} (dashed line)"
        axis.set_title(title, fontsize=11)
    axis.margins(y=0.1)
    axis.yaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def make_card(result: dict, judge: str, folder: Path) -> ResultCard:
    """
    The result card, for `folder`, of a judgement that has a score. Its data are the questions and, of a comparison,
    the answers of B, so that the cards of other models' answers can be compared with it.
    """
    is_comparison = result["task"] == "comparison"
    if changed := result.get("changed"):
        judge = f"{judge} ({', '.join(changed)})"
    score, n = Metric(result["win_rate" if is_comparison else "mean"], result["interval"]), result["n"]
    if files := result["judge"].get("files"):  # a model on disk is known by its weights, whatever its folder is called
        judge = f"in process, {json_sha256(files)[:8]}"
    mass = result.get("mean_probability_mass")
    answers, *opponents = result["data"]
    questions = {"source": f"{n} questions and reference answers", "sha256": _questions_hash(result["items"])}
    shares = {f"{name}_rate": result[f"n_{name}"] for name in ("unparsed", "failed")}
    return ResultCard(
        task=TASKS[result["task"]],
        protocol=f"judge {judge}, {'win rate of A, both orders' if is_comparison else 'mean of 0 to 100'}",
        data=[questions, *({"source": public_name(one["file"]), "sha256": one["sha256"]} for one in opponents)],
        metrics={
            "win_rate" if is_comparison else "score": score,
            **{name: Metric(count / n, wilson(count, n), False) for name, count in shares.items()},
            **({} if mass is None else {"probability_mass": Metric(mass)}),
        },
        baselines={"B": {"win_rate": score.complement()}} if is_comparison else {},
        command=result["command"],
        environment={name: result[name] for name in ENVIRONMENT},
        seeds=[result["judge"]["seed"]] if "seed" in result["judge"] else [],
        predictions=os.path.relpath(answers["file"], folder),
    )


def _questions_hash(items: Sequence[dict]) -> str:
    """The SHA-256 of the questions and reference answers, whatever their order in the file."""
    return json_sha256(sorted([item[name] for name in ("instruction", "input", "output")] for item in items))


def unparsable(result: dict) -> list[dict]:
    """The judge's answers that no score can be read from."""
    answers = [one for item in result["items"] for one in item.get("orders", [item])]
    return [one for one in answers if one["score"] is None and one["answer"] is not None]
