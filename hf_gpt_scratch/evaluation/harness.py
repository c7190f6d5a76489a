"""
EleutherAI's lm-evaluation-harness on a language model: MMLU, WikiText's perplexity and its other tasks, or your own in
its YAML format. Its numbers become result cards, next to the scores of guessing.

The model is the harness's own `HFLM` around a model that `load_pretrained` has loaded: its `--model hf` would run the
code of a folder, and does not know adapters of ours, nor a tokenizer that does not fit.
"""

import difflib
import hashlib
import json
import logging
import math
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from huggingface_hub import constants

from ..utils.console import run_command
from ..utils.errors import InputError, UsageError, one_line, raise_if_starved
from ..utils.files import require_folder, together, write_json
from ..utils.provenance import environment
from ..utils.requirements import LM_EVAL, require_package
from ..utils.result_card import Metric, ResultCard
from ..utils.terminal import quieten_transformers
from .guessing import Guessing
from .task_code import only_own_code

ACCURACIES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")  # shares of documents whose best choice is right
CHANCE, MOST_FREQUENT = "chance", "most frequent answer"


def evaluate_tasks(
    name_or_path: str,
    names: Sequence[str],
    output: Path,
    command: str,
    include_path: str | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    trust_remote_code: bool = False,
    **placement,
) -> list[ResultCard]:
    """
    Measures a language model by the tasks of these names, and writes `harness.json`, with the numbers of every
    sub-task, and a card for each task into the folder `output`.

    Args:
        name_or_path: a model's folder, an adapter's, or a Hub repository.
        command: that does it again, for the cards.
        include_path: a folder of tasks in YAML files of one's own.
        num_fewshot: solved examples before each question; by default as the task says.
        limit: the first so many documents of each task alone.
        trust_remote_code: run the functions and metrics that tasks name, if they are not the harness's own.
        placement: that of `pretrained.place`.

    Raises:
        InputError: when the harness is not installed, the model or its tokenizer cannot be used, a task is unknown or
            does not fit the model, or its data cannot be read.
    """
    _check_installed()
    if include_path:
        require_folder(include_path, purpose="to find tasks in")
    lm = load_language_model(name_or_path, batch_size, **placement)
    with only_own_code(trust_remote_code):
        chosen = load_tasks(names, include_path, num_fewshot)
        with together(output) as partial:  # what cannot be written is found out before hours of work
            results = run_tasks(lm, chosen, num_fewshot, limit)
            results["config"]["model"] = name_or_path
            return _write(partial, lm, chosen, results, limit, command)


def _write(output: Path, lm, chosen, results: dict, limit: int | None, command: str) -> list[ResultCard]:
    """Writes the numbers and the cards."""
    from ..pretrained import precision_name

    found = environment()
    found["versions"]["lm_eval"] = results["lm_eval_version"]
    results["config"] |= {"max_length": lm.max_length, "device": str(lm.device)}
    results["config"]["dtype"] = f"torch.{precision_name(lm.model)}"
    cards = make_cards(chosen, results, lm, limit, command=command, environment=found)
    write_json(output / "harness.json", {**results, "command": command, **found})
    for card in cards:
        card.write(output, re.sub(r"[^\w.-]+", "_", card.task))
    return cards


def _check_installed() -> None:
    require_package(*LM_EVAL)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # else a line for each prompt that is cut; they are counted


def load_language_model(name_or_path: str, batch_size: int = 8, **placement):
    """
    The harness's `HFLM` around a language model, as `load_with_tokenizer` loads it, with its tokenizer.

    It adds a set `cut`: of the prompts that were too long for the model, which the harness cuts from the left.
    """
    from lm_eval.models.huggingface import HFLM

    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_with_tokenizer

    quieten_transformers()
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, name_or_path, **placement)

    class LanguageModel(HFLM):
        def __init__(self):
            super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
            self.cut: set[str] = set()

        def _loglikelihood_tokens(self, requests, disable_tqdm=False, override_bs=None):
            for text, context, continuation in requests:
                if None in context or max(context + continuation) >= model.config.vocab_size:
                    raise InputError(
                        "The tokenizer does not fit the model: it has tokens that the model lacks; use the model's"
                        " own."
                    )
                if not 0 < len(continuation) <= self.max_length:
                    raise InputError(
                        f"A choice has {len(continuation)} tokens, such as {text[1][:40]!r}; this model can score 1 to"
                        f" {self.max_length}."
                    )
                if len(context) + len(continuation) > self.max_length + 1:
                    self.cut.add(text[0])
            one_of_many = override_bs is not None  # a batch of a long text's windows: no progress bar of its own
            return super()._loglikelihood_tokens(requests, disable_tqdm or one_of_many, override_bs)

    return LanguageModel()


