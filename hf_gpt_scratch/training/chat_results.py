"""What `train chat` measures of a bot and of what it is compared with, and what it writes of that."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..data.faq import ANSWERED, UNANSWERED, Asked, FaqSplit
from ..data.turns import encode_prompt
from ..evaluation.intervals import wilson
from ..evaluation.plots import Saved, plot_training
from ..faq.bot import FaqBot, Read, beginning
from ..faq.fitting import fit, threshold_of
from ..generation.batch import complete_prompts
from ..utils.files import write_json, write_whole
from ..utils.result_card import Metric
from .run_record import Run

BOT, RETRIEVAL = "bot", "bot without its model"
NEAREST, MODEL = "TF-IDF nearest question", "model alone"
WHOLE = "bot with all wordings"  # the one that is saved
ENOUGH = {"rephrasings": 30, "questions to be refused": 10}  # in the validation set, and in the test set
DEFINITIONS = {
    "right": "share of the test rephrasings that get the answer of their question",
    "wrong": "share of them that get another answer",
    "refused": "share of them that are refused",
    "refused_near_miss": "share of the near-miss questions that are refused",
    "refused_off_topic": "share of the off-topic questions that are refused",
    "refused_left_out": "share of the test rephrasings that are refused once their own entry is left out of the FAQ",
}


def measure(bot: FaqBot, whole: FaqBot, parts: FaqSplit, refuse: float) -> dict[str, dict]:
    """
    The numbers of `DEFINITIONS` of the bot and of what it is compared with, by name, each with its interval and how
    many questions it is of. Every threshold is fitted on the same validation questions; what the model writes by
    itself is never a refusal. Of `whole`, which knows the test rephrasings, they are the refusals, as if it did not
    know the questions to be refused. Without test questions there is nothing.
    """
    if not parts.test.questions:
        return {}
    without = FaqBot(fit(bot, parts.validation, refuse, use_model=False), bot.model, bot.tokenizer)
    read = bot.read(parts.test.questions)
    own = np.array([-1 if entry is None else entry for entry in parts.test.entries])
    left_out = Read(read.similarities[own >= 0], read.opinions[own >= 0]).without(own[own >= 0])
    found = {}
    for name, one in ((BOT, bot), (RETRIEVAL, without)):
        is_said = one.confidences(read) > one.faq.threshold
        found[name] = _numbers(parts, read.best, is_said, one.confidences(left_out) > one.faq.threshold)
    is_said = whole.confidences(whole.read(parts.test.questions)) > whole.faq.threshold
    refused = [None if not answers else "" for answers in is_said]
    found[WHOLE] = {name: one for name, one in _shares(parts, refused).items() if name.startswith("refused_")}
    return found | {NEAREST: _nearest(bot, parts, own, refuse), MODEL: _written(bot, parts)}


def caution(parts: FaqSplit) -> str:
    """A sentence where so little was held out that the numbers mean little, or ""."""
    halves = parts.validation, parts.test
    counts = {
        "rephrasings": min(len(half.of(ANSWERED).questions) for half in halves),
        "questions to be refused": min(len(half.of(*UNANSWERED).questions) for half in halves),
    }
    few = [f"{count} {what}" for what, count in counts.items() if count < ENOUGH[what]]
    if not few:
        return ""
    return (
        f"The threshold was fitted, and the bot tested, on little: {' and '.join(few)} in a half. Take the numbers as"
        f" a hint; {ENOUGH['questions to be refused'] * 2} questions to be refused, and four rephrasings of each"
        " question, make them steadier."
    )


def _nearest(bot: FaqBot, parts: FaqSplit, own: np.ndarray, refuse: float) -> dict:
    """The numbers of the nearest phrasing, refused where its cosine is too small."""
    cosines, unanswered = bot.retriever.nearest_questions, parts.validation.of(*UNANSWERED).questions
    if unanswered:
        to_refuse = cosines(unanswered)
    else:
        to_refuse = cosines([entry.question for entry in parts.entries])
        np.fill_diagonal(to_refuse, 0)
    threshold = threshold_of(to_refuse.max(axis=1), refuse)
    test = cosines(parts.test.questions)
    left_out = test[own >= 0]
    left_out[np.arange(len(left_out)), own[own >= 0]] = 0
    return _numbers(parts, test.argmax(axis=1), test.max(axis=1) > threshold, left_out.max(axis=1) > threshold)


def _numbers(parts: FaqSplit, best: np.ndarray, is_said: np.ndarray, is_said_left_out: np.ndarray) -> dict:
    """The numbers, of the nearest entry of each test question and whether it is answered from that."""
    said = [parts.entries[entry].answer if answers else None for entry, answers in zip(best, is_said)]
    left_out = {"refused_left_out": _share(~is_said_left_out)} if len(is_said_left_out) else {}
    return _shares(parts, said) | left_out


def _written(bot: FaqBot, parts: FaqSplit) -> dict:
    """The numbers of what the language model writes by itself, greedily, and how much of it the FAQ does not say."""
    limit, longest = bot.model.config.n_positions, bot.model.generation_config.max_new_tokens
    asked = [beginning(question, bot.tokenizer, limit) for question in parts.test.questions]
    prompts = [encode_prompt(bot.tokenizer, question, limit)[0] for question in asked]
    with tqdm(total=len(prompts), desc="Answering", leave=False, disable=None) as bar:
        written = complete_prompts(bot.model, prompts, longest, tokenizer=bot.tokenizer, progress=bar.update)
    said = [bot.tokenizer.decode(one.token_ids, skip_special_tokens=True).strip() for one in written]
    known = {entry.answer for entry in parts.entries}
    return {**_shares(parts, said), "not_in_the_faq": _share([text not in known for text in said])}


def _shares(parts: FaqSplit, said: Sequence[str | None]) -> dict:
    """Of what was said to each test question, `None` where it was refused."""
    test, numbers = parts.test, {}
    pairs = [(text, parts.entries[own].answer) for text, own in zip(said, test.entries) if own is not None]
    if pairs:
        numbers = {
            "right": _share([text == answer for text, answer in pairs]),
            "wrong": _share([text not in (answer, None) for text, answer in pairs]),
            "refused": _share([text is None for text, _ in pairs]),
        }
    for kind in UNANSWERED:
        refused = [text is None for text, one in zip(said, test.kinds) if one == kind]
        if refused:
            numbers[f"refused_{kind.replace('-', '_')}"] = _share(refused)
    return numbers


def _share(outcomes: Sequence[bool]) -> dict:
    total, trials = int(sum(outcomes)), len(outcomes)
    return {"value": total / trials, "interval": wilson(total, trials), "questions": trials}


def replies(bot: FaqBot, test: Asked, answers: Sequence[str]) -> pd.DataFrame:
    """What the bot says to each test question, and what it should."""
    rows = []
    for question, own, kind in zip(test.questions, test.entries, test.kinds):
        reply = bot.answer(question)
        expected = "" if own is None else answers[own]
        said = (reply.text, reply.is_refusal, reply.source, reply.similarity, reply.confidence)
        rows.append((question, kind, expected, *said))
    columns = ("question", "kind", "expected", "reply", "is_refusal", "source", "similarity", "confidence")
    return pd.DataFrame(rows, columns=columns)


def write_results(run: Run, metrics: dict, said: pd.DataFrame, log_history: list[dict], saved: Saved) -> None:
    """Writes the replies, the numbers, the card and the picture, and prints the numbers as a table."""
    write_whole(run.output_dir / "replies.csv", said.to_csv(index=False))
    plot_training(log_history, run.picture("training"), "perplexity", saved, unit="nats per token")
    files = ["faq.json", "replies.csv", "metrics.json", "results/chat.json", "plots/"]
    if methods := metrics["methods"]:
        _write_card(run, metrics)
        print(f"\n{table(methods)}\n\nref.: refused; left_out: rephrasings whose own entry was taken out of the FAQ.")
        print(
            f"The bot in the folder is the {WHOLE}. It knows the test rephrasings too, so what cannot be told of it is"
            " blank; its refusals were counted before it knew the questions to be refused."
        )
    else:
        write_json(run.output_dir / "metrics.json", metrics)
        files.remove("results/chat.json")
        print("\nNothing was measured: the FAQ has neither rephrasings nor questions to be refused to test with.")
    print(f"On the validation set, the threshold {metrics['promise']}.")
    if metrics["caution"]:
        print(f"{metrics['caution']} {_stricter(metrics['refuse'], metrics['threshold'])}")
    run.say_what_is_there(files, "chat")


def _stricter(refuse: float, threshold: float) -> str:
    """What to do about a bot that answers what it does not know."""
    again = f"train it with a higher --refuse than {refuse:g}, or " if refuse < 1 else ""
    return f"If the bot answers what it does not know, {again}chat with a higher --threshold than {threshold:.2f}."


def _write_card(run: Run, metrics: dict) -> None:
    methods = {name: numbers for name, numbers in metrics["methods"].items() if numbers}
    alone = {name: number for name, number in methods[MODEL].items() if name != "refused"}  # which it cannot
    run.write(
        "chat",
        metrics,
        _card_numbers(methods[BOT]),
        protocol=f"split {metrics['split_seed']}: {metrics['phrasings']['test']} rephrasings that the bot of"
        f" {metrics['entries']} answers did not know, and half of the {metrics['unanswered']} questions to be refused;"
        f" on the validation set the threshold {metrics['promise']}; the {WHOLE} knows the test rephrasings, so only"
        " its refusals are told, as before it knew the questions to be refused",
        baselines={name: _card_numbers(one) for name, one in (methods | {MODEL: alone}).items() if name != BOT},
        predictions="replies.csv",
    )


def table(methods: dict[str, dict]) -> str:
    """The numbers as lines of text, a row for each of what was measured: per cent, with intervals."""
    columns = [key for key in DEFINITIONS if any(key in numbers for numbers in methods.values())]
    lines = [f"{'per cent':24}" + "".join(f"{key.replace('refused_', 'ref. '):>15}" for key in columns)]
    for name, numbers in ((name, numbers) for name, numbers in methods.items() if numbers):
        lines.append(f"{name:24}" + "".join(f"{_cell(numbers.get(key)):>15}" for key in columns))
    return "\n".join(lines)


def _cell(number: dict | None) -> str:
    if number is None:
        return ""
    low, high = number["interval"]
    return f"{100 * number['value']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def _card_numbers(numbers: dict) -> dict[str, Metric]:
    is_worse = ("wrong", "refused", "not_in_the_faq")
    return {
        name: Metric(one["value"], one["interval"], higher_is_better=name not in is_worse)
        for name, one in numbers.items()
    }
