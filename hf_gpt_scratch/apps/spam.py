"""A page that shows how a spam filter's opinion moves from word to word, and judges a file of messages."""

import argparse
import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from . import page

MOST_MESSAGES = 10_000
MOST_BYTES = 10_000_000
EXAMPLE = "Hi, are you free tonight? You have won a prize, call now to claim it"
CSS = """
#words { font-size: 18px; line-height: 2; overflow-wrap: anywhere; white-space: pre-wrap; }
#words span { border-radius: 4px; padding: 2px 1px; color: black; }
#words .spam { font-weight: 700; text-decoration: underline; }
#verdict { font-size: 20px; font-weight: 600; }
footer { display: none !important; }
"""
LEGEND = (
    "<small>Blue: ham, red: spam, by the probability after each word; underlined where it is above the threshold."
    " Point at a word for the number.</small>"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    page.add_model_arguments(parser, "a spam filter, such as training/finetune_spam.py leaves it")


def run(args: argparse.Namespace) -> None:
    """The command."""
    page.run(args, "spam", serve)


def serve(folder: str | os.PathLike, host: str, port: int | None) -> None:
    """The page for the classifier in `folder`, until Ctrl-C."""
    from ..inference import SpamClassifier

    page.gradio()
    page.serve(make_page(SpamClassifier.from_pretrained(folder)), host, port, CSS)


def words_html(words: Sequence[tuple[str, float]], threshold: float) -> str:
    """The words on backgrounds from blue (ham) to red (spam), each with its probability as a tooltip."""
    spans = []
    for word, probability in words:
        colour = "215, 48, 39" if probability > 0.5 else "69, 117, 180"
        mark = ' class="spam"' if probability > threshold else ""
        style = f"background: rgba({colour}, {0.1 + 1.2 * abs(probability - 0.5):.2f})"
        spans.append(f'<span{mark} style="{style}" title="{probability:.1%}">{page.escape(word)}</span>')
    return f'<div id="words" dir="auto">{"".join(spans)}</div>{LEGEND}'


def curve(words: Sequence[tuple[str, float]], threshold: float):
    """The probability of spam after each word, and the threshold, as a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(words) + 1), [probability for _, probability in words], marker=".")
    axis.axhline(threshold, color="grey", linestyle=":", label="threshold")
    axis.set(xlabel="words read", ylabel="probability of spam", ylim=(-0.02, 1.02))
    if len(words) <= 20:
        labels = [word.strip()[:12].replace("$", r"\$") for word, _ in words]
        axis.set_xticks(range(1, len(words) + 1), labels, rotation=45, ha="right")
    axis.grid(alpha=0.3)
    axis.legend(loc="center right")
    return figure


def read_messages(path: str | os.PathLike) -> list[str]:
    """
    The messages of a text file, one a line, or of a CSV file, in its column `text` or `message`.

    Raises:
        InputError: for a file that is too large, is no UTF-8 text, lacks the column, or has no message.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"The file has more than {MOST_BYTES // 10**6} MB; cut it into several.")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The file is not UTF-8 text ({error.reason}).") from None
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(content.splitlines(keepends=True))
        columns = [name for name in rows.fieldnames or () if (name or "").strip().lower() in ("text", "message")]
        if not columns:
            raise InputError("The CSV file has no column named text or message.")
        messages = [row[columns[0]] or "" for row in rows]
    else:
        messages = content.splitlines()
    messages = [message for message in messages if message.strip()]
    if not messages:
        raise InputError("The file holds no messages.")
    if len(messages) > MOST_MESSAGES:
        raise InputError(f"The file has {len(messages):,} messages; the page judges {MOST_MESSAGES:,} at a time.")
    return messages


def without_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def make_page(classifier):
    """The Gradio page of a `SpamClassifier`."""
    gr = page.gradio()
    names = classifier.model.config.id2label

    def judge(text: str, threshold: float):
        def act():
            [prediction] = classifier.classify([text])
            words = classifier.word_probabilities(text)
            label = names[int(prediction.probability > threshold)]
            verdict = f'<div id="verdict">{page.escape(label)} ({prediction.probability:.1%} spam)</div>'
            if prediction.truncated:
                verdict += f"<div>Only its first {classifier.model.config.n_positions} tokens were read.</div>"
            return verdict, words_html(words, threshold), curve(words, threshold)

        return page.reporting_errors(act)

    def judge_again(text: str, threshold: float):
        return judge(text, threshold) if text.strip() else (gr.skip(), gr.skip(), gr.skip())

    def judge_file(path: str | None, threshold: float):
        def act():
            if path is None:
                raise InputError("Choose a file first.")
            messages = read_messages(path)
            rows = [
                [one.text, names[int(one.probability > threshold)], round(one.probability, 4)]
                for one in classifier.classify(messages)
            ]
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", newline="", prefix="judged-", suffix=".csv", delete=False
            ) as file:
                writer = csv.writer(file)
                writer.writerow(["message", "label", "probability"])
                writer.writerows([without_formula(text), *rest] for text, *rest in rows)
            return gr.Dataframe(rows, visible=True), gr.DownloadButton(value=file.name, visible=True)

        return page.reporting_errors(act)

    with gr.Blocks(title="Spam, word by word", analytics_enabled=False) as blocks:
        gr.HTML("<h2>Spam, word by word</h2>")
        threshold = gr.Slider(
            0, 1, classifier.calibration.threshold, label="Threshold: spam above it", elem_id="threshold"
        )
        with gr.Tab("A message"), gr.Row():  # on a phone a column
            with gr.Column(min_width=300):
                text = gr.Textbox(EXAMPLE, label="Message", lines=4, max_lines=12, elem_id="message")
                go = gr.Button("Judge", variant="primary", elem_id="judge")
                verdict = gr.HTML()
                words = gr.HTML()
            with gr.Column(min_width=300):
                plot = gr.Plot(show_label=False, elem_id="curve")
        with gr.Tab("A file of many", elem_id="many"):
            file = gr.File(label="A message a line, or a CSV with a column text", file_types=[".txt", ".csv"])
            go_file = gr.Button("Judge all", variant="primary", elem_id="judge-all")
            headers = ["message", "label", "probability of spam"]
            rows = gr.Dataframe(headers=headers, datatype="str", interactive=False, wrap=True, visible=False)
            save = gr.DownloadButton("Download as CSV", visible=False, elem_id="download")
        shown = [verdict, words, plot]
        gr.on([go.click, text.submit], judge, [text, threshold], shown, api_name="judge")
        threshold.release(judge_again, [text, threshold], shown, api_visibility="private", show_progress="hidden")
        go_file.click(judge_file, [file, threshold], [rows, save], api_name="judge_file")
    return blocks
