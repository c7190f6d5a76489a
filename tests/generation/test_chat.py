"""A conversation keeps to the trained template, stops where the answer ends, and survives interruptions and length."""

import io
import os
import select
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, pipeline, set_seed

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification, load
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.commands.chat import converse
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, OLLAMA_TEMPLATE, render_prompt, user_message
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model

ANSWERS = {
    "Say yes.": "Yes, of course.",
    "Say no.": "No, never.",
    "Count.": "one two three four " * 20,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model that has learnt ANSWERS by heart: two short ones and one of 80 words."""
    set_seed(0)
    documents = [render_prompt(question) + answer for question, answer in ANSWERS.items()]
    tokenizer = train_tokenizer(documents * 2, 400, model_max_length=256)
    tokenizer.chat_template = CHAT_TEMPLATE
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    special |= {f"{kind}_pdrop": 0.0 for kind in ("embd", "attn", "resid")}  # by heart
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_positions=256, n_embd=64, n_layer=2, n_head=2, **special)
    model = GPTScratchForCausalLM(config)
    rows = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in documents]
    batch = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("chat") / "model"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def chat(folder):
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return Chat(model, tokenizer, history=True)


def ask(chat, question, **settings) -> str:
    return "".join(chat.ask(question, temperature=0, **settings))


@pytest.mark.parametrize("instruction, input", [("Do it's {{ 1 }}", ""), ("Add.", "1\n2 'and' \"3\" <b>")])
def test_chat_template_is_the_training_prompt(folder, instruction, input):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    message = {"role": "user", "content": user_message(instruction, input)}
    rendered = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert rendered == render_prompt(instruction, input)
    answered = tokenizer.apply_chat_template([message, {"role": "assistant", "content": "A"}], tokenize=False)
    assert answered == render_prompt(instruction, input) + "A" + tokenizer.eos_token


def test_ollama_template_is_the_training_prompt():
    filled = OLLAMA_TEMPLATE.replace("{{ .Prompt }}", "Do it.").replace("{{ .Response }}", "")
    system = filled[filled.index("{{ else }}") + len("{{ else }}") : filled.index("{{ end }}")]
    rest = (
        filled[filled.index("{{ end }}") + len("{{ end }}") :].replace("{{ if .Prompt }}", "").replace("{{ end }}", "")
    )
    assert system + rest == render_prompt("Do it.")


def test_template_refuses_roles_out_of_place(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wrong = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    with pytest.raises(Exception, match="at most one system message"):
        tokenizer.apply_chat_template(wrong, tokenize=False)


def test_answer_ends_at_the_end_token(chat):
    assert ask(chat, "Say yes.") == "Yes, of course."
    assert chat.finish_reason == "stop"
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]


def test_pipeline_gives_the_same_answer(folder, chat):
    answer = pipeline("text-generation", model=chat.model, tokenizer=chat.tokenizer)(
        [{"role": "user", "content": "Say no."}], max_new_tokens=30, do_sample=False
    )
    assert answer[0]["generated_text"][-1]["content"] == ask(chat, "Say no.")


def test_later_questions_are_read_after_the_earlier_ones(chat, monkeypatch):
    ask(chat, "Say yes.")
    read = []
    monkeypatch.setattr(
        "hf_gpt_scratch.generation.chat.stream_text",
        lambda model, tokenizer, prompt, *_, **__: read.append(prompt) or [],
    )
    ask(chat, "Say no.")
    assert read[0].startswith(render_prompt("Say yes.") + "Yes, of course." + chat.tokenizer.eos_token)
    assert read[0].endswith("\n\n### Instruction:\nSay no.\n\n### Response:\n")


def test_system_message_takes_the_preambles_place(chat):
    polite = Chat(chat.model, chat.tokenizer, system="Be polite.")
    assert polite._render([{"role": "user", "content": "Hi"}]).startswith("Be polite.\n\n### Instruction:\nHi")


def test_oldest_exchanges_are_forgotten_when_they_no_longer_fit(chat):
    for number in range(8):
        ask(chat, f"Say yes. {number}", max_new_tokens=20)
        if chat.forgotten:
            break
    else:
        pytest.fail("nothing was forgotten")
    assert chat.messages[-2]["content"] == f"Say yes. {number}"
    assert chat._length(chat.messages) <= 256
    assert chat.messages[0]["role"] == "user" and chat.messages[0]["content"] != "Say yes. 0"


def test_without_history_each_question_is_read_alone(folder, chat, monkeypatch):
    alone = Chat(chat.model, chat.tokenizer)  # the default for the Alpaca prompt
    assert not alone.history
    ask(alone, "Say yes.")
    read = []
    monkeypatch.setattr(
        "hf_gpt_scratch.generation.chat.stream_text",
        lambda model, tokenizer, prompt, *_, **__: read.append(prompt) or [],
    )
    ask(alone, "Say no.")
    assert read == [render_prompt("Say no.")]


def test_question_that_does_not_fit_is_refused_and_not_kept(chat):
    ask(chat, "Say yes.")
    before = list(chat.messages)
    with pytest.raises(InputError, match="the model reads at most 256"):
        ask(chat, "word " * 300)
    with pytest.raises(InputError, match="empty"):
        ask(chat, "  ")
    assert chat.messages == before


def test_text_that_is_no_utf8_is_refused(chat):
    with pytest.raises(InputError, match="not UTF-8"):
        ask(chat, "hi \udcff")
    with pytest.raises(InputError, match="not UTF-8"):
        Chat(chat.model, chat.tokenizer, system="\udcff")
    assert chat.messages == []


def test_cut_answer_says_so(chat):
    assert len(ask(chat, "Count.", max_new_tokens=5)) > 0
    assert chat.finish_reason == "length"


def test_interrupted_answer_is_kept_as_far_as_it_came(chat):
    answer = chat.ask("Count.", temperature=0)
    said = next(answer) + next(answer)
    answer.close()
    assert chat.finish_reason == "interrupted"
    assert chat.messages[-1] == {"role": "assistant", "content": said}
    assert ask(chat, "Say no.")


def test_model_without_a_template_is_refused(chat):
    chat.tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        Chat(chat.model, chat.tokenizer)


COMMAND = [sys.executable, "-c", "from hf_gpt_scratch_cli import run; run()", "chat"]


def test_command_answers_lines_from_a_pipe(folder):
    lines = "Say yes.\n\n/reset\n/nonsense\n" + "word " * 300 + "\nSay no.\n"
    done = subprocess.run([*COMMAND, folder], input=lines, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "Yes, of course." and len(done.stdout.splitlines()) == 2
    assert done.returncode == 1
    errors = done.stderr.splitlines()[1:]
    assert errors[0] == "error: There is no command /nonsense; /help lists them."
    assert errors[1].startswith("error: The question has") and len(errors) == 2


@pytest.fixture
def typed_in(folder, monkeypatch, capsys):
    """What the command prints and complains of when these lines come from a pipe; its options are the keywords."""

    def run(lines: list[str], *options: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, ""])))
        assert main(["chat", str(folder), *options]) == 0
        out, err = capsys.readouterr()
        return out, err.removeprefix("Using cpu, float32.\n")

    return run


@pytest.mark.parametrize("word", ["/quit", "quit", "exit", " /exit "])
def test_a_word_ends_the_command(typed_in, word):
    assert typed_in(["Say yes.", word, "Say no."]) == ("Yes, of course.\n", "")


def test_help_lists_the_commands(typed_in):
    out, err = typed_in(["/help"])
    assert out == "" and all(word in err for word in ("/input TEXT", "/reset", "/help", "/quit", "exit", "Ctrl-D"))


def test_a_path_is_not_a_command(typed_in):
    assert typed_in(["/etc/hosts"], "--max-new-tokens", "1")[1].startswith("note: the answer was cut")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The prompts that are read, each answered with nothing."""
    prompts = []
    monkeypatch.setattr(
        "hf_gpt_scratch.generation.chat.stream_text",
        lambda model, tokenizer, prompt, *_, **__: prompts.append(prompt) or [],
    )
    return prompts


def test_the_input_belongs_to_the_next_question_alone(typed_in, read):
    typed_in(["/input the lamp, the boat", "Sort.", "Count.", "/input x", "/input", "Sort."])
    assert read == [render_prompt("Sort.", "the lamp, the boat"), render_prompt("Count."), render_prompt("Sort.")]


def test_reset_drops_the_input_and_a_refused_question_keeps_it(folder, read, monkeypatch, capsys):
    typed_lines(monkeypatch, ["/input x", "/reset", "Sort.", "/input x", "word " * 300, "/help", "Sort."])
    converse(Chat.from_pretrained(folder))
    assert read == [render_prompt("Sort."), render_prompt("Sort.", "x")]
    assert "The question has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        (["--top-k", "5"], "--top-k has"),
        (["--top-p", "0.9", "--top-k", "5"], "--top-k and --top-p have"),
        (["--top-k", "5", "--temperature", "0.8"], ""),
        (["--top-k", "0", "--top-p", "1"], ""),
    ],
)
def test_what_greedy_decoding_passes_over_is_told(typed_in, options, idle):
    note = f"note: {idle} no effect at temperature 0; add --temperature 0.8.\n" if idle else ""
    assert typed_in([], *options) == ("", note)


