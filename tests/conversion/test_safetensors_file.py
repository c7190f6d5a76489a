"""What is written a tensor at a time is what safetensors reads, bit for bit, whatever the strides."""

import pytest
import torch
from safetensors.torch import load_file

from hf_gpt_scratch.conversion import safetensors_file


def views() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    fused = torch.randn(150, 3 * 1024, generator=draw).t()  # steps of 12,288 bytes, a multiple of 4,096
    return {
        **dict(zip(("q", "k", "v"), fused.chunk(3))),
        "odd": torch.randn(300, 130, generator=draw).t(),
        "half": torch.randn(131, 4096, generator=draw).to(torch.bfloat16).t(),
        "every other": torch.randn(9, 14, generator=draw)[::2, 1::3],
        "plain": torch.randn(3, 5, generator=draw),
        "vector": torch.arange(7.0)[::2],
        "cube": torch.randn(2, 3, 4, generator=draw).transpose(0, 2),
        "wide": torch.randn(2, dtype=torch.float64, generator=draw),
    }


@pytest.mark.parametrize("piece", [2**20, 4096], ids=["whole", "in pieces"])
def test_any_view_is_written_bit_for_bit(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(safetensors_file, "PIECE", piece)
    monkeypatch.setattr(safetensors_file, "WRITE", piece // 4)
    tensors = views()
    layout = {name: tensor.to("meta") for name, tensor in tensors.items()}
    safetensors_file.write_safetensors(tmp_path, layout, tensors.__getitem__)
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert written[name].dtype == tensor.dtype and torch.equal(written[name], tensor), name


def test_a_tensor_that_was_not_promised_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"x is torch.float32 \[2\], not torch.float32 \[3\]"):
        safetensors_file.write_safetensors(tmp_path, {"x": torch.empty(3, device="meta")}, lambda name: torch.zeros(2))
