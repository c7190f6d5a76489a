"""
What `train instruct` measures of the trained model and of its base model, and what it writes of that. `args` are the
job's settings, `instruct.InstructArguments`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..data import turns
from ..data.losses import perplexities
from ..evaluation.instruction import repetition_rate
from ..evaluation.intervals import wilson
from ..evaluation.plots import Saved, plot_training
from ..generation.batch import complete_prompts
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_pretrained
from ..utils.files import write_json
from ..utils.result_card import Metric, rounded
from .run_record import Run


def measure(model, tokenizer, rows, args, quiet: bool) -> tuple[dict, list]:
    """The numbers of `evaluation.instruction.DEFINITIONS` on encoded rows, and the answers."""
    rows = list(rows)
    result = perplexities(model, rows, tokenizer.pad_token_id)
    start = time.perf_counter()
    prompts = [row["input_ids"][:start] for row in rows for start, _ in row["answers"]][: args.answered_rows]
    with tqdm(total=len(prompts), desc="Answering", disable=True if quiet else None) as bar:
        answers = complete_prompts(
            model,
            prompts,
            args.max_new_tokens,
            args.generation_batch_size,
            repetition_penalty=args.repetition_penalty,
            progress=bar.update,
            tokenizer=tokenizer,
        )
    seconds = time.perf_counter() - start
    stopped = sum(answer.finish_reason == "stop" for answer in answers)
    return {
        **result,
        "stop_rate": stopped / len(answers),
        "repetition_rate": repetition_rate(answer.token_ids for answer in answers),
        "tokens_per_second": rounded((sum(len(answer.token_ids) for answer in answers) + stopped) / seconds),
    }, answers


def measure_both(
    args, training_args, tokenizer, encoded, make_base: Callable[[], PreTrainedModel]
) -> tuple[dict, dict, list]:
    """The numbers of what was saved, and of the base model, which the same seed makes again; the former's answers."""
    print("\nAnswering the test instructions with the trained model and the base model.")
    device, quiet = training_args.device, training_args.disable_tqdm
    model = load_pretrained(GPTScratchForCausalLM, training_args.output_dir).to(device)
    trained, answers = measure(model, tokenizer, encoded["test"], args, quiet)
    trained["validation"] = perplexities(model, list(encoded["validation"]), tokenizer.pad_token_id)
    model = None  # one at a time, for a GPU that holds no more
    torch.cuda.empty_cache()
    set_seed(training_args.seed)
    base, _ = measure(make_base().to(device), tokenizer, encoded["test"], args, quiet)
    return trained, base, answers


def card_numbers(row: dict, answered: int) -> dict[str, Metric]:
    """What the result card has of a model, of which so many answers were looked at."""
    names = ("response_perplexity", "later_response_perplexity")
    return {
        **{name: Metric(row[name], higher_is_better=False) for name in names if name in row},
        "perplexity": Metric(row["perplexity"], higher_is_better=False),
        "stop_rate": Metric(row["stop_rate"], wilson(round(row["stop_rate"] * answered), answered)),
        "repetition_rate": Metric(row["repetition_rate"], higher_is_better=False),
    }


def write_responses(
    output_dir: Path, rows: Dataset, kept_answers: Sequence[int], answers: list, tokenizer: PreTrainedTokenizerBase
) -> None:
    """
    Writes responses.json: the test questions and the model's answers to them; a question with others before it in its
    conversation, or with a system message, has these as its `history`.
    """
    questions = [question for row, kept in zip(rows, kept_answers) for question in turns.questions(row)[:kept]]
    responses = [
        {
            **question,
            "model_response": tokenizer.decode(
                answer.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            "finish_reason": answer.finish_reason,
        }
        for question, answer in zip(questions, answers)
    ]
    write_json(output_dir / "responses.json", responses)


def write_results(run: Run, metrics: dict, log_history: list[dict], saved: Saved) -> None:
    """Writes the numbers, the card and the picture, and prints a table of the numbers before and after."""
    answered, rows = metrics["answered_rows"], metrics["sizes"]["test"]
    later = "later_response_perplexity" in metrics
    asked = "their questions" if later else "them"
    run.write(
        "instructions",
        metrics,
        card_numbers(metrics, answered),
        protocol=f"split {metrics['split_seed']}: {rows} test rows, {answered} of {asked} answered, greedily, with a"
        f" repetition penalty of {metrics['repetition_penalty']:g}; perplexity per token of the tokenizer"
        f" {metrics['tokenizer']}",
        baselines={"before tuning": card_numbers(metrics["base"], answered)},
        predictions="responses.json",
    )
    width = 27 if later else 22
    plot_training(log_history, run.picture("training"), "perplexity", saved, unit="nats per token")
    print(f"\n{'':{width}}{'before':>10}{'trained':>10}")
    for key, meaning in {
        "response_perplexity": f"of the {rows} test {'conversations' if later else 'responses'}",
        **({"later_response_perplexity": "of second and later answers"} if later else {}),
        "perplexity": "prompts included"
        + (", which mask_prompt keeps out of training" if metrics["mask_prompt"] else ""),
        "stop_rate": f"share of {answered} answers that end in the EOS token",
        "repetition_rate": "share of repeated 4-grams in the answers",
    }.items():
        print(f"{key:{width}}{metrics['base'][key]:>10.4g}{metrics[key]:>10.4g}   {meaning}")
    files = ("responses.json", "metrics.json", "results/instructions.json", "plots/")
    run.say_what_is_there(files, "chat")
