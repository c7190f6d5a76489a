"""A model and its twin, stock GPT-2 on the branch gpt2, pushed to a stand-in for the Hub."""

import hashlib
import json
import re

import pytest
import torch

from hf_gpt_scratch import (
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
)
from hf_gpt_scratch.conversion.onnx import OnnxExport
from hf_gpt_scratch.hub import twin as twins
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.model_folder import clean_process
from hf_gpt_scratch.model_folder.contents import CODE_FILES, ModelFolder
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.hub_scripts import sentence
from support.models import save_model, save_tokenizer

LABELS = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}

# By transformers alone: whatever the arguments say, as a card has it.
LOAD = """
import json, sys
sys.modules["hf_gpt_scratch"] = None
import transformers
name, arguments = sys.argv[1], json.loads(sys.argv[2])
tokenizer = transformers.AutoTokenizer.from_pretrained(name, **arguments)
model = transformers.AutoModelForCausalLM.from_pretrained(name, **arguments)
logits = model(**tokenizer("a boat on the hill", return_tensors="pt")).logits
print(type(model).__module__, type(model).__name__)
print(json.dumps(logits.tolist()))
"""


def load(elsewhere, **arguments) -> tuple[str, torch.Tensor]:
    loaded = elsewhere("user/repo", json.dumps(arguments), code=LOAD)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    *_, kind, logits = loaded.stdout.splitlines()
    return kind, torch.tensor(json.loads(logits))


def files_at(repo, revision: str) -> dict[str, bytes]:
    return repo.commits[repo.resolve(revision)]


