"""
A classifier's opinion after the next word of a text that is being typed: a session that keeps what it has read,
against reading the whole text so far anew.

    python training/benchmarks/typed_words.py

Five words are typed at each place, 10, 50, 100 and 200 words into a text, each one timed for itself by both ways. What
they say must be equal within 1e-4. A word should cost the same wherever it stands.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, ratios_of, row, write

PLACES = (10, 50, 100, 200)  # words that are there before the first one that is timed
WORDS = 5  # that are typed
STORY = Path(__file__).parents[1] / "demo_data" / "story.txt"
CLOSE = 1e-4


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__)
    return parser


def make_model(folder: str, shape: str, seed: int) -> None:
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForSequenceClassification
    from hf_gpt_scratch.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(STORY.read_text(encoding="utf-8").splitlines(), 4000)
    n_embd, n_layer, n_head = SHAPES[shape]
    config = GPTScratchConfig(
        **{"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head, "num_labels": 2},
        **{"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id},
        initializer_range=0.02 if shape == "124M" else 0.2,
    )
    torch.manual_seed(seed)
    GPTScratchForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prefixes(place: int) -> list[str]:
    """The text with so many words, and after each of the next ones."""
    words = STORY.read_text(encoding="utf-8").split()
    return [" ".join(words[: place + typed]) for typed in range(WORDS + 1)]


def make_session(folder: str, place: int):
    """Types the next words into a session that has read those before; they are taken back before the next round."""
    from hf_gpt_scratch.classification.classifier import TextClassifier

    texts = prefixes(place)
    session = TextClassifier.from_pretrained(folder, device="cpu", dtype="float32").session()
    session.read(texts[0])

    def unit():
        session.read(texts[0])
        return WORDS, [session.read(text).probabilities for text in texts[1:]]

    return unit


def make_anew(folder: str, place: int):
    """Reads the whole text after each of the next words."""
    from hf_gpt_scratch.classification.classifier import TextClassifier

    texts = prefixes(place)
    classifier = TextClassifier.from_pretrained(folder, device="cpu", dtype="float32")

    def unit():
        return WORDS, [next(classifier.classify([text])).probabilities for text in texts[1:]]

    return unit


def differences(outputs: dict) -> str | None:
    for place in [place for place in PLACES if f"anew, {place} words in" in outputs]:
        pairs = zip(outputs[f"session, {place} words in"], outputs[f"anew, {place} words in"], strict=True)
        moved = max(abs(one - other) for pair in pairs for one, other in zip(*pair))
        if moved > CLOSE:
            return f"{place} words in, a probability differs by {moved:.6f}"
    return None


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    shape, places = ("tiny", PLACES[:2]) if args.quick else ("124M", PLACES)
    with tempfile.TemporaryDirectory() as folder:
        apart(make_model, folder, shape, args.seed)
        contenders = [
            Contender(f"{way}, {place} words in", make, {"folder": folder, "place": place})
            for place in places
            for way, make in (("session", make_session), ("anew", make_anew))
        ]
        measured = measure(contenders, args.rounds, f"session, {places[0]} words in", differences)
    rows, (n_embd, n_layer, _) = [], SHAPES[shape]
    weights_gb = 12 * n_layer * n_embd**2 * 4 / 1e9  # of the blocks, which each word reads once
    for place in places:
        session, anew = (measured["contenders"][f"{way}, {place} words in"] for way in ("session", "anew"))
        milliseconds = 1000 / session["per_second"]
        note = f"{milliseconds:.1f} ms a word, {1000 / anew['per_second']:.1f} ms anew"
        ratios, _ = ratios_of(measured, f"session, {place} words in", f"anew, {place} words in")
        question = f"the next word's opinion, {shape}, {place} words in"
        asked = 10 if place == PLACES[-1] else None
        why = f"a word reads {weights_gb:.2f} GB of weights, {weights_gb * session['per_second']:.0f} GB/s"
        rows.append(row(question, "reading the text anew", asked, ratios, note=note, if_missed=why))
    longest = measured["contenders"][f"session, {places[-1]} words in"]
    rows.append(
        row(
            f"the time of a word's opinion, {shape}, {places[-1]} words in",
            f"{places[0]} words in",
            120,
            [100 / ratio for ratio in longest["ratios"]],
            **{"unit": "%", "at_most": True},
        )
    )
    task = f"{WORDS} words typed one by one, {shape}, fp32"
    compared = f"probabilities after each word within {CLOSE}"
    return write(measured, __file__, args, argv, task=task, compared=compared, rows=rows)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
