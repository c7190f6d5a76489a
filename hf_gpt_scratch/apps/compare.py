"""The page on which people compare two models' answers without seeing which is whose."""

import json
from collections.abc import Mapping, Sequence

from ..evaluation.preference import CHOICES, Pair, Votes, rater_name
from ..utils.errors import InputError
from . import page

TITLE = "Which answer is better?"
SENTENCE = (
    "Two models answered the same questions. Read both answers and vote; which model wrote which stays hidden, and the"
    " sides are shuffled."
)
BUTTONS = ("Answer 1 is better", "Answer 2 is better", "Tie", "Both bad")  # in the order of votes.CHOICES
HELP = "Keys: 1 or ← and 2 or → for the better answer, 0 for a tie, 9 for both bad, u to undo the last vote."
# A held key votes once, and shortcuts of the browser are not ours. Where no vote is due, there is no button.
KEYBOARD = """<script>
document.addEventListener("keydown", (event) => {
  const buttons = {"1": "left", ArrowLeft: "left", "2": "right", ArrowRight: "right", "0": "tie", "9": "both_bad",
                   u: "undo", U: "undo"};
  const button = document.getElementById(buttons[event.key]);
  if (!button || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  button.click();
});
</script>"""
TO_THE_TOP = "() => { window.scrollTo(0, 0); }"
# Each answer has its button at its end, and the other two are at the end of the page; all stay in sight beside long
# answers, for which no column may cut what sticks out of it.
CSS = """
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 16px; line-height: 1.5; max-width: 70ch; }
.label { font-weight: 600; margin-bottom: 8px; }
#progress progress { width: 100%; height: 10px; appearance: none; }
#progress progress, #progress progress::-webkit-progress-bar { background: var(--border-color-primary); }
#progress progress::-webkit-progress-value { background: var(--line-0); }
#progress progress::-moz-progress-bar { background: var(--line-0); }
#question .text { border-left: 4px solid var(--line-0); padding-left: 12px; }
.gradio-container { overflow: visible !important; }
#page, #page .column, #page .row, #page .block { overflow: visible; }
#answers { align-items: stretch; }
.answer { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px; }
.answer .block { flex-grow: 1; }
.answer button { position: sticky; bottom: 70px; z-index: 5; flex-grow: 0; }
#votes { position: sticky; bottom: 0; z-index: 10; padding: 8px 0; gap: 8px; flex-wrap: nowrap;
         background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }
#page button { min-height: 44px; border: 1px solid var(--border-color-primary); }
"""


def serve(
    pairs: Sequence[Pair], votes: Votes, host: str, port: int | None, share: bool = False, access: Mapping = {}
) -> None:
    """Serves the page until Ctrl-C; prints its address when it is ready. `access` is that of `chat.serve`."""
    note = f"Votes are saved in {votes.path}. "
    page.serve(make_page(pairs, votes), host, port, share, CSS, KEYBOARD, note, **access)


def as_text(text: str) -> str:
    """HTML that shows `text` as it is, line ends and all: the texts are not trusted."""
    return (
        f'<div class="text" dir="auto">{page.escape(text)}</div>'
        if text.strip()
        else '<div class="text"><i>(empty)</i></div>'
    )