@pytest.mark.hub
def test_whoever_may_not_run_code_loads_the_twin(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model", qkv_bias=False)
    (folder / "LICENSE").write_text("mine")
    pushed = elsewhere("push", str(folder), "user/repo", "--with-twin", "--license", "mit")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    repo = hub.repos["user/repo"]
    first, twin, main = list(repo.commits)[1:]  # after the Hub's own
    assert (repo.refs["gpt2"], repo.refs["main"]) == (twin, main)
    assert f"Pushed its twin to the branch gpt2 (commit {twin[:7]})." in pushed.stdout
    assert re.search("as stock GPT-2, without trust_remote_code: its logits (are the same|differ by)", pushed.stdout)

    changed = {name for name, content in files_at(repo, main).items() if files_at(repo, first).get(name) != content}
    assert changed == {"README.md"} and files_at(repo, main).keys() == files_at(repo, first).keys()
    assert set(files_at(repo, twin)) == {
        *(".gitattributes", "README.md", "LICENSE", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    config = json.loads(files_at(repo, twin)["config.json"])
    assert config["model_type"] == "gpt2" and "auto_map" not in config

    kind, ours = load(elsewhere, revision=first, code_revision=first, trust_remote_code=True)
    assert kind.startswith("transformers_modules") and first in kind
    for revision in ("gpt2", twin):
        kind, theirs = load(elsewhere, revision=revision)
        assert kind == "transformers.models.gpt2.modeling_gpt2 GPT2LMHeadModel"
        torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=0)
    assert "trust_remote_code" in elsewhere("user/repo", "{}", code=LOAD).stderr
    _check_cards(repo, first, twin, main)


def _check_cards(repo, first: str, twin: str, main: str) -> None:
    """Both cards name both forms, with hashes that are those of the files there."""
    card, twins_card = (files_at(repo, revision)["README.md"].decode() for revision in (main, twin))
    for text in (card, twins_card):
        assert "license: mit" in text and 'from_pretrained("user/repo", revision="gpt2")' in text
        assert f'revision="{first}",\n    code_revision="{first}",' in text
        for name in CODE_FILES:
            digest = hashlib.sha256(files_at(repo, first)[name]).hexdigest()
            assert f"SHA-256 `{digest}`" in text
    assert f"| `gpt2` | `{twin}` |" in card and "custom_code" in card and "trust_remote_code=True)" in card
    assert "| `gpt2` | the commit of this card |" in twins_card and "custom_code" not in twins_card
    assert 'pipeline("text-generation", model="user/repo", revision="gpt2")' in twins_card
    assert "GPT2LMHeadModel of transformers" in twins_card
    assert files_at(repo, first)["README.md"].decode().count("revision") == 0


@pytest.mark.hub
def test_a_later_push_replaces_the_twin_or_says_that_it_is_old(hub, elsewhere, tmp_path):
    first, second = save_model(tmp_path / "first"), save_model(tmp_path / "second", seed=1)
    push = "push", str(first), "user/repo"
    assert elsewhere(*push, "--with-twin", checked=False).returncode == 0
    repo = hub.repos["user/repo"]
    twin = repo.refs["gpt2"]
    plain = elsewhere("push", str(second), "user/repo", checked=False)
    assert plain.returncode == 0 and "holds the twin of an earlier model: --with-twin" in plain.stdout
    assert repo.refs["gpt2"] == twin and 'revision="gpt2"' not in files_at(repo, "main")["README.md"].decode()

    own = {"README.md": b"by hand", "tf_model.h5": b"1", "model-00001-of-00002.safetensors": b"2"}
    repo.commit("gpt2", files_at(repo, "gpt2") | own)
    again = elsewhere("push", str(second), "user/repo", "--with-twin", checked=False)
    assert again.returncode == 0, again.stderr
    assert "README.md in the branch gpt2 of the repository was written by hand and is kept" in again.stdout
    files = files_at(repo, "gpt2")
    assert (files["README.md"], files["tf_model.h5"]) == (b"by hand", b"1") and len(files) == 8
    assert files["model.safetensors"] != files_at(repo, twin)["model.safetensors"]

    repo.commit("main", files_at(repo, "main") | {"README.md": b"by hand"})
    before = len(repo.commits)
    kept = elsewhere("push", str(second), "user/repo", "--with-twin", checked=False)
    assert kept.returncode == 0 and "name the branch gpt2 in your README.md" in kept.stdout
    assert files_at(repo, "main")["README.md"] == b"by hand" and len(repo.commits) == before + 2


@pytest.mark.hub
def test_what_cannot_have_a_twin_is_refused_before_anything_is_pushed(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    for option in (["--revision", "trial"], ["--create-pr"]):
        refused = elsewhere("push", str(folder), "user/repo", "--with-twin", *option)
        assert refused.returncode == 2 and f"omit {option[0]}." in refused.stderr
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "user/base"}))
    for dry in ([], ["--dry-run"]):
        refused = elsewhere("push", "adapter", "user/repo", "--with-twin", *dry)
        assert refused.returncode == 2 and "--with-twin is for whole models, and adapter holds an" in refused.stderr

    classifier = _with_impossible_bias(tmp_path / "classifier")
    for dry in ([], ["--dry-run"]):
        refused = elsewhere("push", str(classifier), "user/repo", "--with-twin", *dry, checked=False)
        assert "has no twin as stock GPT-2: The classifier's bias cannot be expressed" in sentence(refused)
    assert hub.repos == {} and not any("create" in request for request in hub.requests)

    assert elsewhere("push", str(folder), "user/repo", checked=False).returncode == 0
    repo = hub.repos["user/repo"]
    main = repo.refs["main"]
    repo.refs["gpt2"] = repo.refs["main"]
    repo.commit("gpt2", {"config.json": b'{"model_type": "llama"}'})
    refused = sentence(elsewhere("push", str(folder), "user/repo", "--with-twin", checked=False))
    assert "The branch gpt2 of user/repo holds a model of type 'llama'" in refused and repo.refs["main"] == main
    assert elsewhere("push", str(folder), "user/repo", checked=False).returncode == 0  # without it, that is nothing


def _with_impossible_bias(folder):
    """A classifier whose labels have the same weights and other biases."""
    save_model(folder, GPTScratchForSequenceClassification, classifier_bias=True, **LABELS)
    model = GPTScratchForSequenceClassification.from_pretrained(folder)
    model.score.weight.data[1] = model.score.weight.data[0]
    model.score.bias.data = torch.tensor([1.0, -1.0])
    model.save_pretrained(folder)
    return folder


