"""handler.py, which answers on Inference Endpoints: what it says is what this package says of the same model."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.inference._generated.types import TextClassificationOutputElement, TextGenerationOutput

from hf_gpt_scratch import Chat, GPTScratchForSequenceClassification, GPTScratchForTokenClassification, TextClassifier
from hf_gpt_scratch import load as load_model
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.hub import handler as handlers
from hf_gpt_scratch.hub.check import check_files, look_at_files
from hf_gpt_scratch.hub.findings import CheckFailed
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.hub.push import contents
from hf_gpt_scratch.model_folder.contents import FAQ_FILE, ModelFolder
from hf_gpt_scratch.pretrained import record_reference_logits
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.errors import UsageError
from hf_gpt_scratch.utils.special_tokens import chat_ids
from support.endpoint import NAME, ask, load_handler
from support.hub_scripts import PLAIN_ADAPTER, sentence
from support.models import save_model

TEXTS = ("the lamp on the hill", "a boat " * 40, "a <|endoftext|> on the sea — é")
SPAM = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
TOPICS = {"id2label": {0: "sea", 1: "hill", 2: "sky"}, "label2id": {"sea": 0, "hill": 1, "sky": 2}}
EARLY = {"0.99": {"threshold": 0.5}}
CALIBRATED = {"temperature": 1.7, "shift": 0.3, "threshold": 0.52, "early": EARLY}
ONE_OF_THREE = {"temperature": 0.4, "shift": [0.2, -0.1, 0.0], "outside_threshold": 0.36, "outside_label": "other"}


@pytest.fixture
def serve(monkeypatch):
    """Lays the handler's files beside a model and loads it as the container does; requests and answers are JSON."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def serve(folder: Path):
        for name, path in handlers.handler_files().items():
            shutil.copy(path, folder / name)
        handler = load_handler(folder)

        def post(inputs, status: int = 200, **parameters):
            request = {"inputs": inputs} | ({"parameters": parameters} if parameters else {})
            answer = ask(handler, json.dumps(request))
            assert answer["status"] == status, answer
            return answer["body"] if status == 200 else answer["body"]["error"]

        post.handler = handler
        return post

    yield serve
    for name in {NAME, "pipeline_gpt_scratch"} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.mark.parametrize(
    "settings",
    [
        {"qkv_bias": False, "tie_word_embeddings": False},
        {"scale_attn_by_inverse_layer_idx": True, "n_layer": 2, "activation_function": "relu"},
        {"scale_attn_weights": False, "n_inner": 40},
        {"model_class": GPTScratchForSequenceClassification, "classifier_bias": True, **TOPICS},
    ],
)
def test_it_computes_what_the_model_computes(settings, tmp_path):
    folder = save_model(tmp_path / "model", **settings)
    model = load_model(folder)[0]
    model.save_pretrained(folder, max_shard_size="30KB")
    (folder / "model.safetensors").unlink()
    said = handlers.check_handler(ModelFolder.read(folder))
    assert said.startswith("as it reads the model, its logits ")


def test_what_it_would_answer_otherwise_is_refused(tmp_path):
    folder = save_model(tmp_path / "model", sliding_window=8)
    with pytest.raises(CheckFailed, match="sliding window of 8 tokens, which an endpoint's handler does not have"):
        handlers.check_handler(ModelFolder.read(folder))
    record = json.loads((save_model(tmp_path / "other") / "reference_logits.json").read_text())
    record["logits"][0][0] += 0.1
    with pytest.raises(CheckFailed, match="would answer otherwise than the model"):
        handlers.check_handler(ModelFolder.read(tmp_path / "other"), record)
    tokens = save_model(tmp_path / "tokens", GPTScratchForTokenClassification, **TOPICS)
    with pytest.raises(UsageError, match="not for a GPTScratchForTokenClassification"):
        handlers.require_servable(ModelFolder.read(tokens))
    (tmp_path / "other" / FAQ_FILE).write_text("{}")
    with pytest.raises(UsageError, match="is an FAQ bot"):
        handlers.require_servable(ModelFolder.read(tmp_path / "other"))


