"""A run is resumed with what it was trained on, or not at all, whatever the job."""

import json
import shutil

import pytest
import torch

from hf_gpt_scratch.training.checkpoints import MANIFEST
from hf_gpt_scratch.training.precision import NARROWEST
from hf_gpt_scratch.training.resuming import rows_fingerprint
from hf_gpt_scratch.utils import precision
from hf_gpt_scratch.utils.errors import InputError
from support.jobs import sentence, train, write_data
from support.models import save_model


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The settings of a run of a job that was killed, each job run once."""
    runs = {}

    def begin(job: str) -> dict:
        if job not in runs:
            folder = tmp_path_factory.mktemp(job)
            runs[job] = {"data_file": write_data(job, folder / "data"), "output_dir": folder / "out"}
            train(job, **runs[job])
        return runs[job]

    return begin


@pytest.mark.parametrize("job", ["pretrain", "spam", "instruct"])
def test_resuming_with_other_data_or_seed_is_refused_by_name(job, begun, tmp_path):
    settings = {**begun(job), "resume_from_checkpoint": "true"}
    moved = write_data(job, tmp_path / "moved")
    train(job, **settings | {"data_file": moved})  # the same text at another place
    other = write_data(job, tmp_path / "other", first=100)
    with pytest.raises(InputError, match=r"checkpoint-\d was trained on other data \(sha256 "):
        train(job, **settings | {"data_file": other})
    with pytest.raises(
        InputError, match=r"trained .*with another --seed \(123, here 7\); give the same again, begin anew"
    ):
        train(job, **settings, seed=7)


DIFFERENT = {
    "tokenizer": ({"train_tokenizer": 265}, r"with another --train_tokenizer \(270, here 265\)"),
    "shape": ({"n_layer": 2}, r"with another --n_layer \(1, here 2\)"),
    "split": ({"split_seed": 5}, r"trained with another split_seed \(123, here 5\)"),
    "learning rate": ({"learning_rate": 0.5}, r"with another --learning_rate \(5e-05, here 0.5\)"),
    "batch": ({"per_device_train_batch_size": 4}, r"with another batch_size \(8, here 4\)"),
    "word dropout": ({"word_dropout": 0.5}, r"with another --word_dropout \(0.0, here 0.5\)"),
}


@pytest.mark.parametrize("difference", DIFFERENT)
def test_what_else_decides_is_named(difference, begun):
    changes, named = DIFFERENT[difference]
    with pytest.raises(InputError, match=named) as refusal:
        train("spam", **begun("spam"), **{**{"resume_from_checkpoint": "true"}, **changes})
    assert "\n" not in str(refusal.value)


def test_more_epochs_are_no_difference(begun, capsys):
    train("spam", **begun("spam"), resume_from_checkpoint="true", max_steps=3, early_stopping_patience=None)
    assert "note" not in capsys.readouterr().err


def test_an_option_that_says_what_was_found_out_is_no_difference(begun, tmp_path):
    """A split seed that is the seed's by default, columns that are found out, bad rows of which there are none."""
    train("spam", **begun("spam"), resume_from_checkpoint="true", split_seed=123)
    table = tmp_path / "texts.csv"
    table.write_text(
        "body,kind,other\n" + "".join(f"{sentence(i)},{'ab'[i % 2]},{sentence(i + 200)}\n" for i in range(60))
    )
    settings = {"data_file": table, "output_dir": tmp_path / "out", "label_column": "kind"}
    train("classify", **settings)
    resumed = {**settings, "resume_from_checkpoint": "true"}
    train("classify", **resumed, text_column="body", split_seed=123, bad_rows="drop")
    with pytest.raises(InputError, match=r"with another text_column \(body, here other\)"):
        train("classify", **resumed, text_column="other")