def load_tasks(names: Sequence[str], include_path: str | None = None, num_fewshot: int | None = None) -> list:
    """
    The harness's `Task`s and `Group`s of these names, with their data; a tag stands for its tasks.

    Raises:
        InputError: for a name that is unknown, data that cannot be read, or a task that cannot be run here.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include_path)
    for name in names:
        if name not in manager.task_index:
            where = f" nor in a valid YAML file in {include_path}" if include_path else ""
            near = ", ".join(difflib.get_close_matches(name, manager.all_tasks)) or "none"
            raise InputError(f"There is no task {name} in the harness{where}; similar names: {near}.")
    chosen = []
    for name in dict.fromkeys(names):
        try:
            loaded = manager.load([name])
        except InputError:
            raise
        except Exception as error:  # of datasets, of the Hub, of the task's own code
            raise_if_starved(error, constants.HF_HOME)
            reason = one_line(error)[:300]
            raise InputError(f"The task {name} or its data could not be loaded (no network? {reason}).") from None
        group = loaded["groups"].get(name)
        chosen += [group] if group is not None else loaded["tasks"].values()
    seen = set()
    for task in _tasks(*chosen):
        if task.task_name in seen:
            raise UsageError(f"The task {task.task_name} is in two of --tasks; give only one of them.")
        seen.add(task.task_name)
        _prepare(task, num_fewshot)
    return chosen


def _tasks(*items) -> list:
    """The tasks of these tasks and groups."""
    return [task for item in items for task in (item.get_all_tasks() if _is_group(item) else [item])]


def _is_group(item) -> bool:
    return hasattr(item, "get_all_tasks")


def _name(item) -> str:
    return item.name if _is_group(item) else item.task_name


def _prepare(task, num_fewshot: int | None) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(
            f"The task {task.task_name} runs code that the model writes, which this command does not do; omit it."
        )
    if getattr(task, "MULTIMODAL", False):
        raise InputError(f"The task {task.task_name} has pictures or sounds, and this model reads text only; omit it.")
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        task.set_config("num_fewshot", 0)  # it reads no examples, and must not say that it did
    elif num_fewshot and not (task.has_training_docs() or task.has_validation_docs()):
        settings = getattr(task, "fewshot_cfg", None)
        if settings is None or (settings.split is None and settings.samples is None):
            raise InputError(f"{task.task_name} has no examples besides those it tests; omit --num_fewshot.")


def run_tasks(lm, chosen: list, num_fewshot: int | None = None, limit: int | None = None) -> dict:
    """The harness's results for what `load_tasks` returned, without its samples, as JSON can hold them."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable

    # Samples hold every prompt with its examples, hundreds of megabytes for MMLU: the cards have no predictions.
    settings = {"num_fewshot": num_fewshot, "limit": limit, "batch_size": lm.batch_size, "log_samples": False}
    try:  # what is chosen is loaded, so that no index of all tasks is needed again
        results = simple_evaluate(lm, tasks=chosen, task_manager=TaskManager(include_defaults=False), **settings)
    except OverflowError:
        raise InputError(
            "A perplexity is too large for a number; are the words of the task's text separated by spaces?"
        ) from None
    results.pop("pretty_env_info", None)  # of the whole machine; provenance.environment() says what matters
    return json.loads(json.dumps(results, default=handle_non_serializable))