def test_generate_tells_it_of_a_model_that_was_saved_to_be_greedy(folder, tmp_path, capsys):
    saved = shutil.copytree(folder, tmp_path / "saved")
    words = ["generate", str(saved), "--prompt", "a", "--max-new-tokens", "1", "--top-k", "5"]
    assert main(words) == 0 and "no effect" not in capsys.readouterr().err
    GenerationConfig(do_sample=False).save_pretrained(saved)
    assert main(words) == 0 and "--top-k has no effect" in capsys.readouterr().err


def test_a_python_without_readline_chats(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "readline", None)  # as on Windows
    typed_lines(monkeypatch, ["Say yes."])
    converse(Chat.from_pretrained(folder))
    assert "Yes, of course." in capsys.readouterr().out


def typed_lines(monkeypatch, lines: list[str]) -> None:
    """The lines come as if typed at a terminal."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    waiting = iter(lines)

    def read(prompt: str) -> str:
        for line in waiting:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", read)


def test_input_of_a_model_with_another_template(folder, read):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
    chat = Chat(GPTScratchForCausalLM.from_pretrained(folder), tokenizer)
    assert chat.history  # it may have been trained on conversations
    ask(chat, "Sort.", input="b a")
    ask(chat, "Count.")
    assert read[0] == "user: Sort.\n\nb a\n" and read[1].startswith(read[0]) and read[1].endswith("user: Count.\n")


def test_history_is_an_option_and_reset_ends_it(typed_in, read):
    typed_in(["Say yes.", "Say no."])
    assert read == [render_prompt("Say yes."), render_prompt("Say no.")]
    read.clear()
    typed_in(["Say yes.", "Say no.", "/reset", "Say no."], "--history")
    assert read[1].startswith(render_prompt("Say yes.")) and "Say no." in read[1]
    assert read[2] == render_prompt("Say no.")


def test_a_classifier_cannot_chat(tmp_path):
    model, tokenizer = load(save_model(tmp_path / "spam", GPTScratchForSequenceClassification))
    with pytest.raises(InputError, match="cannot chat: use `hf-gpt-scratch classify`, or `TextClassifier` in Python"):
        Chat(model, tokenizer)


def test_the_saved_settings_decide_unless_one_is_given(folder, tmp_path, typed_in, monkeypatch, capsys):
    saved = shutil.copytree(folder, tmp_path / "saved")
    GenerationConfig(max_new_tokens=3, eos_token_id=0).save_pretrained(saved)
    chat = Chat.from_pretrained(saved)
    assert len(list(chat.ask("Count."))) == 3 and chat.finish_reason == "length"
    assert len(list(chat.ask("Count.", max_new_tokens=5))) == 5
    monkeypatch.setattr(sys, "stdin", io.StringIO("Count.\n"))
    assert main(["chat", str(saved)]) == 0
    assert "the answer was cut" in capsys.readouterr().err


def test_an_answer_is_greedy_unless_the_model_was_saved_to_sample(chat, monkeypatch):
    used = []
    monkeypatch.setattr(
        "hf_gpt_scratch.generation.chat.stream_text", lambda *words, **settings: used.append(settings) or []
    )
    list(chat.ask("Count."))
    chat.model.generation_config.update(do_sample=True, top_p=0.9)
    list(chat.ask("Count."))
    list(chat.ask("Count.", temperature=0, top_p=None))
    assert used == [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 0, "top_p": 0.9}]


def test_command_says_once_that_it_forgets(folder):
    done = subprocess.run([*COMMAND, folder, "--history"], input="Say yes.\n" * 12, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.count("oldest part is dropped") == 1


def test_generate_sends_a_follower_that_says_nothing_to_chat(folder, capsys):
    answered = render_prompt("Say yes.") + ANSWERS["Say yes."]  # the end token is what comes next
    assert main(["generate", str(folder), "--prompt", answered, "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    assert out == answered + "\n"
    assert f"`hf-gpt-scratch chat {folder}`" in err


def test_terminal_survives_ctrl_c(folder):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, folder, "--max-new-tokens", "200"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = ""

    def read_until(text: str) -> None:
        nonlocal seen
        while text not in seen:
            assert select.select([ours], [], [], 120)[0], f"{text!r} did not come after {seen!r}"
            seen += os.read(ours, 4096).decode()
        seen = seen.partition(text)[2]

    try:
        read_until("> ")
        while not select.select([ours], [], [], 2)[0]:  # the prompt is there a moment before readline heeds signals
            process.send_signal(signal.SIGINT)
        read_until("Ctrl-D ends.\r\n> ")
        os.write(ours, b"Count.\n")
        read_until("one two")
        process.send_signal(signal.SIGINT)  # within an answer
        read_until("> ")
        os.write(ours, b"/reset\nSay yes.\n")
        read_until("Yes, of course.")
        read_until("> ")
        os.write(ours, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(ours)