def test_a_text_is_continued_as_generate_does(serve, tmp_path):
    folder = save_model(tmp_path / "model")
    post, (model, tokenizer) = serve(folder), load_model(folder)
    expected = ["".join(stream_text(model, tokenizer, text, 12, temperature=0.0)) for text in ("the lamp", "")]
    assert post("the lamp", max_new_tokens=12) == [{"generated_text": f"the lamp{expected[0]}"}]
    both = post(["the lamp", ""], max_new_tokens=12, return_full_text=False, temperature=0)
    assert both == [[{"generated_text": text}] for text in expected]
    [answer] = TextGenerationOutput.parse_obj_as_list(post("the lamp", max_new_tokens=3))
    assert answer.generated_text.startswith("the lamp")
    sampled = [post("a boat", max_new_tokens=12, temperature=2.0, top_k=50, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    whole = post("the lamp", max_new_tokens=12, return_full_text=False)[0]["generated_text"]
    stop = whole[3:6]
    cut = post("the lamp", max_new_tokens=12, return_full_text=False, stop=[stop])[0]["generated_text"]
    assert cut == whole[: whole.find(stop)]


def test_its_default_is_what_the_model_was_saved_with(serve, tmp_path):
    folder = save_model(tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"max_new_tokens": 4, "do_sample": True}))
    post = serve(folder)
    assert post.handler.answer.settings == {"max_new_tokens": 4, "do_sample": True}
    torch.manual_seed(3)
    model, tokenizer = load_model(folder)
    expected = model.generate(**tokenizer("the lamp", return_tensors="pt"))
    assert post("the lamp", seed=3) == [{"generated_text": tokenizer.decode(expected[0], skip_special_tokens=True)}]


def test_a_conversation_is_answered_as_chat_does(serve, tmp_path):
    folder = save_model(tmp_path / "model", chat=CHAT_TEMPLATE, n_positions=256)
    post, chat = serve(folder), Chat.from_pretrained(folder, device="cpu")
    spelled = "Say <|endoftext|> ### Response:\nand a boat"
    for text in ("Name a boat.", spelled):
        chat.reset()
        expected = "".join(chat.ask(text, max_new_tokens=12))
        messages = [{"role": "user", "content": text}]
        [answer] = post(messages, max_new_tokens=12)
        assert answer["generated_text"] == [*messages, {"role": "assistant", "content": expected}]
        assert (
            post([messages, messages], max_new_tokens=12, return_full_text=False)
            == [[{"generated_text": expected}]] * 2
        )
    several = [{"role": "system", "content": "Be short."}, *messages, {"role": "assistant", "content": "a"}, *messages]
    assert post.handler.answer.chat_ids(several) == chat_ids(chat.tokenizer, several)


@pytest.mark.parametrize("long_texts", ["first", "last", "windows"])
@pytest.mark.parametrize(
    ("labels", "calibration", "more"),
    [
        (SPAM, None, {"classifier_bias": True}),
        (SPAM, CALIBRATED, {}),
        (TOPICS, ONE_OF_THREE, {}),
        (TOPICS, {"threshold": [0.4, 0.5, 0.6]}, {"problem_type": "multi_label_classification"}),
    ],
)
def test_texts_are_classified_as_classify_does(serve, tmp_path, labels, calibration, more, long_texts):
    settings = {"calibration": calibration} if calibration else {}
    settings |= {"long_texts": long_texts, "initializer_range": 0.5, **labels, **more}
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification, **settings)
    post, classifier = serve(folder), TextClassifier.from_pretrained(folder, device="cpu")
    expected = list(classifier.classify(TEXTS, words=True))
    answers = post(list(TEXTS), words=True)
    for found, prediction in zip(answers, expected, strict=True):
        assert found["label"] == prediction.label
        if "labels" in found:
            assert found["labels"] == list(prediction.labels)
        assert [word["word"] for word in found["words"]] == [reading.word.strip() for reading in prediction.words]
        for word, reading in zip(found["words"], prediction.words, strict=True):
            assert list(word["scores"].values()) == pytest.approx(list(reading.probabilities), abs=1e-5)
    assert post(TEXTS[0])[0]["score"] == pytest.approx(answers[0]["score"])
    [ranked] = post([TEXTS[0]], top_k=2)
    assert [one.score for one in TextClassificationOutputElement.parse_obj_as_list(ranked)] == sorted(
        (one["score"] for one in ranked), reverse=True
    )
    if calibration and "early" in calibration:
        assert post(TEXTS[0], decide_at=0.99)[0].keys() == {"label", "score", "decided_at"}


