"""
`FaqBot`: what a question is answered with, and whether. It retrieves an entry, asks the language model about it, and
answers from it where the two together leave little doubt.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import expit
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.losses import row_losses
from ..data.packing import LanguageModelCollator
from ..data.turns import Row, encode, encode_prompt
from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates, plain_words
from .faq_file import FEATURES, FaqFile, read_faq_file
from .retrieval import Retriever

MANY = 20  # questions, from which on a terminal shows how far it is
CANDIDATES = 10  # the entries whose answers the language model compares


@dataclass(frozen=True)
class Reply:
    """
    What a bot says.

    Attributes:
        text: the answer of the FAQ, to the letter, or the refusal.
        is_refusal: whether it is that.
        source: the question of the FAQ that is nearest, whose answer it is unless it is a refusal.
        similarity: of what was asked with that entry: the cosine of their TF-IDF vectors, 0 to 1; 1 for a wording that
            the FAQ has.
        confidence: that the entry answers it, 0 to 1; what is compared with the threshold.
        is_listed: whether the FAQ lists `source` as a question to refuse.
    """

    text: str
    is_refusal: bool
    source: str
    similarity: float
    confidence: float
    is_listed: bool = False

    @property
    def explanation(self) -> str:
        """Where the answer comes from, for those who read it."""
        if self.is_listed:
            return f"Listed as a question to refuse: {self.source}"
        what = "Nearest question, not near enough" if self.is_refusal else "From"
        return f"{what}: {self.source} (similarity {self.similarity:.2f})"


@dataclass(frozen=True)
class Read:
    """
    Questions as a bot reads them, `(N, entries)`: their similarities to the entries, and how probable the language
    model finds the answers of the nearest ones, among them.
    """

    similarities: np.ndarray
    opinions: np.ndarray

    @cached_property
    def best(self) -> np.ndarray:
        """The number of the nearest entry, `(N,)`."""
        return self.similarities.argmax(axis=1)

    @property
    def features(self) -> np.ndarray:
        """
        `FEATURES` of the nearest entry, `(N, 3)`: its similarity, by how much that is above the next one's, and the
        model's opinion of its answer.
        """
        rows, (second, first) = np.arange(len(self.best)), np.sort(self.similarities, axis=1)[:, -2:].T
        return np.stack([first, first - second, self.opinions[rows, self.best]], axis=1)

    def without(self, own: np.ndarray) -> "Read":
        """As if the entry that answers each question, `(N,)`, were not in the FAQ."""
        rows, similarities, opinions = np.arange(len(own)), self.similarities.copy(), self.opinions.copy()
        similarities[rows, own] = opinions[rows, own] = 0
        sums = opinions.sum(axis=1, keepdims=True)
        return Read(similarities, np.divide(opinions, sums, out=np.zeros_like(opinions), where=sums > 0))


class FaqBot:
    """
    Answers questions from an FAQ, or says that it does not know.

    Args:
        faq: the FAQ with its threshold.
        model, tokenizer: the language model that was trained on it.

    Attributes:
        reply: the last one that `ask` gave.

    Examples:
        >>> from hf_gpt_scratch import FaqBot
        >>> bot = FaqBot.from_pretrained("runs/airline")  # doctest: +SKIP
        >>> bot.answer("How heavy may my suitcase be?").text  # doctest: +SKIP
        'A checked bag may weigh up to 23 kg.'
    """

    def __init__(self, faq: FaqFile, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.faq, self.model, self.tokenizer = faq, model, tokenizer
        self.retriever = Retriever(faq.entries)
        self._numbers = {plain_words(text): i for i, entry in enumerate(faq.entries) for text in entry.phrasings}
        self.reply: Reply | None = None
        self.forgotten, self.finish_reason = 0, "stop"

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        report: Callable[[str], object] = lambda sentence: None,
    ) -> "FaqBot":
        """
        The bot in a folder or a Hub repository that `train chat` made; the arguments are those of `Chat`.

        Raises:
            InputError: when it holds none.
        """
        folder = ModelFolder.resolve(name_or_path)
        faq, options = read_faq_file(folder), {"device": device, "dtype": dtype, "report": report}
        model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, folder, **options)
        return cls(faq, model.eval(), tokenizer)

    def answer(self, question: str, threshold: float | None = None) -> Reply:
        """
        The reply to a question. A wording that the FAQ has, apart from case and punctuation, is always answered, and
        one that it lists as a question to refuse is always refused, whatever the threshold.

        Args:
            threshold: another than that of the FAQ.

        Raises:
            InputError: for an empty question, or one that is not UTF-8 text.
        """
        if not question.strip():
            raise InputError("The question is empty.")
        if has_lone_surrogates(question):
            raise InputError("The question is not UTF-8 text.")
        if reply := self._known(plain_words(question)):
            return reply
        read = self.read([question])
        [entry], [confidence] = read.best, self.confidences(read)
        is_refusal = not confidence > (self.faq.threshold if threshold is None else threshold)
        nearest, similarity = self.faq.entries[entry], float(read.similarities[0, entry])
        text = self.faq.refusal if is_refusal else nearest.answer
        return Reply(text, is_refusal, nearest.question, similarity, float(confidence))

    def _known(self, words: str) -> Reply | None:
        """The reply to a question of the FAQ, in `plain_words`."""
        if words in self._numbers:
            entry = self.faq.entries[self._numbers[words]]
            return Reply(entry.answer, False, entry.question, 1.0, 1.0)
        for text in self.faq.unanswered:
            if plain_words(text) == words:
                return Reply(self.faq.refusal, True, text, 1.0, 0.0, is_listed=True)
        return None

    def ask(self, text: str, max_new_tokens: int | None = None, input: str = "", **sampling) -> Iterator[str]:
        """As `Chat.ask`, for the terminal: the reply, which is then in `reply`; the settings do not matter to it."""
        self.reply = self.answer(f"{text}\n{input}" if input else text)
        return iter([self.reply.text])

    def reset(self) -> None:
        """Nothing: each question is answered by itself."""

    def read(self, questions: Sequence[str]) -> Read:
        """The questions, compared with all entries."""
        if not questions:
            return Read(*np.zeros((2, 0, len(self.faq.entries))))
        similarities = self.retriever.similarities(questions)
        pairs = zip(questions, similarities)
        shown = tqdm(pairs, total=len(questions), desc="Comparing", leave=False, disable=len(questions) < MANY or None)
        return Read(similarities, np.stack([self._opinion(*pair) for pair in shown]))

    def confidences(self, read: Read) -> np.ndarray:
        """The probability, `(N,)`, that the nearest entry answers a question, by the fitted weights."""
        weights = np.array([self.faq.weights[name] for name in FEATURES])
        return expit(read.features @ weights + self.faq.weights["bias"])

    def _opinion(self, question: str, similarities: np.ndarray) -> np.ndarray:
        """
        How probable the language model finds the answers of the nearest entries, among them, after a question:
        `(entries,)`, 0 for the others, the sum 1. Of a question that is too long for the model it reads the beginning.
        """
        question = beginning(question, self.tokenizer, self.model.config.n_positions)
        nearest = np.argsort(-similarities, kind="stable")[:CANDIDATES]
        losses = answer_losses(self.model, self.tokenizer, question, [self.faq.entries[i].answer for i in nearest])
        likely = np.exp(losses.min() - losses)
        found = np.zeros_like(similarities)
        found[nearest] = likely / likely.sum()
        return found


def conversation(question: str, answer: str) -> Row:
    """A question and its answer as the language model learns them."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def beginning(question: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> str:
    """As much of a question as a prompt for a model of `limit` tokens can hold."""
    while True:
        try:
            encode_prompt(tokenizer, question, limit)
            return question
        except InputError:
            if not question:
                raise
            question = question[: len(question) * 3 // 4]


@torch.inference_mode()
def answer_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str, answers: Sequence[str]
) -> np.ndarray:
    """The cross-entropy in nats of each answer as a whole, EOS token included, after the question: `(answers,)`."""
    rows = [encode(conversation(question, one), tokenizer, model.config.n_positions, True) for one in answers]
    batch = LanguageModelCollator(tokenizer.pad_token_id)(rows)
    batch = {name: value.to(model.device) for name, value in batch.items()}
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return row_losses(logits, batch["labels"])[:, 0].double().cpu().numpy()
