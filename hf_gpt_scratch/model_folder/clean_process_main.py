"""
What `clean_process.py` runs, in a process that cannot import this package: models loaded by their Auto classes.

Reads from standard input a JSON object: `jobs`; `exchange`, the safetensors file for tensors; `scratch`, the folder
for temporary files, with `empty` in it. Prints as its last line a list of results, one for each job. A job has a
`folder` and an `auto_class`, and maybe
- `texts` for AutoTokenizer, whose token ids are the result's `ids`;
- `key_mapping`, that of `from_pretrained`;
- `input_ids` or `text` for a model, whose first output is the tensor `answer.N` of job N in the exchange;
- `text` and `generate`, the arguments of `generate`, whose decoded output is the result's `text`;
- `trust_remote_code`, which is true unless the job says otherwise.
The result of a model also has `code`, the module of its class, and the `missing`, `unexpected` and `mismatched` keys;
that of a job that failed has `error` alone.
"""

import json
import os
import shutil
import sys
import threading
import time

import torch
import transformers
from safetensors.torch import save_file

REPORT = ("missing", "unexpected", "mismatched")


def load_tokenizer(folder: str, trust: bool):
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)


def load_model(folder: str, auto_class: str, scratch: str, trust: bool, key_mapping: dict | None):
    """The model in fp32, the module that its class is of, and transformers' report."""
    if auto_class.startswith("AutoPeft"):
        import peft

        model = getattr(peft, auto_class).from_pretrained(folder, trust_remote_code=trust)
        return model.float(), type(model.get_base_model()).__module__, {}
    model, report = getattr(transformers, auto_class).from_pretrained(
        folder,
        trust_remote_code=trust,
        output_loading_info=True,
        dtype=torch.float32,
        # Weights beyond 1 GB stay on disk until their turn comes.
        device_map="auto",
        max_memory={"cpu": 10**9},
        offload_folder=scratch,
        key_mapping=key_mapping,
    )
    return model, type(model).__module__, report


def do(job: dict, number: int, tensors: dict, scratch: str) -> dict:
    folder, auto_class, trust = job["folder"], job["auto_class"], job.get("trust_remote_code", True)
    if auto_class == "AutoConfig":
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust)
        return {"code": type(config).__module__}
    if auto_class == "AutoTokenizer":
        tokenizer = load_tokenizer(folder, trust)
        return {"ids": [tokenizer(text)["input_ids"] for text in job["texts"]]}
    model, code, report = load_model(folder, auto_class, scratch, trust, job.get("key_mapping"))
    model.eval()
    result = {"code": code, **{kind: sorted(map(str, report.get(f"{kind}_keys", ()))) for kind in REPORT}}
    ids = job.get("input_ids")
    if "text" in job:
        tokenizer = load_tokenizer(folder, trust)
        ids = [tokenizer(job["text"])["input_ids"]]
    if ids is None:
        return result
    ids = torch.tensor(ids)
    if "generate" in job:
        torch.manual_seed(0)
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **job["generate"])
        return {**result, "text": tokenizer.decode(output[0])}
    with torch.no_grad():
        answer = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    tensors[f"answer.{number}"] = answer.contiguous()
    return result


def end_with(scratch: str) -> None:
    """
    Ends this process once its folder is removed: whoever started it was killed, and another command has cleaned up.
    What the libraries have made there since goes too; `empty` they never make.
    """
    while os.path.isdir(os.path.join(scratch, "empty")):
        time.sleep(0.05)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def main() -> None:
    sys.modules["hf_gpt_scratch"] = None  # importing it fails from here on
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    request = json.loads(sys.stdin.read())
    threading.Thread(target=end_with, args=(request["scratch"],), daemon=True).start()
    results, tensors = [], {}
    for number, job in enumerate(request["jobs"]):
        try:
            results.append(do(job, number, tensors, request["scratch"]))
        except BaseException as error:
            results.append({"error": (str(error).strip().splitlines() or [type(error).__name__])[0]})
    save_file(tensors, request["exchange"])
    print(json.dumps(results))


if __name__ == "__main__":
    main()
