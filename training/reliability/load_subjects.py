"""The pages that are put under load, with small models made here, and what their users do."""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from load_client import Answer, Client

TEXTS = Path(__file__).parents[1] / "demo_data" / "story.txt"
QUESTIONS = 24
IN_ONE_TAB = 5  # questions, then it is closed and another one opened
ITEMS = 6  # questions of a vote


class Subject(ABC):
    """A page: its model or files, and what a user of it does."""

    name: str
    expected: dict

    @abstractmethod
    def make(self, folder: Path) -> list:
        """Makes what the page shows; returns what follows `hf-gpt-scratch app`."""

    @abstractmethod
    def prepare(self, client: Client, users: int) -> None:
        """Asks all that will be asked, as a single user, and keeps the answers."""

    @abstractmethod
    def tab(self, client: Client, user: int, chance: random.Random) -> Iterator[tuple[Answer, str | None]]:
        """What a user does in one tab: each answer, and the one that the single user got."""


@dataclass
class Asked(Subject):
    """A page that one asks: question after question, of those that the single user asked."""

    name: str
    function: str
    expected: dict[str, str | None] = field(default_factory=dict)

    def questions(self) -> list[str]:
        lines = [line.strip() for line in TEXTS.read_text(encoding="utf-8").splitlines() if len(line) > 40]
        return [line[:120] for line in lines[:QUESTIONS]]

    def inputs(self, question: str) -> dict[int, object]:
        return {0: question}

    def ask(self, client: Client, question: str) -> Answer:
        return client.ask(self.function, self.inputs(question))

    def prepare(self, client: Client, users: int) -> None:
        self.expected = {question: self.ask(client, question).data for question in self.questions()}
        if None in self.expected.values() or len(set(self.expected.values())) < QUESTIONS:
            raise RuntimeError(f"{self.name}: a question has no answer of its own.")

    def tab(self, client: Client, user: int, chance: random.Random) -> Iterator[tuple[Answer, str | None]]:
        for question in chance.choices(list(self.expected), k=IN_ONE_TAB):
            yield self.ask(client, question), self.expected[question]


class ChatPage(Asked):
    """Each answer of at most 24 tokens, so that there are many."""

    def make(self, folder: Path) -> list:
        return ["chat", saved_model(folder, is_chat=True)]

    def inputs(self, question: str) -> dict[int, object]:
        return {0: question, 1: [], 4: 24}


class ClassifierPage(Asked):
    def make(self, folder: Path) -> list:
        return ["classify", saved_model(folder, is_chat=False)]


class BotPage(Asked):
    """A bot of the airline's questions and answers, with a language model of random weights."""

    def make(self, folder: Path) -> list:
        from hf_gpt_scratch.data.faq import load_faq
        from hf_gpt_scratch.faq.faq_file import FaqFile

        self.faq = load_faq(example("airline.jsonl"))
        saved_model(folder, is_chat=True)
        FaqFile(self.faq.entries, 0.5).write(folder)
        return ["chat", folder]

    def questions(self) -> list[str]:
        return [entry.question for entry in self.faq.entries[:QUESTIONS]]

    def inputs(self, question: str) -> dict[int, object]:
        return {0: question, 1: []}


@dataclass
class VotePage(Subject):
    """Each user votes on all questions, takes all votes back, and begins again; what is shown is the user's own."""

    name: str = "compare page"
    expected: dict[tuple[int, int], str | None] = field(default_factory=dict)

    def make(self, folder: Path) -> list:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            rows = [
                {"instruction": f"Question {i}", "input": "", "model_response": f"{name} {i}"} for i in range(ITEMS)
            ]
            (folder / f"{name}.json").write_text(json.dumps(rows))
        return ["compare", folder / "a.json", folder / "b.json", "--output", folder / "votes.sqlite"]

    def _ticket(self, user: int, item: int) -> str:
        return json.dumps({"rater": f"user {user}", "item": item})

    def _round(self, client: Client, user: int) -> Iterator[tuple[int, Answer]]:
        """Every question once, forward and back: the number of the item that is shown, and the answer."""
        yield 0, client.ask("begin", {0: f"user {user}"})
        for item in range(ITEMS):
            yield item + 1, client.ask("vote", {0: self._ticket(user, item), 1: "left"})
        for item in reversed(range(ITEMS)):
            yield item, client.ask("undo", {0: self._ticket(user, item + 1)})

    def prepare(self, client: Client, users: int) -> None:
        for user in range(users):
            for item, answer in self._round(client, user):
                if self.expected.setdefault((user, item), answer.data) != answer.data or answer.data is None:
                    raise RuntimeError(f"{self.name}: user {user} saw two things of item {item}.")

    def tab(self, client: Client, user: int, chance: random.Random) -> Iterator[tuple[Answer, str | None]]:
        for item, answer in self._round(client, user):
            yield answer, self.expected[user, item]


def example(name: str) -> Path:
    """A file of the examples that come with the package."""
    import hf_gpt_scratch

    return Path(hf_gpt_scratch.__file__).parent / "example_data" / name


def saved_model(folder: Path, is_chat: bool) -> Path:
    """A small model of random weights that differ enough for each text to have an answer of its own."""
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
    from hf_gpt_scratch.prompts import CHAT_TEMPLATE
    from hf_gpt_scratch.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXTS.read_text(encoding="utf-8").splitlines(), 400, model_max_length=256)
    tokenizer.chat_template = CHAT_TEMPLATE if is_chat else None
    tokenizer.save_pretrained(folder)
    ends = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    shape = {"n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    names = {} if is_chat else {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    torch.manual_seed(1)
    config = GPTScratchConfig(vocab_size=len(tokenizer), **shape, **ends, **names)
    kind = GPTScratchForCausalLM if is_chat else GPTScratchForSequenceClassification
    kind(config).save_pretrained(folder)
    return folder


SUBJECTS = (
    partial(ChatPage, "chat page", "ask"),
    partial(ClassifierPage, "classifier page", "judge"),
    partial(BotPage, "page of a bot", "ask"),
    VotePage,
)