@pytest.mark.hub
def test_an_upload_that_breaks_off_says_what_is_there(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    hub.break_uploads_after = 1  # of the model's weights; the twin's are the second
    left = "user/repo has the new model on main, but not all of its twin: push again."
    broken = sentence(elsewhere("push", str(folder), "user/repo", "--with-twin", checked=False))
    assert left in broken
    hub.break_uploads_after = None
    assert elsewhere("push", str(folder), "user/repo", "--with-twin", checked=False).returncode == 0
    assert load(elsewhere, revision="gpt2")[0].endswith("GPT2LMHeadModel")


def test_a_dry_run_lists_the_twins_files(hub, elsewhere, tmp_path):
    dry = elsewhere(
        "push", str(save_model(tmp_path / "model")), "user/repo", "--with-twin", "--dry-run", checked=False
    )
    assert dry.returncode == 0, dry.stderr
    names = "README.md, config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json"
    assert f"Its twin as stock GPT-2, for the branch gpt2: {names}." in dry.stdout and hub.repos == {}


@pytest.mark.parametrize(
    "model_class, settings",
    [
        (GPTScratchModel, {}),
        (GPTScratchForCausalLM, {"tie_word_embeddings": False}),
        (GPTScratchForSequenceClassification, LABELS),
        (GPTScratchForSequenceClassification, {"classifier_bias": True, **LABELS}),
        (GPTScratchForTokenClassification, LABELS),
    ],
    ids=["base", "untied", "classifier", "classifier with a bias", "token classifier"],
)
def test_every_class_has_a_twin(tmp_path, model_class, settings):
    folder = save_model(tmp_path / "model", model_class, **settings)
    model = model_class.from_pretrained(folder)
    for name, parameter in model.named_parameters():
        if name.startswith("score"):
            parameter.data.normal_()
    model.save_pretrained(folder)
    with twins.made_twin(ModelFolder.read(folder)) as twin:
        assert 0 <= twin.difference < 1e-4 and not list(twin.folder.path.glob("*.py"))
        moved = twin.forms("0" * 40).has_moved_bias
        assert moved == settings.get("classifier_bias", False)
        card = str(make_card(folder, "user/repo", forms=twin.forms("0" * 40)))
    assert "trust_remote_code=True" in card.partition("## Two forms")[2]  # for the model's own code
    assert "trust_remote_code=True" not in card.partition("## Two forms")[0]
    assert ("in stock GPT-2 it takes in that of the classifier" in card) == moved


def test_a_twin_of_other_weights_or_tokens_is_refused(tmp_path):
    """The proof is of what was pushed, and not of what was meant to be."""
    model = ModelFolder.read(save_model(tmp_path / "model"))
    other = ModelFolder.read(save_model(tmp_path / "other", seed=1))
    with twins.made_twin(model) as twin, twins.made_twin(other) as wrong:
        assert twins.difference_of(model, twin.folder.path, twin.logits) == twin.difference
        with pytest.raises(InputError, match="The logits of the twin of .* differ"):
            twins.difference_of(model, wrong.folder.path, twin.logits)
        save_tokenizer(twin.folder.path, ["other words altogether"] * 5, 300)
        with pytest.raises(InputError, match="The tokenizer of the twin"):
            twins.difference_of(model, twin.folder.path, twin.logits)


def test_the_twin_is_loaded_without_trust(tmp_path, monkeypatch):
    """Were there code in it, it would not load: the proof asks for no trust."""
    jobs = []
    run = clean_process.run_jobs
    monkeypatch.setattr(
        clean_process, "run_jobs", lambda folder, asked, *more: jobs.append(asked) or run(folder, asked, *more)
    )
    model = ModelFolder.read(save_model(tmp_path / "model"))
    with twins.made_twin(model):
        assert [{job.get("trust_remote_code") for job in asked} for asked in jobs] == [{None}, {False}]
    results, _ = run(model.path, [{"auto_class": "AutoModelForCausalLM", "trust_remote_code": False}])
    assert "contains custom code" in results[0]["error"]


def test_an_adapter_has_no_twin_in_python(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds an adapter: merge it"):
        twins.require_possible(ModelFolder.read(tmp_path))


def test_a_graph_that_takes_two_files_is_refused(tmp_path, monkeypatch):
    """transformers.js would look for the second by another name."""

    def exported(source, out, dtype):
        (out / "onnx").mkdir(parents=True)
        for name in ("model.onnx", "model.onnx.data"):
            (out / "onnx" / name).write_bytes(b"")
        return OnnxExport(out, out / "onnx" / "model.onnx", dtype, 0.0)

    monkeypatch.setattr(twins, "export_onnx", exported)
    model = ModelFolder.read(save_model(tmp_path / "model"))
    with pytest.raises(InputError, match="is too large for one ONNX file"), twins.made_twin(model, with_onnx=True):
        pass
