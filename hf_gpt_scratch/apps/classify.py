"""The page that shows how a classifier's answer changes from word to word, and labels a file of messages."""

import csv
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from ..classification.classifier import TextClassifier
from ..classification.prediction import Prediction
from ..data.columns import UNKNOWN, columns_trained_on, read_texts
from ..model_folder.contents import ModelFolder
from ..utils.errors import InputError
from . import examples, label_words, page, server, words

TITLE = "A text classifier, word by word"  # of a Space

MOST_MESSAGES = 10_000
MOST_BYTES = 10_000_000
LAST_READ = 32  # messages whose reading is kept
SHARED = {"concurrency_limit": server.RUNNING, "concurrency_id": "answers"}  # by all that reads a message


def serve(
    folder: str | os.PathLike, host: str, port: int | None, share: bool = False, access: Mapping = {}, **settings
) -> None:
    """
    The page for the classifier in `folder`, until Ctrl-C; `settings` are those of `load`, `access` are the password
    and the rate of `page.serve`.
    """
    css = words.CSS + label_words.CSS
    page.serve(load(folder, **settings), host, port, share, css, words.SCRIPT, **access)


def load(folder: str | os.PathLike, name: str | None = None, **placement):
    """
    The page for the classifier in `folder`.

    Args:
        folder: a folder or a Hub repository.
        name: what the page calls the model.
        placement: as for `TextClassifier.from_pretrained`.

    Raises:
        InputError: where there is none.
    """
    page.gradio()
    name, folder = name or page.model_name(folder), ModelFolder.resolve(folder)
    classifier = TextClassifier.from_pretrained(folder, **placement)
    return make_page(classifier, name, examples.messages(classifier, folder), columns_trained_on(folder))


def record_examples(folder: str | os.PathLike, path: str | os.PathLike) -> int:
    """Writes the examples of the page of `folder` to a file; returns how many there are."""
    found = examples.messages(TextClassifier.from_pretrained(folder), folder)
    examples.write(path, found, ("text", "label"))
    return len(found)


def read_messages(path: str | os.PathLike, trained_on: Mapping = UNKNOWN) -> list[str]:
    """
    The messages of a text file, one a line, or of a table such as CSV, in the column that the classifier was
    `trained_on` (as `columns_trained_on` has it), or in `text`, `message` or the like.

    Raises:
        InputError: for a file that is too large, cannot be read, lacks the column, or has no message.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"The file has more than {MOST_BYTES // 10**6} MB; split it into several files.")
    try:
        found = read_texts(path, trained_on=trained_on, remedy=f"call it {_usual_columns(trained_on)}")
        messages = [message for message in found if message.strip()]
    except InputError as error:  # the page knows the file by its name alone
        raise InputError(str(error).replace(str(path), path.name)) from None
    if not messages:
        raise InputError("The file holds no messages.")
    if len(messages) > MOST_MESSAGES:
        raise InputError(
            f"The file has {len(messages):,} messages; the page classifies at most {MOST_MESSAGES:,} at a time."
        )
    return messages


def _usual_columns(trained_on: Mapping) -> str:
    """The names of columns that the page reads."""
    own = trained_on.get("text_column")
    return "text or message" if own in (None, "text", "message") else f"{own}, text or message"


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


def make_page(
    classifier: TextClassifier,
    name: str = "a classifier",
    shown: Sequence[tuple[str, str]] = (),
    trained_on: Mapping = UNKNOWN,
):
    """
    The Gradio page of a classifier; `shown` are examples, each a message and its label, `trained_on` that of
    `read_messages`. Of two labels it has a slider for the threshold; of others, or where a message may be outside of
    both, the calibration alone decides.
    """
    if not has_threshold(classifier):
        return _page_of_labels(classifier, name, shown, trained_on)
    gr, names = page.gradio(), _names(classifier)
    title, sentence = heading(classifier)
    with page.blocks(title) as blocks:
        page.header(title, sentence, page.facts(classifier.model, name))
        with gr.Tab("Message"), gr.Row():  # on a phone a column
            text, go, buttons, one = _message(shown, opened(classifier, shown))
        with gr.Tab("File of messages", elem_id="many"):
            file, go_file, results, many = _file(trained_on)
        threshold = gr.Slider(
            *(0, 1, classifier.calibration.threshold),
            label=f"Threshold: a message above it is called {names[1]}",
            elem_id="threshold",
        )
        page.footer()

        judge, judge_again, judge_file, label = behaviour(classifier, many[1].GRADIO_CACHE, trained_on)
        judged = gr.State()
        answers = {"outputs": one, **SHARED}
        gr.on([go.click, text.submit], judge, [text, threshold], api_name="judge", **answers).then(js=words.INTO_VIEW)
        for button, (example, _) in zip(buttons, shown):
            taken = button.click(
                lambda value, example=example: (example, *judge(example, value)),
                *(threshold, [text, *one]),
                **{"api_visibility": "private", "show_progress": "hidden", **SHARED},
            )
            taken.then(js=words.INTO_VIEW)
        go_file.click(
            judge_file, [file, threshold], [judged, results, *many], api_name="judge_file", show_progress_on=file
        )
        moved = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last", **SHARED}
        threshold.input(judge_again, [text, threshold], one, **moved)
        threshold.input(label, [judged, threshold], many, **moved)
    return blocks


def has_threshold(classifier: TextClassifier) -> bool:
    """Whether the page shows one probability and a threshold: of two labels, where no message is outside of both."""
    calibration = classifier.calibration
    return len(classifier.labels) == 2 and not calibration.is_multi_label and calibration.outside_threshold is None


def heading(classifier: TextClassifier) -> tuple[str, str]:
    """The page's title, and the sentence that says what to do."""
    names = classifier.labels
    if has_threshold(classifier):
        title, said = f"{names[1]} or {names[0]}, word by word", f"how likely the message is to be {names[1]}"
    else:
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} others" if len(names) > 6 else "")
        title, said = "Labels, word by word", f"which of its labels fits: {listed}"
    sentence = f"This model reads a message word by word and says after each word {said}."
    return title[:1].upper() + title[1:], f"{sentence} Type a message or choose an example."


