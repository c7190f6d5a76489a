"""What `train prefer` measures of the model before and after, and what it writes of that."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..data.losses import token_losses
from ..data.packing import IGNORED, LanguageModelCollator
from ..evaluation.intervals import bootstrap_mean, wilson
from ..evaluation.plots import Saved, plot_training
from ..evaluation.preference import mean_with_interval
from ..evaluation.responses import HISTORY
from ..generation.batch import Completion, complete_prompts
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_pretrained
from ..prompts import question_parts
from ..utils.files import write_json
from ..utils.result_card import Metric
from .run_record import Run

DEFINITIONS = {
    "reward_accuracy": "share of the test pairs whose chosen answer has the higher reward; the reward of an answer is"
    " beta times how much its log-probability rose by the training (Rafailov et al. 2023)",
    "reward_margin": "mean of the chosen answer's reward minus that of the rejected one",
    "dpo_loss": "mean of -log sigmoid(margin); 0.693 before the training",
    "chosen_reward": "mean reward of the chosen answers: below 0, even they became less likely",
    "rejected_reward": "mean reward of the rejected answers",
    "answer_tokens": "mean number of tokens of the answers to the test prompts, without the EOS token",
    "stop_rate": "share of these answers that end in the EOS token",
    "intervals": "95 %: percentiles of a bootstrap over the prompts; of a share that is the same for all, Wilson's",
}


@torch.inference_mode()
def log_probabilities(
    model: PreTrainedModel, rows: Sequence[Mapping], pad_token_id: int, batch_size: int = 8
) -> np.ndarray:
    """The log-probability of the chosen and of the rejected answer, given the prompt, of each row: `(rows, 2)`."""
    collate, found = LanguageModelCollator(pad_token_id), np.empty((len(rows), 2))
    model.eval()
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    order = sorted(range(len(rows)), key=lambda i: sum(len(rows[i][name]) for name in names))  # which pads little
    for start in range(0, len(rows), batch_size):
        numbers = order[start : start + batch_size]
        texts = [
            {
                "input_ids": row["prompt_ids"] + row[name],
                "labels": [IGNORED] * len(row["prompt_ids"]) + row[name],
            }
            for row in (rows[i] for i in numbers)
            for name in ("chosen_ids", "rejected_ids")
        ]
        batch = {name: value.to(model.device) for name, value in collate(texts).items()}
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits
        found[numbers] = -token_losses(logits, labels).double().sum(-1).view(-1, 2).cpu().numpy()
    return found


def preference_numbers(before: np.ndarray, after: np.ndarray, prompts: Sequence[str], beta: float, seed: int) -> dict:
    """The numbers of `DEFINITIONS` about rewards, of log-probabilities before and after the training `(rows, 2)`."""
    rewards = beta * (after - before)
    margins = rewards[:, 0] - rewards[:, 1]

    def clusters(values: np.ndarray) -> list[list[float]]:
        by_prompt = defaultdict(list)
        for prompt, value in zip(prompts, values.tolist()):
            by_prompt[prompt].append(value)
        return list(by_prompt.values())

    losses = np.logaddexp(0, -margins)
    return {
        **mean_with_interval("reward_accuracy", clusters((margins > 0).astype(float)), seed),
        "reward_margin": float(margins.mean()),
        "reward_margin_interval": bootstrap_mean(clusters(margins), seed),
        "dpo_loss": float(losses.mean()),
        "dpo_loss_interval": bootstrap_mean(clusters(losses), seed),
        "chosen_reward": float(rewards[:, 0].mean()),
        "rejected_reward": float(rewards[:, 1].mean()),
    }


def answer_numbers(answers: Sequence[Completion], seed: int) -> dict:
    """The numbers of `DEFINITIONS` about a model's answers."""
    lengths, stopped = [len(one.token_ids) for one in answers], sum(one.finish_reason == "stop" for one in answers)
    return {
        "answer_tokens": sum(lengths) / len(lengths),
        "answer_tokens_interval": bootstrap_mean([[length] for length in lengths], seed),
        "stop_rate": stopped / len(answers),
        "stop_rate_interval": wilson(stopped, len(answers)),
    }