def test_what_is_wrong_with_a_request_is_said(serve, tmp_path):
    writer = serve(save_model(tmp_path / "writer"))
    classifier = serve(save_model(tmp_path / "classifier", GPTScratchForSequenceClassification, **SPAM))
    for post in (writer, classifier):
        assert "Unknown parameters: colour; expected some of" in post("a boat", 400, colour="red")
        for inputs in (None, 5, [], {"text": "a"}):
            assert "inputs must be a text" in post(inputs, 400)
        assert "Expected a text, not 5" in post(["a", 5], 400)
        assert "Expected a text" in post("a \ud800", 400)
        assert "stream" in ask(post.handler, json.dumps({"inputs": "a", "stream": True}))["body"]["error"]
        assert "parameters must be" in ask(post.handler, '{"inputs": "a", "parameters": [1]}')["body"]["error"]
        assert ask(post.handler, '{"inputs": "a boat", "parameters": null, "options": {}}')["status"] == 200
    assert "A text is empty" in classifier(" ", 400) == classifier(["a", ""], 400)
    message = [{"role": "user", "content": "a boat"}]
    assert "has no chat template" in writer(message, 400) and "Expected a text" in classifier(message, 400)
    assert "tokens; the model reads at most 64, its answer included" in writer("a boat " * 40, 400)
    assert "max_new_tokens must be" in writer("a", 400, max_new_tokens=0)
    assert "temperature" in writer("a", 400, temperature=-1)
    assert writer("the lamp", max_new_tokens=1000)  # no more than the model can read


def test_messages_that_cannot_be_answered_are_refused(serve, tmp_path):
    post = serve(save_model(tmp_path / "model", chat=CHAT_TEMPLATE, n_positions=256))
    assert "must be system, user or assistant" in post([{"role": "tool", "content": "a"}], 400)
    assert "must be one of the user" in post([{"role": "user", "content": " "}], 400)
    assert "must be one of the user" in post([{"role": "assistant", "content": "a"}], 400)
    assert "Expected a text" in post([{"role": "user"}], 400)
    assert "the model reads at most 256" in post([{"role": "user", "content": "a boat " * 400}], 400)


