"""
What commands share: argparse `type`s of numbers that say what is wrong with a value, options that several commands
have, and checks of their arguments.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from ..training.configs import checkpoints
from ..utils.constants import ONNX_ONLY, ONNX_RECORD, PRECISIONS
from ..utils.errors import InputError, UsageError
from ..utils.files import is_missing_folder, read_json_object, require_file, require_folder, require_present
from ..utils.provenance import shown_path
from ..utils.requirements import ONNXRUNTIME, PEFT, require_package

OF_ADAPTERS = {  # by PEFT's task_type
    "CAUSAL_LM": "GPTScratchForCausalLM",
    "SEQ_CLS": "GPTScratchForSequenceClassification",
    "TOKEN_CLS": "GPTScratchForTokenClassification",
}


def positive(text: str) -> int:
    value = _whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def above_0(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def count(text: str) -> int:
    value = _whole_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


def at_least_0(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return value


def probability(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be 0 to 1, not {text}")
    return value


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def require_model(name: str) -> None:
    """
    Raises `InputError` for what cannot be a model of this package: neither a folder, nor of the form owner/name, as
    repositories of the Hub are; and as `require_usable`.
    """
    require_present(name)
    if Path(name).is_file():
        raise InputError(f"{name} is a file; expected a model folder.")
    if not Path(name).exists() and "/" not in name:
        raise InputError(f"There is no model folder {name!r} (a Hub repository has the form owner/name).")
    require_usable(name)


def require_usable(folder: str) -> None:
    """Raises `InputError` for the folder of an adapter where PEFT is missing, and for one of an unfinished run."""
    if (Path(folder) / "adapter_config.json").is_file():
        require_package(*PEFT)
    elif (Path(folder) / ONNX_RECORD).is_file():
        require_package(*ONNXRUNTIME)
    elif not (Path(folder) / "config.json").is_file():
        left = checkpoints(folder)
        if left:
            raise InputError(
                f"{folder} holds an unfinished run ({left[-1].name}): repeat the command that began it to"
                f" finish it, or use {shown_path(left[-1])} as it is."
            )


def refuse_onnx(folder: str) -> None:
    """Raises `InputError` for an ONNX folder, whose model can only be used."""
    if (Path(folder) / ONNX_RECORD).is_file():
        raise InputError(ONNX_ONLY.format(folder))


def require_local(folder: str, command: str, why: str) -> None:
    """Raises `InputError` when there is no local folder of this name; `why` says why a repository will not do."""
    if not Path(folder).exists() and "/" in folder and not is_missing_folder(folder):
        raise InputError(f"There is no folder {folder!r}: {command} needs a local folder, {why}.")
    require_folder(folder)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that runs a model in this process; `placement` is what they say."""
    parser.add_argument(
        "--device",
        type=_device,
        default="auto",
        help="auto, cuda, cuda:1, mps or cpu (default: auto, the first of cuda, mps and cpu that is available)",
    )
    parser.add_argument(
        "--dtype",
        type=_dtype,
        choices=("auto", *PRECISIONS),
        default="auto",
        help="data type that the model runs in (default: auto, fp32 on a CPU, elsewhere the one of its weights, with"
        " fp16 for bf16 on GPUs that only emulate it); int8 is faster on a CPU, and its results differ a little",
    )


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be auto, cuda, cuda:1, mps or cpu, not {text!r}")
    return text


def _dtype(text: str) -> str:
    """The short name of a data type, as `--precision` has it too; torch's long one is known."""
    return {long: short for short, long in PRECISIONS.items()}.get(text, text)


def placement(args: argparse.Namespace) -> dict:
    """What `pretrained.place` takes: the device, the data type, and that they are told on stderr."""
    return {"device": args.device, "dtype": args.dtype, "report": lambda sentence: print(sentence, file=sys.stderr)}


def add_trust(parser: argparse.ArgumentParser, when: str = "") -> None:
    """The option of every command that runs a folder's own code; its help begins with `when`."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help=f"{when}run the code in the folder even if it is not this package's own; read it first",
    )


def add_messages(parser: argparse.ArgumentParser, help: str) -> None:
    """The options of the commands that evaluate runs of the spam job."""
    parser.add_argument("--data_file", help=help)
    parser.add_argument("--dataset_name", help="a Hub data set with the messages")


def check_messages(args: argparse.Namespace) -> None:
    """Raises `InputError` when the file of messages does not exist, or both options are given."""
    if args.data_file and args.dataset_name:
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if args.data_file:
        require_file(args.data_file, "data file")


def architecture(folder: str) -> str:
    """
    The class of the model in a local folder, by its config.json, or that an adapter there is for; "" where there is
    none to be read.
    """
    try:
        names = read_json_object(Path(folder) / "config.json").get("architectures")
    except InputError:
        try:
            return OF_ADAPTERS.get(read_json_object(Path(folder) / "adapter_config.json").get("task_type"), "")
        except InputError:
            return ""
    return str(names[0]) if isinstance(names, list) and names else ""


def is_classifier(folder: str) -> bool:
    return architecture(folder).endswith(("ForSequenceClassification", "ForTokenClassification"))


def require_spam_run(folder: str, command: str) -> None:
    """Raises `InputError`, naming the right command, unless the folder is one of a trained classifier."""
    require_folder(folder)
    if architecture(folder) and not is_classifier(folder):
        raise InputError(
            f"{folder} holds a language model, and {command} is for classifiers; measure it with `hf-gpt-scratch"
            f" evaluate {shlex.quote(folder)} --tasks wikitext`."
        )