def measure_both(
    run: Run, tokenizer: PreTrainedTokenizerBase, encoded: DatasetDict, make_base: Callable[[], PreTrainedModel]
) -> tuple[dict, dict[str, list[dict]]]:
    """
    The numbers of what was saved, and of the model before, which the same seed makes again; and by the name of its
    file the answers of either to the test prompts, as responses.json has them.
    """
    args, training_args = run.args, run.training_args
    print("\nAnswering the test prompts with the model before and after.")
    asked = _one_of_each_prompt(encoded["test"])[: args.answered_rows]
    answers, found, files = {}, {}, {}
    for when, make in {
        "before": make_base,
        "after": lambda: load_pretrained(GPTScratchForCausalLM, run.output_dir),
    }.items():
        set_seed(training_args.seed)
        model = make().to(training_args.device)
        found[when] = {
            name: log_probabilities(model, list(encoded[name]), tokenizer.pad_token_id)
            for name in ("validation", "test")
        }
        settings = {"batch_size": args.generation_batch_size, "repetition_penalty": args.repetition_penalty}
        prompts = [row["prompt_ids"] for row in asked]
        answers[when] = complete_prompts(model, prompts, args.max_new_tokens, tokenizer=tokenizer, **settings)
        files[when] = [_response(row, answer, tokenizer) for row, answer in zip(asked, answers[when])]
        model = None  # one at a time, for a GPU that holds no more
        torch.cuda.empty_cache()
    seed, beta = training_args.seed, training_args.beta
    numbers = {
        name: preference_numbers(
            found["before"][name], found["after"][name], [str(row["prompt"]) for row in encoded[name]], beta, seed
        )
        for name in ("validation", "test")
    }
    measured = {
        **numbers["test"],
        **answer_numbers(answers["after"], seed),
        "validation": numbers["validation"],
        "base": answer_numbers(answers["before"], seed),
        "answered_rows": len(asked),
    }
    return measured, {"responses.json": files["after"], "responses_before.json": files["before"]}


def _one_of_each_prompt(rows: Dataset) -> list[dict]:
    return list({str(row["prompt"]): row for row in reversed(list(rows))}.values())[::-1]


def _response(row: Mapping, answer: Completion, tokenizer: PreTrainedTokenizerBase) -> dict:
    """An answer as `evaluation.responses` reads it: the chosen answer stands for the reference."""
    *history, question = row["prompt"]
    instruction, input = question_parts(question["content"])
    text = tokenizer.decode(answer.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return {
        "instruction": instruction,
        "input": input,
        "output": row["chosen"],
        **({HISTORY: history} if history else {}),
        "model_response": text,
        "finish_reason": answer.finish_reason,
    }


def write_answers(output_dir: Path, answers: Mapping[str, list[dict]]) -> None:
    """Writes responses.json and responses_before.json, for `judge` and `app compare`."""
    for name, rows in answers.items():
        write_json(output_dir / name, rows)


def write_results(run: Run, metrics: dict, log_history: list[dict], saved: Saved) -> None:
    """Writes the numbers, the card and the picture, and prints a table of the numbers before and after."""
    numbers = {
        "reward_accuracy": Metric(metrics["reward_accuracy"], metrics["reward_accuracy_interval"]),
        "reward_margin": Metric(metrics["reward_margin"], metrics["reward_margin_interval"]),
        "dpo_loss": Metric(metrics["dpo_loss"], metrics["dpo_loss_interval"], higher_is_better=False),
    }
    stop_rates = [Metric(row["stop_rate"], row["stop_rate_interval"]) for row in (metrics, metrics["base"])]
    before = {"reward_margin": Metric(0.0), "dpo_loss": Metric(float(np.log(2)), higher_is_better=False)}
    run.write(
        "prefer",
        metrics,
        numbers | {"stop_rate": stop_rates[0]},
        protocol=f"split {metrics['split_seed']} by prompt: {metrics['sizes']['test']} test pairs, beta"
        f" {metrics['beta']:g}; {metrics['answered_rows']} test prompts answered, greedily, with a repetition penalty"
        f" of {metrics['repetition_penalty']:g}",
        baselines={"before": before | {"stop_rate": stop_rates[1]}},
        predictions="responses.json",
    )
    plot_training(log_history, run.picture("training"), "accuracy", saved, unit="nats per pair")
    print(f"\n{'':18}{'before':>10}{'trained':>10}")
    rows = {
        "reward_accuracy": (None, f"of {metrics['sizes']['test']} test pairs"),
        "reward_margin": (0.0, ""),
        "dpo_loss": (float(np.log(2)), ""),
        "answer_tokens": (metrics["base"]["answer_tokens"], f"of {metrics['answered_rows']} answers, on average"),
        "stop_rate": (metrics["base"]["stop_rate"], "share of these that end in the EOS token"),
    }
    for key, (was, meaning) in rows.items():
        shown = f"{'-':>10}" if was is None else f"{was:>10.4g}"
        interval = metrics.get(f"{key}_interval")
        between = f"  95 % interval {interval[0]:.4g} to {interval[1]:.4g}" if interval else ""
        print(f"{key:18}{shown}{metrics[key]:>10.4g}{between}  {meaning}".rstrip())
    files = ("responses.json", "responses_before.json", "metrics.json", "results/prefer.json", "plots/")
    run.say_what_is_there(files, "chat")
