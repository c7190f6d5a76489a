"""`train chat` from its command line to a bot in the terminal, on the page and as a pushed folder."""

import io
import json
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from hf_gpt_scratch import cli
from hf_gpt_scratch.data.faq import load_faq
from hf_gpt_scratch.faq.bot import FaqBot
from hf_gpt_scratch.hub.files import uploadable
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.training import chat
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_card

SETTINGS = {
    "train_tokenizer": 330,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 200,
    "max_steps": 4,
    "max_new_tokens": 8,
    "refusal": "Ask a person.",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "use_cpu": True,
    "disable_tqdm": True,
}


def rows(answered: int, refused: int) -> list[dict]:
    """Some of the airline's questions."""
    text = (resources.files("hf_gpt_scratch.example_data") / "airline.jsonl").read_text(encoding="utf-8")
    every = [json.loads(line) for line in text.splitlines()]
    return every[:answered] + (every[-60 :: 60 // refused] if refused else [])


def train(folder: Path, lines: list[dict], **changes) -> dict:
    folder.mkdir(exist_ok=True)
    (folder / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    settings = {"data_file": folder / "faq.jsonl", "output_dir": folder / "bot", **SETTINGS, **changes}
    return chat.main([word for key, value in settings.items() for word in (f"--{key}", str(value))])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    train(folder, rows(24, 30))
    return folder / "bot"


def test_it_measures_what_it_did_not_learn(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["phrasings"] == {"train": 96, "validation": 24, "test": 24} and metrics["unanswered"] == 30
    bot, alone = metrics["methods"]["bot"], metrics["methods"]["model alone"]
    assert metrics["definitions"].keys() == bot.keys() and bot["right"]["questions"] == 24
    assert sum(bot[name]["value"] for name in ("right", "wrong", "refused")) == pytest.approx(1)
    assert bot["right"]["value"] > 0.4 and alone["right"]["value"] == 0  # four steps of training
    assert bot["refused_off_topic"]["value"] > 0.7 and bot["refused_off_topic"]["questions"] in (7, 8)
    assert bot["right"]["interval"][0] < bot["right"]["value"] < bot["right"]["interval"][1]
    card = read_card(trained / "results" / "chat.json")
    assert card.metrics["wrong"].higher_is_better is False and "TF-IDF nearest question" in card.baselines
    said = pd.read_csv(trained / "replies.csv", keep_default_na=False)
    right = (said.reply == said.expected) & (said.kind == "answered")
    assert right.sum() == round(24 * bot["right"]["value"])
    assert (said.reply == "Ask a person.").sum() == said.is_refusal.sum()


def test_the_bot_knows_all_wordings_and_says_nothing_else(trained):
    bot = FaqBot.from_pretrained(trained, device="cpu")
    faq = load_faq(trained.parent / "faq.jsonl")
    assert [list(entry.phrasings) for entry in bot.faq.entries] == [entry.phrasings for entry in faq.entries]
    answers = {entry.answer for entry in faq.entries}
    for entry in faq.entries[::4]:
        for text in entry.phrasings:
            reply = bot.answer(text + "!", threshold=1.0)
            assert (reply.text, reply.is_refusal) == (entry.answer, False)
    assert len(bot.faq.unanswered) == 30
    for text, _ in faq.unanswered:
        assert bot.answer(text.upper().rstrip("?"), threshold=0.0).text == "Ask a person."
    reply = bot.answer("May somebody's bicycle come along?")
    assert reply.text in answers | {"Ask a person."} and (reply.text in answers) != reply.is_refusal


def test_the_terminal_says_where_an_answer_comes_from(trained, monkeypatch, capsys):
    long = "Write a poem about autumn leaves. " * 100  # longer than the model reads
    asked = f"How heavy may my cabin bag be?\n{long}\n/reset\n/help\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(asked))
    assert cli.main(["chat", str(trained), "--device", "cpu", "--temperature", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["A cabin bag may weigh up to 8 kg.", "Ask a person."]
    assert "(From: How heavy may my cabin bag be? (similarity 1.00" in err
    assert "(Nearest question, not near enough: " in err
    assert "note: answers come from the FAQ, so --temperature has no effect" in err
    assert "/quit" in err and "/reset" not in err and "/adapter" not in err and "Ctrl-C" not in err
    monkeypatch.setattr("sys.stdin", io.StringIO("How heavy may my cabin bag be?\n"))
    assert cli.main(["chat", str(trained), "--device", "cpu", "--write"]) == 0
    assert capsys.readouterr().out.strip() != "A cabin bag may weigh up to 8 kg."  # of an untrained model


def test_the_page_shows_the_source_below_the_answer(trained):
    pytest.importorskip("gradio")
    from hf_gpt_scratch.apps import chat as page
    from hf_gpt_scratch.apps import faq

    blocks = page.load(trained, device="cpu")
    assert "It answers from 24 questions and answers" in json.dumps(blocks.get_config_file())
    bot = FaqBot.from_pretrained(trained, device="cpu")
    shown, emptied = faq.answer(bot, "How heavy may my <cabin> bag be?", [], bot.faq.threshold)
    assert shown[0]["content"] == "How heavy may my &lt;cabin&gt; bag be?" and emptied == ""
    answer, _, source = shown[1]["content"].partition("<br>")
    assert answer == "A cabin bag may weigh up to 8 kg."
    assert source.startswith('<span class="of-source">From: How heavy may my cabin bag be? (similarity 1.00')
    refused, _ = faq.answer(bot, "How heavy may that cabin bag be?", shown, 1.0)
    assert len(refused) == 4 and refused[3]["content"].startswith("Ask a person.<br>")


def test_the_faq_travels_and_the_rest_is_a_plain_model(trained, tmp_path):
    pytest.importorskip("gradio")
    from hf_gpt_scratch.apps import chat as page
    from hf_gpt_scratch.apps.space import export_space

    export_space(trained, tmp_path / "space", page)  # after all checks
    names = {path.name for path in (tmp_path / "space" / "model").iterdir()}
    assert "faq.json" in names and not {"replies.csv", "metrics.json"} & names
    bot = FaqBot.from_pretrained(tmp_path / "space" / "model", device="cpu")
    assert bot.answer("How heavy may my cabin bag be?").text == "A cabin bag may weigh up to 8 kg."
    assert AutoModelForCausalLM.from_pretrained(trained, trust_remote_code=True).can_generate()
    card = str(make_card(trained, "you/bot"))
    assert 'FaqBot.from_pretrained("you/bot")' in card and "an FAQ of 24 answers" in card
    assert card.index("FaqBot.from_pretrained") < card.index("alone, which may write what") < card.index("pipeline(")
    assert "one of the 30 questions that it lists to be refused always refused" in card
    assert "tested, on little: 24 rephrasings in a half" in card and "so only its refusals are told" in card
    assert read_card(trained / "results" / "chat.json").baselines["model alone"].keys() >= {"right", "wrong"}
    assert "refused" not in read_card(trained / "results" / "chat.json").baselines["model alone"]  # it cannot
    assert "| Right | " in card and "Not measured" not in card and "do not take its answers" not in card


def test_a_new_model_in_the_folder_takes_the_faq_away(trained, tmp_path):
    from hf_gpt_scratch.model_folder.saving import replace_model
    from support.models import save_model

    (tmp_path / "bot").mkdir()
    for path in uploadable(trained):
        if path.parent == trained:
            (tmp_path / "bot" / path.name).write_bytes(path.read_bytes())
    replace_model(save_model(tmp_path / "new"), tmp_path / "bot")
    assert not (tmp_path / "bot" / "faq.json").exists()


def test_a_bare_list_of_questions_is_enough(tmp_path, capsys):
    bare = [{"question": row["question"], "answer": row["answer"]} for row in rows(12, 0)]
    metrics = train(tmp_path, bare, refuse=1.0)
    assert metrics["methods"] == {} and not (tmp_path / "bot" / "results").exists()
    assert "12 questions whose own entry was left out" in metrics["promise"]
    shown = capsys.readouterr().out
    assert "Nothing was measured" in shown and metrics["caution"] in shown
    assert "does not know, chat with a higher --threshold than" in shown
    assert "on little: 0 rephrasings and 0 questions to be refused in a half" in metrics["caution"]
    bot = FaqBot.from_pretrained(tmp_path / "bot", device="cpu")
    assert bot.answer(bare[1]["question"]).text == bare[1]["answer"]
    assert bot.answer("Sing a song about penguins.").is_refusal


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"refuse": 0}, UsageError, "refuse must be above 0"),
        ({"refusal": " "}, UsageError, "refusal must be a text"),
        ({"lora_r": 4}, UsageError, "An adapter needs a pretrained model"),
        ({"data_file": "nowhere.jsonl"}, InputError, "nowhere.jsonl does not exist"),
    ],
)
def test_wrong_settings(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        train(tmp_path, rows(6, 0), **changes)
    assert not (tmp_path / "bot").exists()


def test_a_second_subject_as_an_adapter_of_the_first(trained, tmp_path, monkeypatch, capsys):
    pytest.importorskip("peft")
    text = (resources.files("hf_gpt_scratch.example_data") / "academic.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()[:8]]
    bases = {"model_name_or_path": trained, "lora_r": 2, "max_steps": 1}
    own = ("train_tokenizer", "n_embd", "n_layer", "n_head", "n_positions")
    settings = {key: value for key, value in (SETTINGS | bases).items() if key not in own}
    (tmp_path / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    settings |= {"data_file": tmp_path / "faq.jsonl", "output_dir": tmp_path / "bot"}
    chat.main([word for key, value in settings.items() for word in (f"--{key}", str(value))])
    assert {"adapter_config.json", "faq.json"} <= {path.name for path in uploadable(tmp_path / "bot")}
    bot = FaqBot.from_pretrained(tmp_path / "bot", device="cpu")
    assert bot.answer(lines[0]["question"]).source == lines[0]["question"]
    _ask_the_adapter(trained, tmp_path / "bot", lines[0], monkeypatch, capsys)


def _ask_the_adapter(base, folder, row, monkeypatch, capsys):
    """It answers from its FAQ beside others too, on the page and in the terminal."""
    pytest.importorskip("gradio")
    from hf_gpt_scratch.apps import chat as page

    blocks = page.load(base, adapters={"studies": folder}, device="cpu")
    [ask] = [function for function in blocks.fns.values() if function.api_name == "ask"]
    settings = [one.value for one in ask.inputs[3:]]
    shown = []
    for number in (1, 2):
        *_, (shown, *_) = ask.fn("studies", row["question"], shown, *settings)
        assert len(shown) == 2 * number
        assert shown[-1]["content"].startswith(f'{row["answer"]}<br><span class="of-source">From: {row["question"]} (')
    monkeypatch.setattr("sys.stdin", io.StringIO(row["question"] + "\n"))
    capsys.readouterr()
    assert cli.main(["chat", str(base), "--adapter", f"studies={folder}", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == row["answer"] + "\n"