def make_cards(chosen: list, results: dict, lm, limit: int | None, **background) -> list[ResultCard]:
    """
    A card for each task and group that was asked for; for the tasks of a group that has no score of its own.

    Args:
        chosen: what `load_tasks` returned.
        results: what `run_tasks` returned.
        lm: what `load_language_model` returned.
        background: the cards' `command` and `environment`.
    """
    documents = {task.task_name: list(islice(task.eval_docs, limit)) for task in _tasks(*chosen)}
    guessing = {task.task_name: Guessing.of_documents(task, documents[task.task_name]) for task in _tasks(*chosen)}
    cards = []
    for item in _with_scores(chosen):
        name, tasks = _name(item), _tasks(item)
        metrics = _metrics(results["results"][name], [results["higher_is_better"][task.task_name] for task in tasks])
        baselines = {CHANCE: {}, MOST_FREQUENT: {}}
        for metric in metrics:
            blind = _guessing(item, metric, results, guessing)
            if blind is not None:
                baselines[CHANCE][metric] = Metric(blind.chance)
                baselines[MOST_FREQUENT][metric] = Metric(max(blind.shares.values(), default=0.0))
        data = [{"source": _source(task), "sha256": _digest(documents[task.task_name])} for task in tasks]
        cards.append(
            ResultCard(
                task=name,
                protocol=_protocol(item, results, lm, limit),
                data=data,
                metrics=metrics,
                baselines={key: values for key, values in baselines.items() if values},
                seeds=[results["config"]["fewshot_seed"]],  # of the examples; the rest is without chance
                **background,
            )
        )
    return cards


def _with_scores(items) -> list:
    """The tasks and groups, but instead of a group that does not average its parts, these."""
    parts = [_with_scores(item) if _is_group(item) and not item.has_aggregation else [item] for item in items]
    return sum(parts, [])


def _metrics(values: dict, higher_is_better: Sequence[dict]) -> dict[str, Metric]:
    """A task's numbers, with 1.96 standard errors to both sides where the harness estimates one."""
    metrics = {}
    for key, value in values.items():
        name, _, filter_name = key.partition(",")
        if not filter_name or name.endswith("_stderr") or isinstance(value, str):
            continue
        error, interval = values.get(f"{name}_stderr,{filter_name}"), None
        if isinstance(error, float) and math.isfinite(error) and error > 0:  # 0: all documents alike, which tells none
            interval = [value - 1.96 * error, value + 1.96 * error]
            if name in ACCURACIES:
                interval = [max(interval[0], 0.0), min(interval[1], 1.0)]
        is_better = all(one.get(name) is not False for one in higher_is_better)
        metrics[name if filter_name == "none" else key] = Metric(value, interval, is_better)
    return metrics


def _guessing(item, metric: str, results: dict, guessing: dict[str, Guessing | None]) -> Guessing | None:
    if metric not in ACCURACIES:
        return None
    if not _is_group(item):
        return guessing[item.task_name]
    rules = [rule for rule in item.aggregate_metric_list if rule.metric == metric]
    names = [task.task_name for task in _tasks(item)]
    parts = [guessing[name] for name in names if f"{metric},none" in results["results"][name]]
    if len(rules) != 1 or rules[0].aggregation != "mean" or None in parts:
        return None
    return Guessing.of_parts(parts, rules[0].weight_by_size)


def _source(task) -> str:
    """Where a task's documents, which `_digest` is of, come from: data set, configuration, split, files."""
    config = task.config
    split = config.test_split if task.has_test_docs() else config.validation_split
    files = (config.dataset_kwargs or {}).get("data_files")
    files = files.get(split, files) if isinstance(files, dict) else files
    parts = [config.dataset_path or task.task_name, config.dataset_name, split, files]
    return "documents of " + ", ".join(str(part) for part in parts if part is not None)


def _digest(documents: list) -> str:
    """The SHA-256 of the documents that were evaluated, as JSON with sorted keys and without spaces."""
    text = json.dumps(documents, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _protocol(item, results: dict, lm, limit: int | None) -> str:
    tasks = _tasks(item)
    names = [task.task_name for task in tasks]
    version = results["versions"][_name(item)]
    shots = " and ".join(str(n) for n in sorted({results["n-shot"][name] for name in names}))
    sizes = [results["n-samples"][name] for name in names]
    done, all_ = (sum(size[key] for size in sizes) for key in ("effective", "original"))
    prompts = [one.args[0] for task in tasks for one in task.instances if one.request_type == "loglikelihood"]
    cut = sum(prompt in lm.cut for prompt in prompts)
    return (
        f"lm-evaluation-harness {results['lm_eval_version']}, the task's version {version}, {shots}-shot,"
        f" {done} {f'of {all_} ' if limit else ''}documents, at most {lm.max_length} tokens at a time"
        + (f", {cut} of {len(prompts)} prompts cut on the left to fit" if prompts else "")
    )


if __name__ == "__main__":  # the command as older result cards have it
    run_command("evaluate")
