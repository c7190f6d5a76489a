"""Kinds of files that are not converted: each is told by name, with what to do."""

import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_gpt_scratch.conversion import file_kinds
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import assert_refused, stock_gpt2


def holding(*names: str, content: bytes = b"\0" * 100):
    """A folder with a config.json, as these mostly have, and files of those names; with a slash in a folder."""

    def make(folder: Path) -> Path:
        stock_gpt2(n_layer=1).config.save_pretrained(folder)
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return make


def file(name: str, content: bytes = b"\0" * 100):
    def make(folder: Path) -> Path:
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / name

    return make


def archive(name: str, *members: str):
    def make(folder: Path) -> Path:
        folder.mkdir()
        with zipfile.ZipFile(folder / name, "w") as opened:
            for member in members:
                opened.writestr(member, b"\0" * 10)
        return folder / name

    return make


def torchscript(folder: Path) -> Path:
    folder.mkdir()
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(folder / "model.pt")
    return folder / "model.pt"


def mlx(folder: Path) -> Path:
    stock_gpt2(n_layer=1).save_pretrained(folder)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", {"format": "mlx"})
    return folder


def tar(folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(folder / "model", "w") as opened:
        opened.add(__file__)
    return folder / "model"


def lfs(folder: Path) -> Path:
    stock_gpt2(n_layer=1).save_pretrained(folder)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return folder


DCP = ("__0_0.distcp", ".metadata")
KINDS = {
    "Keras 3's weights": (holding("model.weights.h5"), "weights of a Keras model, .*: .*export_to_transformers"),
    "Keras 3's file": (
        archive("model.keras", "metadata.json", "config.json", "model.weights.h5"),
        "weights of a Keras model",
    ),
    "Keras 3's file of any name": (archive("model.zip", "model.weights.h5"), "weights of a Keras model"),
    "parts of TensorFlow": (holding("tf_model-00001-of-00002.h5"), "one part of several .*transformers 4"),
    "parts of Flax": (holding("flax_model.msgpack.index.json"), "one part of several"),
    "Flax without config": (file("flax_model.msgpack"), "sizes are in the config.json .*: give the folder"),
    "TensorFlow without config": (file("tf_model.h5", b"\x89HDF\r\n\x1a\n"), "config.json .*: give the folder"),
    "ONNX": (holding("model.onnx"), "model.onnx is an ONNX graph, which cannot be converted: convert the model"),
    "MLX's old weights": (holding("weights.npz"), "an MLX model, .*README"),
    "MLX's by content": (archive("weights", "wte.weight.npy"), "an MLX model"),
    "MLX": (mlx, "model.safetensors is an MLX model"),
    "Core ML": (holding("model.mlpackage/Manifest.json"), "a Core ML model"),
    "TFLite": (holding("64.tflite"), "a TensorFlow Lite model"),
    "TFLite by content": (file("model", b"\x1c\0\0\0TFL3" + bytes(90)), "a TensorFlow Lite model"),
    "OpenVINO": (holding("openvino_model.xml"), "an OpenVINO model"),
    "SavedModel": (holding("saved_model.pb", "variables/variables.index"), "a SavedModel of TensorFlow"),
    "TorchScript": (torchscript, r"a TorchScript program, .*torch.jit.load\(FILE\).state_dict"),
    "rust-bert": (holding("rust_model.ot"), "weights of rust-bert"),
    "DeepSpeed": (holding("zero_to_fp32.py", "latest", "global_step5/x"), "DeepSpeed, .*zero_to_fp32.py . OUT"),
    "DeepSpeed's layout": (
        holding("zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt", "global_step5/zero_pp_rank_0_states.pt"),
        "DeepSpeed, .*zero_to_fp32.py . OUT",
    ),
    "one file of DeepSpeed": (
        holding("latest", "global_step5/mp_rank_00_model_states.pt"),
        "global_step5 is .*DeepSpeed",
    ),
    "a file of DeepSpeed": (file("mp_rank_00_model_states.pt"), "a sharded checkpoint of DeepSpeed"),
    "Megatron": (holding("latest_checkpointed_iteration.txt", "iter_0000005/x"), "Megatron-LM, .*convert_megatron"),
    "a folder of Megatron": (holding("mp_rank_00/model_optim_rng.pt"), "a checkpoint of Megatron-LM"),
    "FSDP": (holding(*DCP), "torch.distributed .FSDP., .*dcp_to_torch DIR model.pth"),
    "FSDP by accelerate": (holding("pytorch_model_fsdp_0/__0_0.distcp"), "torch.distributed .FSDP."),
    "Orbax": (holding("_CHECKPOINT_METADATA", "manifest.ocdbt", "d/x"), "a checkpoint of Orbax .JAX."),
    "GGML": (file("model.bin", b"lmgg" + bytes(90)), "a GGML file from before GGUF"),
    "GGML by name": (file("ggml-model-f16.bin"), "a GGML file from before GGUF"),
    "tar.gz": (file("run1.tar.gz", b"\x1f\x8b\x08" + bytes(90)), "an archive, .*: unpack it"),
    "tar": (tar, "an archive, .*: unpack it"),
    "7z": (file("model.7z"), "an archive, .*: unpack it"),
    "7z by content": (file("model", b"7z\xbc\xaf\x27\x1c" + bytes(90)), "an archive, .*: unpack it"),
    "HDF5": (file("weights", b"\x89HDF\r\n\x1a\n" + bytes(90)), "an HDF5 file of no model folder"),
    "Git LFS": (lfs, "model.safetensors is a pointer of Git LFS .*: run `git lfs pull`"),
    "a tokenizer": (file("tokenizer.json", b"{}"), "a tokenizer without a model"),
}


@pytest.mark.parametrize("make, complaint", KINDS.values(), ids=KINDS)
def test_kind_is_refused_by_name(tmp_path, make, complaint):
    assert_refused(make(tmp_path / "source"), complaint)


def test_every_row_of_the_table_has_a_test(tmp_path):
    messages = []
    for number, (make, _) in enumerate(KINDS.values()):
        with pytest.raises(InputError) as refusal:
            file_kinds.refuse(make(tmp_path / str(number)))
        messages.append(str(refusal.value))
    rows = (*file_kinds.KINDS, file_kinds.TOKENIZER)
    assert [row.what for row in rows if not any(f" is {row.what}, " in message for message in messages)] == []


def test_a_folder_of_a_tokenizer_alone(tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / "source" / name).write_text("{}")
    assert_refused(tmp_path / "source", "merges.txt is a tokenizer without a model")


def test_a_tokenizer_above_the_folder_of_a_model_is_none_alone(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    stock_gpt2(n_layer=1).save_pretrained(tmp_path / "source" / "model")
    assert convert(str(tmp_path / "source"), tmp_path / "out", tokenizer="none").format == "stock transformers GPT-2"


def test_weights_that_are_read_count_before_all_other_files(tmp_path):
    folder = holding("model.onnx", "rust_model.ot", "64.tflite", "saved_model.pb")(tmp_path / "source")
    stock_gpt2(n_layer=1).save_pretrained(folder)
    assert convert(str(folder), tmp_path / "out", tokenizer="none").format == "stock transformers GPT-2"


def test_a_header_that_is_no_json_is_left_to_its_reader(tmp_path):
    path = tmp_path / "model.safetensors"
    for header in (b"[" * 1000, b"{}", json.dumps({"__metadata__": 3}).encode(), b"\xff"):
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
        file_kinds.refuse(path)
    path.write_bytes((2**63).to_bytes(8, "little"))
    file_kinds.refuse(path)
