"""Single checks of a folder, on folders that are wrong in one way and need not be loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.hub import check as checks
from hf_gpt_scratch.hub import loading_check
from hf_gpt_scratch.hub.findings import CheckFailed, Finding, find, require, table
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


def edit(folder: Path, name: str, **changes) -> None:
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def failure(examine: Callable[[], str]) -> str:
    with pytest.raises(InputError) as caught:
        examine()
    return str(caught.value)


INDEX = "model.safetensors.index.json"


def test_shards_are_counted_and_each_is_needed(folder):
    whole = checks.check_weights(ModelFolder.read(folder))
    model = GPTScratchForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert checks.check_weights(ModelFolder.read(folder)) == whole.replace("in 1 file", f"in {len(shards)} files")
    shards[0].unlink()
    assert failure(lambda: checks.check_weights(ModelFolder.read(folder))).startswith(f"{shards[0].name} is missing")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": []}'])
def test_a_damaged_index_is_told(folder, content):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(content)
    assert failure(lambda: checks.check_weights(ModelFolder.read(folder))).startswith(f"{INDEX} is damaged")


STRAYS = (
    *("old.safetensors", "model-00001-of-00002.safetensors", INDEX, "adapter_model.safetensors"),
    *("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "rng_state_0.pth"),
    *("pytorch_model.bin", "trainer_state.json", "trainer_log.jsonl", "all_results.json", "events.out.tfevents.1"),
    *("global_step5.pt", "notes.jinja", "vocab.bpe", "scaler.pt", ".gitignore"),
)


@pytest.mark.parametrize("name", STRAYS)
def test_a_file_that_is_not_part_of_the_model_is_left_out_and_fails_nothing(folder, name):
    before = checks.check_weights(ModelFolder.read(folder)), ModelFolder.read(folder).files()
    shutil.copy(folder / "model.safetensors", folder / name)
    model = ModelFolder.read(folder)
    assert (checks.check_weights(model), model.files()) == before
    assert checks.check_files(model).endswith(f"; not part of the model, so not uploaded: {name}")


def test_pickled_weights_alone_are_told_how_to_save_them(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = failure(lambda: checks.check_weights(ModelFolder.read(folder)))
    assert said.startswith("they are in pytorch_model.bin") and "save_pretrained, which writes safetensors" in said


def test_a_model_and_an_adapter_in_one_folder_are_told(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "both a model and an adapter" in failure(lambda: checks.check_weights(ModelFolder.read(folder)))


def test_weights_that_loaders_would_not_find_are_told(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert "model.safetensors is missing" in failure(lambda: checks.check_weights(ModelFolder.read(folder)))


@pytest.mark.parametrize(
    "changes, detail",
    [
        ({"vocab_size": "300"}, "is not the configuration of a model"),
        ({"n_head": 3}, "is not the configuration of a model .*divisible"),
        ({"model_type": "gpt2"}, "expected 'gpt_scratch'.*convert"),
        ({"architectures": "GPTScratchForCausalLM"}, "must be a list"),
    ],
)
def test_settings_of_no_model_of_ours_are_one_sentence(folder, changes, detail):
    edit(folder, "config.json", **changes)
    with pytest.raises(InputError, match=detail):
        checks.check(folder)


def config(**changes) -> GPTScratchConfig:
    return GPTScratchConfig(**{"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1} | changes)


def test_the_tokenizer_of_a_classifier_may_be_of_lower_case(tmp_path):
    train_tokenizer(["Some Words of a text"] * 3, 300, lowercase=True).save_pretrained(tmp_path)
    classifier = config(architectures=["GPTScratchForSequenceClassification"])
    assert checks.check_tokenizer(tmp_path, classifier).endswith("decoding restores the text")
    assert "it decodes the tokens of" in failure(lambda: checks.check_tokenizer(tmp_path, config()))
    settings = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings | {"decoder": None}))
    assert "it decodes the tokens of" in failure(lambda: checks.check_tokenizer(tmp_path, classifier))


def test_the_end_token_is_the_same_on_both_sides(folder):
    assert checks.check_tokenizer(folder, config()).endswith("decoding restores the text")
    assert checks.check_tokenizer(folder, config(eos_token_id=[0, 5]))
    assert "eos_token_id is 0" in failure(lambda: checks.check_tokenizer(folder, config(eos_token_id=None)))
    edit(folder, "tokenizer_config.json", eos_token=None)
    assert "eos_token_id is None" in failure(lambda: checks.check_tokenizer(folder, config()))


def test_a_folder_without_a_tokenizer_is_told_how_to_save_it(folder):
    (folder / "tokenizer.json").unlink()
    said = failure(lambda: checks.check_tokenizer(folder, config()))
    assert f"tokenizer.save_pretrained({str(folder)!r})" in said and "processing_class=tokenizer" in said


def test_every_token_of_the_tokenizer_is_the_models(folder):
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert checks.check_tokenizer(folder, config(vocab_size=size))
    assert f"it has a token {size - 1}" in failure(lambda: checks.check_tokenizer(folder, config(vocab_size=size - 1)))


def test_a_tokenizer_that_loses_something_is_shown_it(folder):
    values = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(values | {"normalizer": {"type": "Lowercase"}}))
    assert "to 'café naïve" in failure(lambda: checks.check_tokenizer(folder, config()))


def test_lists_of_one_end_token_are_that_token(folder):
    edit(folder, "generation_config.json", eos_token_id=[0])
    assert checks.check_generation_config(folder, config()) == "stops at token [0]"


def test_a_model_without_an_end_token_has_a_generation_config_without(folder):
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    edit(folder, "generation_config.json", **none)
    assert "no EOS token" in checks.check_generation_config(folder, config(**none))
    assert "bos_token_id is None" in failure(lambda: checks.check_generation_config(folder, config()))


@pytest.mark.parametrize(
    "content, detail",
    [
        ("[]", "cannot be read"),
        ("{", "cannot be read"),
        ({"num_return_sequences": 3}, "cannot be read"),
        ({"do_sample": False, "temperature": 0.3}, "contradicts itself"),
    ],
)
def test_a_generation_config_that_fails_later_is_told(folder, content, detail):
    if isinstance(content, dict):
        edit(folder, "generation_config.json", **content)
    else:
        (folder / "generation_config.json").write_text(content)
    assert detail in failure(lambda: checks.check_generation_config(folder, config()))


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": ["ham"], "label2id": {}},
        {"id2label": {"0": 3}, "label2id": {}},
        {"id2label": {"x": "ham"}, "label2id": {"ham": 0}},
        {"id2label": {"0": "ham", "1": "ham"}, "label2id": {"ham": 1}},
        {"id2label": {"0": "ham", "1": "spam"}, "label2id": {"ham": 0}},
    ],
)
def test_labels_that_are_no_tables_of_each_other_are_told(labels):
    assert "id2label and label2id" in failure(lambda: checks.check_labels(labels))


@pytest.mark.parametrize(
    "changes, detail",
    [
        ({"auto_map": {}}, "no auto_map"),
        ({"auto_map": {"AutoModel": "modeling_gpt_scratch.GPTScratchModel"}}, "lacks AutoConfig"),
        ({"architectures": ["Other"]}, "architectures in config.json is Other"),
    ],
)
def test_an_auto_map_must_promise_the_model_itself(sound, monkeypatch, changes, detail):
    monkeypatch.setattr(loading_check, "load_elsewhere", lambda *_: ({"AutoTokenizer": {"error": "not tried"}}, None))
    settings = json.loads((sound / "config.json").read_text()) | changes
    finding = loading_check.check_loading(ModelFolder(sound, settings))[0]
    assert (finding.name, finding.status) == ("loads", "failed") and detail in finding.detail


def test_a_damaged_record_fails_the_logits(folder, monkeypatch):
    monkeypatch.setattr(loading_check, "load_elsewhere", lambda *_: ({"AutoTokenizer": {"error": "not tried"}}, None))
    (folder / "reference_logits.json").write_text("{")
    finding = loading_check.check_loading(ModelFolder.read(folder))[-1]
    assert (finding.name, finding.status) == ("logits", "failed") and "damaged" in finding.detail


def test_code_that_is_not_the_folders_own_fails():
    answer = {"code": "hf_gpt_scratch.modeling_gpt_scratch", "missing": [], "unexpected": [], "mismatched": []}
    assert "instead of the folder's" in failure(lambda: loading_check._loaded(answer, True))
    answer["code"] = "transformers_modules.model.modeling_gpt_scratch"
    assert (
        loading_check._loaded(answer | {"missing": ["score.weight"]}, False)
        == "loads, with a new score.weight to be trained"
    )
    for kind in ("missing", "unexpected", "mismatched"):
        assert "do not fit: h.0.x" in failure(
            lambda kind=kind: loading_check._loaded(answer | {kind: ["h.0.x"]}, True)
        )


def test_weights_that_cannot_be_right_are_not_loaded(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][0] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    findings = {finding.name: finding.status for finding in checks.check(folder)}
    assert findings["weights"] == "failed" and findings["loads"] == "skipped"


def raising(error: Exception):
    def examine() -> str:
        raise error

    return examine


def test_findings_and_their_table(monkeypatch):
    findings = [
        find("one", lambda: "good"),
        find("two words", raising(CheckFailed("bad"))),
        Finding("three", "skipped", "not tried"),
        find("four", raising(InputError("worse"))),
    ]
    assert [finding.status for finding in findings] == ["ok", "failed", "skipped", "failed"]
    lines = table(findings).splitlines()
    assert lines[1] == "two words  failed    bad" and len({line.index(" ok ") for line in lines[:1]}) == 1
    with pytest.raises(InputError, match="2 of 4 checks of x failed"):
        require(findings, Path("x"))
    with pytest.raises(InputError, match=r"x failed \(two words: bad; four: worse\)\."):
        require(findings, Path("x"), are_shown=False)
    require([Finding("one", "ok", ""), Finding("two", "skipped", "")], Path("x"))


@pytest.mark.parametrize("no_color, coloured", [(None, True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(monkeypatch, no_color, coloured):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\033[32mok" in table([Finding("one", "ok", "")])) == coloured
