"""The results of people's votes, written next to them: the statistics as JSON, and a result card."""

from collections.abc import Sequence
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import read_json_object, together, write_json
from ..utils.provenance import ENVIRONMENT, environment, public_name, sha256, shown_path
from ..utils.result_card import FOLDER, Metric, ResultCard
from .preference import DEFINITIONS, Pair, Votes, judge_statistics, load_verdicts, statistics

TASK, CARD_TASK = "human preference", "answers compared by people"


def require_own(votes: Path) -> None:
    """Raises `InputError` where the results of these votes would replace a file that holds something else."""
    for path, task in {
        votes.with_suffix(".json"): TASK,
        votes.parent / FOLDER / f"{votes.stem}.json": CARD_TASK,
    }.items():
        if path.exists() and not _is_of(path, task):
            raise InputError(f"The results would replace {path}, which holds something else; choose another --output.")


def _is_of(path: Path, task: str) -> bool:
    try:
        return read_json_object(path).get("task") == task
    except InputError:
        return False


def write_results(
    path: Path, a_path: str, b_path: str, pairs: Sequence[Pair], command: str, judge: str | None = None
) -> dict:
    """
    The statistics of the votes in the file `path`, which are written beside it with a result card.

    Args:
        a_path, b_path: the files of answers that were compared, and `pairs`, what they hold.
        command: that does it again.
        judge: the judge.json of a pairwise judge, to be compared with the people.

    Raises:
        InputError: when there are no votes, or they or the judge are about other files.
    """
    votes = Votes(path, a_path, b_path)
    given, files = votes.all(), {"A": a_path, "B": b_path}
    results = {"task": TASK, "items": len(pairs), **statistics(given)}
    if judge:
        results |= judge_statistics(given, load_verdicts(judge, pairs))
        files["judge"] = judge
    results |= {
        "definitions": DEFINITIONS,
        "seed": votes.seed,
        "files": {name: {"path": shown_path(file), "sha256": sha256(file)} for name, file in files.items()},
        **environment(),
        "command": command,
    }
    with together(path.parent) as partial:
        write_json(partial / f"{path.stem}.json", results)
        make_card(results, f"{path.stem}.json").write(partial, path.stem)
    return results


def make_card(results: dict, predictions: str) -> ResultCard:
    """The result card of what `write_results` wrote into the file named `predictions`."""
    win_rate = Metric(results["win_rate"], results["win_rate_interval"])
    return ResultCard(
        task=CARD_TASK,
        protocol=f"win rate of A, blind, random sides; {results['votes']} votes of {len(results['raters'])} raters on"
        f" {results['items_voted_on']} of {results['items']} questions",
        data=[
            {"source": public_name(file["path"]), "sha256": file["sha256"]} for file in map(results["files"].get, "AB")
        ],
        metrics={"win_rate": win_rate},
        baselines={"B": {"win_rate": win_rate.complement()}},
        command=results["command"],
        environment={name: results[name] for name in ENVIRONMENT},
        seeds=[results["seed"]],
        predictions=predictions,
    )