def test_another_tokenizer_and_another_model_are_named(begun, tmp_path):
    """Neither is told by its path, which may change."""
    texts = [sentence(number) for number in range(60)]
    for name, settings in {
        "base": {"tokens": 270, "texts": texts},
        "other tokens": {"tokens": 270, "texts": [text[::-1] for text in texts]},
        "other shape": {"tokens": 270, "texts": texts, "n_layer": 2},
    }.items():
        save_model(tmp_path / name, n_embd=8, **settings)
    settings = {**begun("pretrain"), "output_dir": tmp_path / "out", "train_tokenizer": None}
    train("pretrain", **settings, model_name_or_path=tmp_path / "base")
    resumed = {**settings, "resume_from_checkpoint": "true"}
    (tmp_path / "base").rename(tmp_path / "moved")
    train("pretrain", **resumed, model_name_or_path=tmp_path / "moved")
    with pytest.raises(InputError, match="was trained with another tokenizer .fingerprint .*, here .*"):
        train("pretrain", **resumed, model_name_or_path=tmp_path / "other tokens")
    with pytest.raises(InputError, match=r"was trained with another n_layer \(1, here 2\);"):
        train("pretrain", **resumed, model_name_or_path=tmp_path / "other shape")


def test_an_adapter_is_resumed_on_its_own_base_only(begun, tmp_path):
    for seed in (0, 1):
        save_model(tmp_path / str(seed), seed=seed, n_embd=8, n_positions=256)
    changes = {"train_tokenizer": None, "lora_r": 2, "output_dir": tmp_path / "out"}
    settings = {**begun("instruct"), **changes}
    train("instruct", **settings, model_name_or_path=tmp_path / "0")
    with pytest.raises(InputError, match="was trained with another LoRA base .*, here .*"):
        train("instruct", **settings, model_name_or_path=tmp_path / "1", resume_from_checkpoint="true")


def test_a_checkpoint_of_an_older_version_goes_on_and_says_so(begun, tmp_path, capsys):
    settings = {**begun("spam"), "output_dir": tmp_path}
    train("spam", **settings)
    state = tmp_path / "checkpoint-1" / "trainer_state.json"
    content = json.loads(state.read_text())
    del content["stateful_callbacks"]["TrainedOn"]
    state.write_text(json.dumps(content))
    (tmp_path / "checkpoint-1" / MANIFEST).unlink()
    shutil.rmtree(tmp_path / "checkpoint-2")
    with pytest.raises(InputError, match="go on from it with --resume_from_checkpoint true, or begin anew"):
        train("spam", **settings)
    train("spam", **settings, resume_from_checkpoint=tmp_path / "checkpoint-1", max_steps=4)
    err = capsys.readouterr().err
    assert "checkpoint-1 does not say what it was trained on, as an older version saved it" in err
    with pytest.raises(InputError, match="--seed"):  # the next checkpoint says it
        train("spam", **settings, resume_from_checkpoint="true", seed=7)


def test_a_run_on_a_cpu_goes_on_in_the_precision_that_it_began_in(begun, tmp_path, monkeypatch, capsys):
    settings = {**begun("spam"), "output_dir": tmp_path, "n_embd": NARROWEST, "max_steps": 1}
    assert not train("spam", **settings).args.bf16
    monkeypatch.setattr(precision, "_measured", lambda: (torch.bfloat16, "bf16 products are 2.3x as fast"))
    assert train("spam", **settings | {"output_dir": tmp_path / "another"}).args.bf16
    capsys.readouterr()
    assert not train("spam", **settings, resume_from_checkpoint="true").args.bf16
    assert "Training in fp32: the run began in it.\n" in capsys.readouterr().out


def test_rows_are_told_apart_by_their_order_too():
    rows = [{"input_ids": [number]} for number in range(1000)]
    assert rows_fingerprint(rows) == rows_fingerprint(list(rows)) != rows_fingerprint(rows[::-1])
    assert rows_fingerprint(rows).startswith("1000, ") and rows_fingerprint(rows[1:]) != rows_fingerprint(rows)
    assert rows_fingerprint(iter(rows)) is None is rows_fingerprint(None)