def _page_of_labels(classifier: TextClassifier, name: str, shown: Sequence[tuple[str, str]], trained_on: Mapping):
    """The page of a classifier of any labels."""
    gr = page.gradio()
    title, sentence = heading(classifier)
    judge, judge_file = behaviour_of_labels(classifier, trained_on)
    first = list(judge(shown[0][0])) if shown else ["", ""]
    with page.blocks(title) as blocks:
        page.header(title, sentence, page.facts(classifier.model, name))
        with gr.Tab("Message"), gr.Row():  # on a phone a column
            text, go, buttons, one = _message(shown, first)
        with gr.Tab("File of messages", elem_id="many"):
            file, go_file, results, many = _file(trained_on)
        page.footer()

        folder = many[1].GRADIO_CACHE
        gr.on([go.click, text.submit], judge, text, one, api_name="judge", **SHARED).then(js=words.INTO_VIEW)
        for button, (example, _) in zip(buttons, shown):
            taken = button.click(
                lambda example=example: (example, *judge(example)),
                *(None, [text, *one]),
                **{"api_visibility": "private", "show_progress": "hidden", **SHARED},
            )
            taken.then(js=words.INTO_VIEW)

        def judge_all(path: str | None, progress=gr.Progress()):  # noqa: B008 (Gradio's way)
            rows = judge_file(path, progress)
            return gr.Column(visible=True), rows, write_table(rows, folder)

        go_file.click(judge_all, file, [results, *many], api_name="judge_file", show_progress_on=file)
    return blocks


def behaviour_of_labels(classifier: TextClassifier, trained_on: Mapping = UNKNOWN):
    """What the page does with a message, and the rows that it makes of a file."""

    @page.errors_on_page()
    def judge(text: str | None):
        text = text or ""
        page.require_short(text)
        [prediction] = classifier.classify([text], words=True)
        readings = prediction.words
        colours = label_words.Colours(classifier.labels, readings)
        verdict = label_words.verdict_html(prediction, classifier.labels, colours, _note(classifier, prediction))
        return verdict, label_words.words_html(readings, colours, classifier.calibration.is_multi_label)

    @page.errors_on_page()
    def judge_file(path: str | None, progress):
        if path is None:
            raise InputError("Choose a file first.")
        messages = read_messages(path, trained_on)
        predictions = progress.tqdm(
            server.still_open(classifier.classify(messages)), total=len(messages), unit="messages"
        )
        return [[one.text, ", ".join(one.labels) or one.label, round(one.probability, 4)] for one in predictions]

    return judge, judge_file


