"""The page that shows how a spam classifier's opinion moves from word to word, and judges a file of messages."""

import csv
import io
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..classification.classifier import TextClassifier
from ..utils.errors import InputError
from . import page

TITLE = "Spam, word by word"

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


def serve(folder: str | os.PathLike, host: str, port: int | None, **placement) -> None:
    """The page for the classifier in `folder`, until Ctrl-C."""
    page.serve(load(folder, **placement), host, port, CSS)


def load(folder: str | os.PathLike, **placement):
    """The page for the classifier in `folder`; raises `InputError` where there is none."""
    page.gradio()
    return make_page(TextClassifier.from_pretrained(folder, **placement))


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
    axis.legend(loc="best")
    return figure


def read_messages(path: str | os.PathLike) -> list[str]:
    """
    The messages of a text file, one a line, or of a CSV file, in its column `text` or `message`.

    Raises:
        InputError: for a file that is too large, is no UTF-8 text or CSV, lacks the column, or has no message.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"The file has more than {MOST_BYTES // 10**6} MB; cut it into several.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The file is not UTF-8 text ({error.reason}).") from None
    # Not splitlines(), which would cut messages at form feeds and at Unicode's own line ends.
    is_table = path.suffix.lower() == ".csv"
    messages = _column(content) if is_table else [line.rstrip("\r") for line in content.split("\n")]
    messages = [message for message in messages if message.strip()]
    if not messages:
        raise InputError("The file holds no messages.")
    if len(messages) > MOST_MESSAGES:
        raise InputError(f"The file has {len(messages):,} messages; the page judges {MOST_MESSAGES:,} at a time.")
    return messages


def _column(content: str) -> list[str]:
    """The column of messages in the content of a CSV file."""
    rows = csv.DictReader(io.StringIO(content, newline=""), strict=True)  # a stray quote would swallow what follows
    try:
        columns = [name for name in rows.fieldnames or () if (name or "").strip().lower() in ("text", "message")]
        if not columns:
            raise InputError("The CSV file has no column named text or message.")
        return [row[columns[0]] or "" for row in rows]
    except csv.Error as error:
        raise InputError(f"The CSV file cannot be read: {error}, at line {rows.reader.line_num}.") from None


def without_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, whatever invisible characters it begins with."""
    first = next((character for character in text if unicodedata.category(character)[0] not in "CZ"), "")
    return f"'{text}" if unicodedata.normalize("NFKC", first) in ("=", "+", "-", "@") else text


def write_table(rows: Iterable[Sequence], folder: str | os.PathLike) -> str:
    """Writes messages, labels and probabilities into a new CSV file in `folder`; returns its path."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor, path = tempfile.mkstemp(".csv", "judged-", folder)
    with open(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["message", "label", "probability"])
        writer.writerows([without_formula(text), without_formula(label), number] for text, label, number in rows)
    return path


def make_page(classifier: TextClassifier):
    """The Gradio page of a classifier."""
    gr = page.gradio()
    with page.blocks(TITLE) as blocks:
        gr.HTML(f"<h2>{TITLE}</h2>")
        threshold = gr.Slider(
            0, 1, classifier.calibration.threshold, label="Threshold: spam above it", elem_id="threshold"
        )
        with gr.Tab("A message"), gr.Row():  # on a phone a column
            text, go, one = _message()
        with gr.Tab("A file of many", elem_id="many"):
            file, go_file, results, many = _file()

        judge, judge_again, judge_file, label = behaviour(classifier, many[1].GRADIO_CACHE)
        judged = gr.State()
        gr.on([go.click, text.submit], judge, [text, threshold], one, api_name="judge")
        go_file.click(
            judge_file, [file, threshold], [judged, results, *many], api_name="judge_file", show_progress_on=file
        )
        moved = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
        threshold.input(judge_again, [text, threshold], one, **moved)
        threshold.input(label, [judged, threshold], many, **moved)
    return blocks


def _message() -> tuple:
    """The box of a message, the button below it, and where its verdict, its words and their curve are shown."""
    gr = page.gradio()
    with gr.Column(min_width=300):
        text = gr.Textbox(EXAMPLE, label="Message", lines=4, max_lines=12, elem_id="message")
        go = gr.Button("Judge", variant="primary", elem_id="judge")
        verdict = gr.HTML()
        words = gr.HTML()
    with gr.Column(min_width=300):
        plot = gr.Plot(show_label=False, elem_id="curve")
    return text, go, [verdict, words, plot]


def _file() -> tuple:
    """The box of a file, the button below it, and the column that shows the table and its download."""
    gr = page.gradio()
    gr.HTML("A text file of a message a line, or a CSV file with a column named text.")
    file = gr.File(label="Messages", file_types=[".txt", ".csv"])
    go = gr.Button("Judge all", variant="primary", elem_id="judge-all")
    with gr.Column(visible=False) as results:
        rows = gr.Dataframe(
            headers=["message", "label", "p(spam)"],
            datatype="str",
            interactive=False,
            wrap=True,
            column_widths=["48%", "20%", "32%"],  # on a phone too all are seen
            elem_id="table",
        )
        save = gr.DownloadButton("Download as CSV", elem_id="download")
    return file, go, results, [rows, save]


def behaviour(classifier, folder: str):
    """What the page does with a message, with a file, and with a file's judgements when the threshold moves."""
    gr = page.gradio()
    names = classifier.model.config.id2label

    @page.errors_on_page()
    def judge(text: str, threshold: float):
        page.require_short(text)
        [prediction] = classifier.classify([text])
        words = classifier.word_probabilities(text)
        name = names[int(prediction.probability > threshold)]
        verdict = f'<div id="verdict">{page.escape(name)} ({prediction.probability:.1%} spam)</div>'
        if prediction.truncated:
            verdict += f"<div>Only its first {classifier.model.config.n_positions} tokens were read.</div>"
        return verdict, words_html(words, threshold), curve(words, threshold)

    def judge_again(text: str, threshold: float):
        return judge(text, threshold) if text.strip() else [gr.skip()] * 3

    @page.errors_on_page()
    def judge_file(path: str | None, threshold: float, progress=gr.Progress()):  # noqa: B008 (Gradio's way)
        if path is None:
            raise InputError("Choose a file first.")
        messages = read_messages(path)
        predictions = progress.tqdm(classifier.classify(messages), total=len(messages), unit="messages")
        judged = [(one.text, one.probability) for one in predictions]
        return judged, gr.Column(visible=True), *label(judged, threshold)

    @page.errors_on_page()
    def label(judged: list[tuple[str, float]] | None, threshold: float):
        if judged is None:
            return None, None
        rows = [[text, names[int(number > threshold)], round(number, 4)] for text, number in judged]
        return rows, write_table(rows, folder)  # the path alone: of an updated button Gradio forgets the file

    return judge, judge_again, judge_file, label
