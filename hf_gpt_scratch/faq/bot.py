"""`FaqBot`: what a question is answered with, and whether. It retrieves, asks the language model, and then decides."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.losses import row_losses
from ..data.packing import LanguageModelCollator
from ..data.turns import Row, encode
from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates
from .faq_file import FaqFile, read_faq_file
from .retrieval import Retriever

CANDIDATES = 10  # the entries whose answers the language model compares


@dataclass(frozen=True)
class Reply:
    """
    What a bot says.

    Attributes:
        text: the answer of the FAQ, to the letter, or the refusal.
        is_refusal: whether it is that.
        source: the question of the FAQ that is nearest, whose answer it is unless it is a refusal.
        similarity: of what was asked with that question and its answer: the cosine of their TF-IDF vectors, 0 to 1.
        score: what is compared with the threshold.
    """

    text: str
    is_refusal: bool
    source: str
    similarity: float
    score: float

    @property
    def explanation(self) -> str:
        """Where the answer comes from, for those who read it."""
        what = "Nearest question, not near enough" if self.is_refusal else "From"
        return f"{what}: {self.source} (similarity {self.similarity:.2f})"


class FaqBot:
    """
    Answers questions from an FAQ, or says that it does not know.

    Args:
        faq: the FAQ with its threshold.
        model, tokenizer: the language model that was trained on it; not needed where `faq.model_weight` is 0.

    Examples:
        >>> from hf_gpt_scratch import FaqBot
        >>> bot = FaqBot.from_pretrained("runs/airline")  # doctest: +SKIP
        >>> bot.answer("How heavy may my suitcase be?").text  # doctest: +SKIP
        'A checked bag may weigh up to 23 kg.'
    """

    def __init__(
        self,
        faq: FaqFile,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ):
        self.faq, self.model, self.tokenizer = faq, model, tokenizer
        self.retriever = Retriever(faq.entries)
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
        faq = read_faq_file(folder)
        model, tokenizer = load_with_tokenizer(
            GPTScratchForCausalLM, folder, device=device, dtype=dtype, report=report
        )
        return cls(faq, model.eval(), tokenizer)

    def answer(self, question: str, threshold: float | None = None) -> Reply:
        """
        The reply to a question.

        Args:
            threshold: another than that of the FAQ.

        Raises:
            InputError: for an empty question, or one that is too long for the model.
        """
        if not question.strip():
            raise InputError("The question is empty.")
        if has_lone_surrogates(question):
            raise InputError("The question is not UTF-8 text.")
        similarities = self.retriever.similarities([question])[0]
        scores = self.scores(question, similarities)
        best, limit = int(scores.argmax()), self.faq.threshold if threshold is None else threshold
        entry, is_refusal = self.faq.entries[best], not scores[best] > limit
        text = self.faq.refusal if is_refusal else entry.answer
        return Reply(text, is_refusal, entry.question, float(similarities[best]), float(scores[best]))

    def ask(self, text: str, max_new_tokens: int | None = None, input: str = "", **sampling) -> Iterator[str]:
        """As `Chat.ask`, for the terminal: the reply, which is then in `reply`; the settings do not matter to it."""
        self.reply = self.answer(f"{text}\n{input}" if input else text)
        return iter([self.reply.text])

    def reset(self) -> None:
        """Nothing: each question is answered by itself."""

    def scores(self, question: str, similarities: np.ndarray) -> np.ndarray:
        """The similarities `(entries,)`, and of the nearest ones the language model's opinion added."""
        if not self.faq.model_weight:
            return similarities
        opinion = self.opinion(question, similarities)
        return similarities + self.faq.model_weight * opinion

    def opinion(self, question: str, similarities: np.ndarray) -> np.ndarray:
        """
        Of the nearest entries, how probable the language model finds each answer after this question, among them:
        `(entries,)`, 0 for the others, the sum 1.
        """
        nearest = np.argsort(-similarities, kind="stable")[:CANDIDATES]
        losses = answer_losses(self.model, self.tokenizer, question, [self.faq.entries[i].answer for i in nearest])
        likely = np.exp(losses.min() - losses)
        found = np.zeros_like(similarities)
        found[nearest] = likely / likely.sum()
        return found


def conversation(question: str, answer: str) -> Row:
    """A question and its answer as the language model learns them."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


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
