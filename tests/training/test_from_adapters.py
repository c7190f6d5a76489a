"""Training from the folder of an adapter: it is merged, and then all is trained, under a head of the job's."""

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.pretrained import load_pretrained
from hf_gpt_scratch.utils.errors import UsageError
from support.adapters import ADAPTED, save_adapters
from support.jobs import train, write_data


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    return save_adapters(tmp_path_factory.mktemp("adapters"))


def train_from(job: str, adapter, tmp_path, **settings):
    tmp_path.mkdir()
    data = {"data_file": write_data(job, tmp_path / "data"), "output_dir": tmp_path / "out", "train_tokenizer": None}
    return train(job, model_name_or_path=adapter, **{"learning_rate": 0.01, **data, **settings}).model


JOBS = [("pretrain", "CAUSAL_LM"), ("instruct", "CAUSAL_LM"), ("spam", "CAUSAL_LM"), ("spam", "SEQ_CLS")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("job", "task"), JOBS)
def test_a_job_trains_all_of_the_merged_model(job, task, adapters, tmp_path):
    base = load_pretrained(GPTScratchForCausalLM, adapters / "base").state_dict()
    start = load_pretrained(ADAPTED[task], adapters / task, new_head=task == "SEQ_CLS").state_dict()
    still = train_from(job, adapters / task, tmp_path / "still", learning_rate=0.0).state_dict()
    merged = [name for name in start if name.startswith("transformer.h.") and name.endswith("_proj.weight")]
    assert merged and all(torch.equal(still[name], start[name]) for name in merged)
    assert not any(torch.equal(still[name], base[name]) for name in merged)
    trained = train_from(job, adapters / task, tmp_path / "trained")
    assert all(parameter.requires_grad for parameter in trained.parameters())
    unchanged = [name for name, value in trained.state_dict().items() if torch.equal(value, still[name])]
    assert not unchanged
    if job == "spam":
        assert trained.score.weight.shape == (2, 8) and trained.config.id2label == {0: "ham", 1: "spam"}


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_top_of_an_adapter_is_merged_in_the_end_or_refused(adapters, tmp_path):
    lora = {"lora_r": 2, "adapter": adapters / "CAUSAL_LM"}
    with pytest.raises(UsageError, match="is an adapter itself, .* add --merge_adapter true, or omit --lora_r"):
        train_from("instruct", tmp_path=tmp_path / "alone", **lora)
    model = train_from("instruct", tmp_path=tmp_path / "merged", merge_adapter=True, **lora)
    assert {name.split(".")[-3] for name, value in model.named_parameters() if value.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    merged = load_pretrained(GPTScratchForCausalLM, adapters / "CAUSAL_LM").transformer.h[0].attn.q_proj.weight
    assert torch.equal(model.base_model.model.transformer.h[0].attn.q_proj.base_layer.weight, merged)