def _note(classifier: TextClassifier, prediction) -> str:
    """Which part of a long message was read; nothing for others."""
    config = classifier.model.config
    part = f"only its {config.long_texts} {config.n_positions} tokens were read"
    return f"The message is too long for the model; {part}." if prediction.truncated else ""


def _names(classifier: TextClassifier) -> tuple[str, str]:
    """Those of label 0 and label 1."""
    return classifier.model.config.id2label[0], classifier.model.config.id2label[1]


def opened(classifier: TextClassifier, shown: Sequence[tuple[str, str]]) -> list[str]:
    """The verdict and the words of the first example, which the page opens with; empty where there is none."""
    judge = behaviour(classifier, "")[0]
    return list(judge(shown[0][0], classifier.calibration.threshold)) if shown else ["", ""]


def _message(shown: Sequence[tuple[str, str]], first: Sequence[str]) -> tuple:
    """The box of a message, its button, those of the examples, and where its verdict and its words are shown."""
    gr = page.gradio()
    with gr.Column(min_width=300):
        text = gr.Textbox(
            shown[0][0] if shown else "", label="Message", lines=3, max_lines=12, elem_id="message", max_length=None
        )
        go = gr.Button("Classify", variant="primary", elem_id="judge")
        buttons = page.example_buttons([example for example, _ in shown], "Examples that this model gets right:")
    with gr.Column(min_width=300):
        verdict = gr.HTML(first[0], padding=False)
        read = gr.HTML(first[1], padding=False)
    return text, go, buttons, [verdict, read]


def _file(trained_on: Mapping) -> tuple:
    """The box of a file, the button below it, and the column that shows the table and its download."""
    gr = page.gradio()
    named = page.escape(_usual_columns(trained_on))
    gr.HTML(f"Choose a text file with one message per line, or a CSV file with a column named {named}.")
    file = gr.File(label="Messages (.txt or .csv)", file_types=[".txt", ".csv"])
    go = gr.Button("Classify all", variant="primary", elem_id="judge-all")
    with gr.Column(visible=False) as results:
        rows = gr.Dataframe(
            headers=["message", "label", "probability"],
            datatype="str",
            interactive=False,
            wrap=True,
            column_widths=["42%", "20%", "38%"],  # on a phone too all are seen
            elem_id="table",
            label="Labels and probabilities",
        )
        save = gr.DownloadButton("Download as CSV", elem_id="download")
    return file, go, results, [rows, save]


def behaviour(classifier, folder: str, trained_on: Mapping = UNKNOWN):
    """What the page does with a message, with a file, and with a file's judgements when the threshold moves."""
    gr, names = page.gradio(), _names(classifier)

    @lru_cache(LAST_READ)  # so that a threshold that is moved costs nothing
    def read_text(text: str) -> Prediction:
        return next(classifier.classify([text], words=True))

    @page.errors_on_page()
    def judge(text: str | None, threshold: float):
        text = text or ""
        page.require_short(text)
        prediction = read_text(text)
        after = [(word.word, word.probabilities[1]) for word in prediction.words]
        read = words.words_html(after, threshold, names)
        return words.verdict_html(names, prediction.probability, threshold, _note(classifier, prediction)), read

    def judge_again(text: str, threshold: float):
        return judge(text, threshold) if (text or "").strip() else [gr.skip()] * 2

    @page.errors_on_page()
    def judge_file(path: str | None, threshold: float, progress=gr.Progress()):  # noqa: B008 (Gradio's way)
        if path is None:
            raise InputError("Choose a file first.")
        messages = read_messages(path, trained_on)
        predictions = progress.tqdm(
            server.still_open(classifier.classify(messages)), total=len(messages), unit="messages"
        )
        judged = [(one.text, one.probability) for one in predictions]
        return judged, gr.Column(visible=True), *label(judged, threshold)

    @page.errors_on_page()
    def label(judged: list[tuple[str, float]] | None, threshold: float):
        if judged is None:
            return None, None
        rows = [[text, names[int(number > threshold)], round(number, 4)] for text, number in judged]
        return rows, write_table(rows, folder)  # the path alone: of an updated button Gradio forgets the file

    return judge, judge_again, judge_file, label
