"""What is fetched, adapters that become models, and judgements of pairs, as subjects of `kill`."""

import random
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from command_inputs import answers, stock_model
from kill_commands import CONVERSIONS, command, judge_port
from kill_training import real
from stand_ins import files

MESSAGES = real("sms_spam/SMSSpamCollection", "messages.tsv")
CONTENT = "content"  # of the server, in the folder of inputs


def adapters(folder: Path) -> None:
    """A language model and an adapter of it."""
    from support.adapters import save_adapters

    save_adapters(folder)


def adapter_of_stock_gpt2(folder: Path) -> None:
    """Stock GPT-2, of random weights, and an adapter of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2LMHeadModel

    base = GPT2LMHeadModel.from_pretrained(stock_model(folder))
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder / "adapter")


def gpt2(folder: Path) -> None:
    """Files with the names of OpenAI's; nobody reads them."""
    from hf_gpt_scratch.conversion.openai_tf import FILES

    (folder / CONTENT).mkdir()
    for name in FILES:
        size = 300_000 if ".data-" in name else 3000
        (folder / CONTENT / name).write_bytes(random.Random(name).randbytes(size))


def packed_messages(folder: Path) -> None:
    """UCI's zip, as far as it matters."""
    (folder / CONTENT).mkdir()
    with zipfile.ZipFile(folder / CONTENT / "messages.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(MESSAGES, "SMSSpamCollection")


@cache
def served(folder: Path) -> str:
    """The address of a server of the files there, one for all tries."""
    return f"http://127.0.0.1:{files(folder)}"


def with_server(inputs: Path) -> Sequence[str]:
    return [served(inputs / CONTENT)]


def download_gpt2(words: Sequence[str]) -> int:
    """GPT-2's files, of which no checksum is known."""
    from huggingface_hub import constants

    from hf_gpt_scratch.conversion import download
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    constants.HF_HUB_OFFLINE = False
    download.HOSTS, download.SHA256 = (words[0],), {"124M": {}}
    return run_reporting_errors(lambda: download.download_openai("124M", "gpt2") and None)


def download_messages(words: Sequence[str]) -> int:
    """The messages, into the cache."""
    from huggingface_hub import constants

    from hf_gpt_scratch.data import sms_spam
    from hf_gpt_scratch.utils.errors import run_reporting_errors
    from hf_gpt_scratch.utils.provenance import sha256

    constants.HF_HUB_OFFLINE, constants.HF_HOME = False, str(Path("home").absolute())
    sms_spam.URL, sms_spam.SHA256 = f"{words[0]}/messages.zip", sha256(MESSAGES)
    return run_reporting_errors(lambda: sms_spam.load_messages() and None)


def judged_pairs(inputs: Path) -> Sequence[str]:
    url = f"http://127.0.0.1:{judge_port()}/v1"
    both = [inputs / "a.json", inputs / "b.json"]
    return ["judge", *both, "--base-url", url, "--model", "stand-in", "--output", "judge.json"]


SUBJECTS = [
    command("download of GPT-2", with_server, gpt2, run=download_gpt2),
    command("download of the SMS messages", with_server, packed_messages, run=download_messages),
    command(
        "convert, adapter",
        lambda at: ["convert", at / "adapter", "out"],
        adapter_of_stock_gpt2,
        modules=(*CONVERSIONS, "peft"),
    ),
    command(
        "export --adapter",
        lambda at: ["export", at / "base", "out", "--to", "hf-gpt2", "--adapter", at / "CAUSAL_LM"],
        adapters,
        modules=CONVERSIONS,
    ),
    command("judge, pairs", judged_pairs, answers, modules=("hf_gpt_scratch.evaluation.judge.scoring",)),
]