def test_an_adapter_is_added_to_its_base(serve, tmp_path):
    peft = pytest.importorskip("peft")
    base = save_model(tmp_path / "base")
    for name, options in (("lora", {"use_rslora": True}), ("dora", {"use_dora": True})):
        config = peft.LoraConfig(
            task_type="CAUSAL_LM", target_modules="all-linear", r=3, lora_alpha=7, init_lora_weights=False, **options
        )
        model, tokenizer = load_model(base)
        peft.get_peft_model(model, config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        settings = json.loads((tmp_path / name / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = str(base)
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(settings))
    record_reference_logits(tmp_path / "lora")
    assert "those recorded" in handlers.check_handler(ModelFolder.read(tmp_path / "lora"))
    with pytest.raises(CheckFailed, match="it cannot read .*lora_magnitude_vector.*without --with-handler"):
        handlers.check_handler(ModelFolder.read(tmp_path / "dora"))
    post, (model, tokenizer) = serve(tmp_path / "lora"), load_model(tmp_path / "lora")
    expected = "".join(stream_text(model, tokenizer, "the lamp", 9, temperature=0.0))
    assert post("the lamp", max_new_tokens=9, return_full_text=False) == [{"generated_text": expected}]


def test_check_tells_our_handler_from_another(tmp_path):
    folder = save_model(tmp_path / "model")
    for name, path in handlers.own_files().items():
        shutil.copy(path, folder / name)
    model = ModelFolder.read(folder)

    def finding():
        return next(one for one in look_at_files(model) if one.name == "endpoint handler")

    assert (finding().status, finding().detail) == ("ok", "identical to this package's own")
    assert "handler.py" not in check_files(model)
    with open(folder / "handler.py", "a") as file:
        file.write("\n")
    assert finding().status == "skipped" and "read it first" in finding().detail
    assert "not uploaded: handler.py, requirements.txt" in check_files(model)


def test_the_card_says_how_to_ask(tmp_path):
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification, **SPAM)
    files = contents(ModelFolder.read(folder), "you/spam", with_handler=True)
    assert {"handler.py", "requirements.txt", "pipeline_gpt_scratch.py"} <= files.keys() and b"curl" in files[
        "README.md"
    ]
    assert not {"handler.py", "requirements.txt"} & contents(ModelFolder.read(folder), "you/spam").keys()
    assert "curl" not in str(make_card(folder, "you/spam"))
    card = str(make_card(folder, "you/spam", with_handler=True))
    assert """-d '{"inputs": "Are you free for lunch at twelve?"}'""" in card
    card = str(make_card(save_model(tmp_path / "chat", chat=CHAT_TEMPLATE), "you/chat", with_handler=True))
    assert (
        """-d '{"inputs": [{"role": "user", "content": "Name three colours."}], "parameters": {"max_new_tok""" in card
    )


def serve_pushed(hub, elsewhere, tmp_path, name: str, requests: list[dict]) -> list[dict]:
    """The answers of the handler in what a clean process downloads of a repository, with no package of ours."""
    code = f"""
import sys
from huggingface_hub import snapshot_download
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
sys.argv[1] = snapshot_download(sys.argv[1])
import runpy
runpy.run_module("support.endpoint", run_name="__main__")
"""
    ran = elsewhere(name, code=code, stdin=json.dumps(requests))
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.hub
def test_what_was_pushed_answers_where_this_package_is_not(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification, calibration=CALIBRATED, **SPAM)
    pushed = elsewhere("push", str(folder), "user/spam", "--with-handler")
    assert pushed.returncode == 0 and "16 of 16 checks passed" in pushed.stdout, pushed.stdout + pushed.stderr
    files = hub.repos["user/spam"].commits[hub.repos["user/spam"].refs["main"]]
    assert all(files[name] == path.read_bytes() for name, path in handlers.handler_files().items())
    assert b"curl" in files["README.md"] and not (folder / "handler.py").exists()
    [prediction] = TextClassifier.from_pretrained(folder, device="cpu").classify([TEXTS[0]])
    said, refused = serve_pushed(hub, elsewhere, tmp_path, "user/spam", [{"inputs": TEXTS[0]}, {"inputs": ""}])
    assert said["body"][0]["label"] == prediction.label and refused["status"] == 400

    again = elsewhere("push", str(folder), "user/spam", checked=False)
    assert again.returncode == 0 and "note: the handler.py of an earlier push stays there" in again.stdout
    repo = hub.repos["user/spam"]
    repo.commit("main", {**files, "handler.py": b"# by hand"})
    refused = sentence(elsewhere("push", str(folder), "user/spam", "--with-handler", checked=False))
    assert "user/spam has a handler.py that this package did not write" in refused


@pytest.mark.hub
def test_a_pushed_adapter_answers_with_its_base_from_the_hub(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    base = save_model(tmp_path / "base")
    assert elsewhere("push", str(base), "user/base", checked=False).returncode == 0
    assert elsewhere("adapter", code=PLAIN_ADAPTER).returncode == 0
    pushed = elsewhere("push", "adapter", "user/tuned", "--with-handler")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    request = {"inputs": "the lamp", "parameters": {"max_new_tokens": 8, "return_full_text": False}}
    [said] = serve_pushed(hub, elsewhere, tmp_path, "user/tuned", [request])
    code = """
import sys
from hf_gpt_scratch import load
from hf_gpt_scratch.generation.sampling import stream_text
print(ascii("".join(stream_text(*load("user/tuned"), "the lamp", 8, temperature=0.0))))
"""
    text = said["body"][0]["generated_text"].rstrip("\ufffd")  # streaming leaves out a character that was cut short
    assert ascii(text) == elsewhere(code=code).stdout.splitlines()[-1]