class Voting:
    """What the page does: each method answers a click with new values of `make_page`'s components, by their names."""

    def __init__(self, pairs: Sequence[Pair], votes: Votes):
        self.pairs, self.votes = pairs, votes

    def begin(self, name: str) -> dict:
        return self._show(rater_name(name))

    def vote(self, ticket: str, choice: str) -> dict:
        rater, item = _read_ticket(ticket)
        if choice not in CHOICES:
            raise InputError(f"A vote is one of {', '.join(CHOICES)}.")
        self.votes.vote(rater, item, choice)
        return self._show(rater)

    def undo(self, ticket: str) -> dict:
        rater, item = _read_ticket(ticket)
        self.votes.undo(rater, item)
        return self._show(rater)

    def _show(self, rater: str) -> dict:
        """The rater's next pair, or that there is none."""
        gr, item, n = page.gradio(), self.votes.next_item(rater), len(self.pairs)
        update = {
            "start": gr.Column(visible=False),
            "voting": gr.Column(visible=True),
            "comparison": gr.Column(visible=item < n),
            "ticket": json.dumps({"rater": rater, "item": item}),
        }
        if item == n:
            return update | {"progress": _progress(n, n, f"All {n} of {n} are done. Thank you!")}
        pair = self.pairs[item]
        left, right = (pair.a, pair.b) if self.votes.a_is_left(rater, item) else (pair.b, pair.a)
        return update | {
            "progress": _progress(item, n, f"{item + 1} of {n}"),
            "question": as_text(f"{pair.instruction}\n\n{pair.input}" if pair.input else pair.instruction),
            "left": "<div class='label'>Answer 1</div>" + as_text(left),
            "right": "<div class='label'>Answer 2</div>" + as_text(right),
        }


def _progress(done: int, n: int, text: str) -> str:
    bar = f"<progress value='{done}' max='{n}' aria-label='Questions voted on'></progress>"
    return f"<div class='label' role='status'>{text}</div>{bar}"


def _read_ticket(text: str) -> tuple[str, int]:
    """The rater and the item that the browser showed."""
    try:
        content = json.loads(text)
        return rater_name(content["rater"]), int(content["item"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError("Type your name first, of at most 80 characters.") from None


def make_page(pairs: Sequence[Pair], votes: Votes):
    """The Gradio page on which raters vote."""
    gr, does = page.gradio(), Voting(pairs, votes)
    with page.blocks(TITLE) as blocks:
        page.header(TITLE, SENTENCE)
        with gr.Column() as start:
            name = gr.Textbox(
                label="Your name",
                info="Your votes are saved under it; type the same name to continue later.",
                max_length=80,
                autofocus=True,
                elem_id="name",
            )
            go = gr.Button("Start, or continue where you stopped", variant="primary", elem_id="start")
        with gr.Column(visible=False, elem_id="page") as voting:
            shown = {"start": start, "voting": voting, "progress": gr.HTML(elem_id="progress")}
            with gr.Column() as shown["comparison"]:
                buttons = _comparison(shown)
            take_back = gr.Button("Undo the last vote", elem_id="undo", size="sm")
        page.footer()
        # What the browser shows, sent back with each vote: a second click then votes on nothing that was not seen.
        ticket = shown["ticket"] = gr.Textbox(visible=False)
        choices = [gr.Textbox(choice, visible=False) for choice in CHOICES]

        def answering(act):
            def answer(*values):
                with page.errors_on_page():
                    return {shown[component]: value for component, value in act(*values).items()}

            return answer

        options = {"outputs": [*shown.values()], "show_progress": "hidden", "api_visibility": "undocumented"}
        gr.on([go.click, name.submit], answering(does.begin), name, api_name="begin", **options)
        for button, choice in zip(buttons, choices):
            click = button.click(answering(does.vote), [ticket, choice], api_name="vote", **options)
            click.then(js=TO_THE_TOP)
        take_back.click(answering(does.undo), ticket, api_name="undo", **options)
    return blocks


def _comparison(shown: dict) -> list:
    """The question and both answers, which are added to the components `shown`, and the buttons to vote with."""
    gr = page.gradio()
    shown["question"] = gr.HTML(elem_id="question", elem_classes="question")
    with gr.Row(elem_id="answers"):  # on a phone a column
        (shown["left"], first), (shown["right"], second) = map(_answer, (1, 2))
    gr.HTML(f'<div class="quiet">{HELP}</div>')
    with gr.Row(elem_id="votes"):
        others = [_button(number) for number in (2, 3)]
    return [first, second, *others]


def _answer(number: int) -> tuple:
    """An answer and the button that votes for it."""
    gr = page.gradio()
    with gr.Column(min_width=320, elem_classes="answer"):
        return gr.HTML(elem_id=f"answer-{number}", padding=True), _button(number - 1)


def _button(number: int):
    return page.gradio().Button(BUTTONS[number], elem_id=CHOICES[number], min_width=0)
