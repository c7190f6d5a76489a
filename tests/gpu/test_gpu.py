"""On a GPU the model is what it is on a CPU: the same logits, losses, answers and labels, in every precision."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, TextClassifier, load
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.data.packing import LanguageModelCollator, pack
from hf_gpt_scratch.generation.batch import complete_prompts
from support import jobs
from support.classifiers import TEXTS, save_classifier
from support.models import save_model

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GPTScratchConfig(vocab_size=300, n_positions=64, n_embd=64, n_layer=2, n_head=4, initializer_range=0.1)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(config, name, 0.0)
    return GPTScratchForCausalLM(config).to(DEVICE).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-4), ("bfloat16", 0.1), ("float16", 0.02)])
def test_logits_are_those_of_stock_gpt2_on_the_cpu(tmp_path, attention, dtype, most):
    torch.manual_seed(0)
    stock = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=64, n_embd=64, n_layer=2, n_head=4)).eval()
    stock.save_pretrained(tmp_path / "stock")
    convert(str(tmp_path / "stock"), tmp_path / "ours")
    ours = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype=getattr(torch, dtype), attn_implementation=attention
    ).to(DEVICE)
    ids, mask = torch.randint(300, (3, 20)), torch.ones(3, 20, dtype=torch.long)
    mask[0, :7] = 0  # padding on the left
    with torch.no_grad():
        expected = stock(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
        found = ours(ids.to(DEVICE), attention_mask=mask.to(DEVICE)).logits.float().cpu()
    assert (found - expected)[mask.bool()].abs().max() <= most


def test_packed_documents_cost_what_they_cost_alone(model):
    documents = [{"input_ids": torch.randint(300, (length,)).tolist()} for length in (5, 17, 30, 9)]
    packed = LanguageModelCollator(0)(pack(documents, 64))
    alone = [torch.tensor([one["input_ids"]], device=DEVICE) for one in documents]
    tokens = sum(len(one["input_ids"]) - 1 for one in documents)
    with torch.no_grad():
        expected = sum(model(ids, labels=ids).loss * (ids.shape[1] - 1) for ids in alone) / tokens
        found = model(**{name: value.to(DEVICE) for name, value in packed.items()}).loss
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)


def test_answers_in_batches_are_those_alone(model):
    prompts = [torch.randint(1, 300, (length,)).tolist() for length in (3, 12, 25, 7)]
    batched = complete_prompts(model, prompts, 10, 4)
    assert batched == [complete_prompts(model, [prompt], 10, 1)[0] for prompt in prompts]
    assert [one.finish_reason for one in complete_prompts(model, prompts, 3, 4, temperature=1.0)]  # sampled


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_steps_lower_the_loss_in_every_precision(model, precision):
    model = copy.deepcopy(model).train()
    optimizer, ids = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True), torch.randint(300, (4, 32)).to(DEVICE)
    scaler, losses = torch.amp.GradScaler(DEVICE, enabled=precision == "fp16"), []
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    for _ in range(15):
        with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
            losses.append(model(ids, labels=ids, use_cache=False).loss)
        scaler.scale(losses[-1]).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert torch.stack(losses).isfinite().all() and losses[-1] < 0.9 * losses[0]


def test_one_compiled_graph_gives_the_same_logits(model):
    ids = torch.randint(300, (2, 24), device=DEVICE)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True)(ids, use_cache=False).logits
        assert (compiled - model(ids, use_cache=False).logits).abs().max() <= 1e-3


def test_a_classifier_says_the_same_as_on_the_cpu(tmp_path):
    folder = save_classifier(tmp_path)
    here, there = (
        TextClassifier.from_pretrained(folder, device=device, dtype="float32") for device in ("cpu", DEVICE)
    )
    for one, other in zip(here.classify(TEXTS), there.classify(TEXTS)):
        assert one.label == other.label and one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert [word.label for word in here.read_words(TEXTS[0])] == [word.label for word in there.read_words(TEXTS[0])]


def test_a_model_is_loaded_onto_the_gpu_by_itself(tmp_path):
    model, _ = load(save_model(tmp_path))
    assert model.device.type == DEVICE


@pytest.mark.parametrize("job", ["pretrain", "instruct", "spam"])
def test_the_jobs_train_there(job, tmp_path):
    data = jobs.write_data(job, tmp_path / ("data.json" if job == "instruct" else "data.txt"))
    trainer = jobs.train(job, data_file=data, output_dir=tmp_path / "run", use_cpu=None, logging_steps=1)
    assert next(trainer.model.parameters()).device.type == DEVICE
    assert trainer.args.bf16 or trainer.args.fp16
