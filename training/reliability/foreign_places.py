"""Where code of others can stand, and which commands meet it there: `PLACES`, in the order of SECURITY.md."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from command_inputs import few_tasks
from foreign_data import data_places
from foreign_kit import ADAPTER, RESPONSES, TRACE, Payload, Place, append, code, edit, torch_file
from foreign_naive import load, load_adapter, pipeline, read_yaml, render, run_file, unpickle, unpickle_plain


def model_code(folder: Path) -> None:
    for name in ("model", "classifier", "base"):
        for file in ("modeling", "configuration", "pipeline"):
            append(folder / name / f"{file}_gpt_scratch.py", code(folder))


def tokenizer_code(folder: Path) -> None:
    mine = "from transformers import PreTrainedTokenizerFast\nclass Mine(PreTrainedTokenizerFast): pass\n"
    for name in ("model", "classifier", ADAPTER, "judge"):
        (folder / name / "mine.py").write_text(mine + code(folder))
        auto_map = {"AutoTokenizer": [None, "mine.Mine"]}
        edit(folder / name / "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Mine")


def custom_generate(folder: Path) -> None:
    for name in ("model", "judge"):
        (folder / name / "custom_generate").mkdir()
        text = "def generate(model, **kwargs): pass\n"
        (folder / name / "custom_generate" / "generate.py").write_text(text + code(folder))


def custom_pipelines(folder: Path) -> None:
    (folder / "classifier" / "mine.py").write_text(code(folder))
    impl = {"text-classification": {"impl": "mine.Mine", "pt": ["AutoModelForSequenceClassification"], "tf": []}}
    edit(folder / "classifier" / "config.json", custom_pipelines=impl)


def code_by_path(folder: Path) -> None:
    """The path must have no dot, else no program looks there."""
    (folder / "outside.py").write_text(code(folder))
    for name in ("model", "base", "judge"):
        edit(folder / name / "config.json", auto_map={"AutoConfig": f"{folder / 'outside'}.Config"})


def other_configs(folder: Path) -> None:
    for name in ("model", "judge"):
        (folder / name / "mine.py").write_text(code(folder))
        settings = json.loads((folder / name / "config.json").read_text())
        edit(folder / name / "config.4.0.0.json", **settings, attn_implementation="someone/kernel")
        edit(folder / name / "config.json", configuration_files=["config.4.0.0.json"])


def kernels(folder: Path) -> None:
    for name in ("model", "classifier", "base", "judge"):
        edit(folder / name / "config.json", attn_implementation="someone/kernel")


def watch_kernels() -> None:
    """In place of what downloads a kernel, a canary."""
    from transformers.integrations import hub_kernels

    trace = Path(TRACE).absolute()

    def ran(*_, **__):
        trace.touch()
        raise RuntimeError("a kernel was asked for")

    for name in ("load_and_register_attn_kernel", "lazy_load_kernel", "get_kernel"):
        setattr(hub_kernels, name, ran)


def judge_code(folder: Path) -> None:
    lines = "from transformers import LlamaConfig as Config, LlamaForCausalLM as Model\n"
    (folder / "judge" / "mine.py").write_text(lines + code(folder))
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    edit(folder / "judge" / "config.json", auto_map=auto_map)


def megatron(folder: Path) -> None:
    (folder / "megatron").mkdir()
    (folder / "megatron" / "__init__.py").write_text("")
    (folder / "megatron" / "core.py").write_text(code(folder))
    settings = {"megatron_config": {"a": 1}, "megatron_core": "megatron.core"}
    parent = {"base_model_class": "Mine", "parent_library": "megatron.core"}
    edit(folder / ADAPTER / "adapter_config.json", **settings, auto_mapping=parent)


def import_from_here() -> None:
    import sys

    sys.path.insert(0, str(Path.cwd()))


def templates(text: str) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        for name in ("model", ADAPTER, "judge"):
            (folder / name / "chat_template.jinja").write_text(text.replace("TRACE", str(folder / TRACE)))

    return plant


ESCAPES = (
    "{{ cycler.__init__.__globals__.os.system('touch TRACE') }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('TRACE', 'w') }}",
    "{{ (namespace|attr('__init__')|attr('__globals__'))['os'].system('touch TRACE') }}",
)
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def chat() -> int:
    """What `chat` does with a question."""
    from hf_gpt_scratch import Chat
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    def ask() -> None:
        "".join(Chat.from_pretrained("model", device="cpu").ask("What?", max_new_tokens=2))

    return run_reporting_errors(ask)


def pickled_weights(folder: Path) -> None:
    from safetensors.torch import load_file

    for name, file in (("model", "model"), ("base", "model"), ("stock", "model"), (ADAPTER, "adapter_model")):
        weights = folder / name / f"{file}.safetensors"
        tensors = load_file(weights)
        weights.unlink()
        end = "adapter_model.bin" if name == ADAPTER else "pytorch_model.bin"
        torch_file(folder / name / end, folder, tensors)
    torch_file(folder / "nanogpt" / "ckpt.pt", folder, {"model": {}, "model_args": {}})


def pickled_characters(folder: Path) -> None:
    """nanoGPT's meta.pkl, a plain pickle."""
    (folder / "characters").mkdir()
    (folder / "characters" / "meta.pkl").write_bytes(pickle.dumps(Payload(code(folder))))
    shutil.copytree(folder / "stock", folder / "characters", dirs_exist_ok=True)


PRETRAIN = [
    *("train", "pretrain", "--data_file", "text.txt", "--output_dir", "run", "--train_tokenizer", "270"),
    *("--n_embd", "8", "--n_layer", "1", "--n_head", "1", "--n_positions", "32", "--use_cpu", "true"),
    *("--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no", "--load_best_model_at_end", "false"),
]


def checkpoint(name: str) -> Callable[[Path], None]:
    """A checkpoint of a run that is to be continued, one of its files a pickle with a canary."""

    def plant(folder: Path) -> None:
        import os

        from forks import Fork

        from hf_gpt_scratch.cli import main
        from hf_gpt_scratch.training.checkpoints import write_manifest

        ended = Fork(lambda: main([*PRETRAIN, "--max_steps", "2"]), folder, folder.with_suffix(".log")).end()
        held = folder / "run" / "checkpoint-1"
        if not held.is_dir():
            raise RuntimeError(f"There is no checkpoint to damage:\n{ended.said[-2000:]}")
        (folder / "checkpoint-1").mkdir()
        os.rename(held, folder / "checkpoint-1" / "held")
        shutil.rmtree(folder / "run")
        shutil.move(folder / "checkpoint-1" / "held", folder / "run" / "checkpoint-1")
        torch_file(folder / "run" / "checkpoint-1" / name, folder)
        write_manifest(folder / "run" / "checkpoint-1")  # so that it counts as it is

    return plant


RESUMED = [*PRETRAIN, "--max_steps", "2", "--resume_from_checkpoint", "true"]


def yaml_tag(folder: Path) -> None:
    (folder / "evil.yaml").write_text(f"data_file: !!python/object/apply:builtins.exec [{code(folder)!r}]\n")


def data_script(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "data.py").write_text(code(folder))


TASK = {
    **{"task": "mine", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice"},
    **{"doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "answer"},
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
EVALUATE = ["evaluate", "model", "--tasks", "mine", "--include_path", "tasks", "--output_dir", "out"]


def task(change: Callable[[dict, Path], str]) -> Callable[[Path], None]:
    """A task of the harness; `change` alters its settings and returns what to add to the file."""

    def plant(folder: Path) -> None:
        import yaml

        tasks = folder / "tasks"
        tasks.mkdir()
        (tasks / "rows.jsonl").write_text(json.dumps({"question": "a lamp?", "choices": ["a", "b"], "answer": 0}))
        data = {"data_files": {"test": str(tasks / "rows.jsonl")}, "cache_dir": str(tasks / "cache")}
        settings = {**TASK, "dataset_kwargs": data}
        added = change(settings, folder)
        (tasks / "mine.yaml").write_text(yaml.safe_dump(settings) + added)

    return plant


def task_function(settings: dict, folder: Path) -> str:
    (folder / "tasks" / "utils.py").write_text(f"def text(doc):\n    {code(folder)}    return 'a'\n")
    del settings["doc_to_text"]
    return "doc_to_text: !function utils.text\n"


def task_template(settings: dict, folder: Path) -> str:
    settings["doc_to_text"] = ESCAPES[0].replace("TRACE", str(folder / TRACE)) + "{{question}}"
    return ""


def served_code(folder: Path) -> None:
    for name in ("handler.py", "app.py", "setup.py", "conftest.py", "sitecustomize.py", "__init__.py"):
        for model in ("model", "classifier"):
            (folder / model / name).write_text(code(folder))


def working_directory(folder: Path) -> None:
    names = ("torch", "transformers", "numpy", "json", "typing", "logging", "safetensors", "peft", "yaml", "jinja2")
    for name in (*names, "sitecustomize", "usercustomize", "conftest", "tokenizers", "datasets"):
        (folder / f"{name}.py").write_text(code(folder))
    (folder / "start.pth").write_text(f"import os; {code(folder)}")


def load_back() -> int:
    """A repository that does not hold what was pushed, but a canary."""
    import huggingface_hub

    from hf_gpt_scratch.hub.push import load_back
    from hf_gpt_scratch.model_folder.contents import ModelFolder
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    huggingface_hub.snapshot_download = lambda *_, **__: Path("model").absolute()
    return run_reporting_errors(lambda: load_back(ModelFolder.read("model"), "you/x", "abc", None) and None)


CHECK, PUSH = ["check", "model"], ["push", "model", "you/x", "--dry-run"]
SPACE = ["app", "chat", "model", "--export-space", "out"]
WRITE = ["generate", "model", "--prompt", "a lamp", "--max-new-tokens", "2", "--device", "cpu"]
JUDGE = ["judge", RESPONSES, "--judge-model", "judge", "--device", "cpu"]
INSTRUCT = [
    *("train", "instruct", "--model_name_or_path", "model", "--data_file", "rows.jsonl", "--output_dir", "run"),
    *("--max_steps", "1", "--use_cpu", "true"),
]
OF_MODELS = [
    *(CHECK, WRITE, PUSH, SPACE, chat, ["check", "classifier"], ["classify", "classifier", "a text"]),
    *(["export", "model", "out", "--to", to] for to in ("hf-gpt2", "onnx", "gguf")),
    *(["app", "classify", "classifier", "--export-space", "out"], INSTRUCT, ["convert", "model", "out"]),
    ["judge", RESPONSES, "--judge-model", "model", "--device", "cpu"],
]
OF_ADAPTERS = [
    *(["check", ADAPTER], ["generate", ADAPTER, "--prompt", "a lamp", "--max-new-tokens", "2"]),
    *(["push", ADAPTER, "you/x", "--dry-run"], ["export", ADAPTER, "out", "--to", "hf-gpt2"]),
]


def trusted(*commands: list[str]) -> list[list[str]]:
    return [[*words, "--trust-remote-code"] for words in commands]


PLACES = [
    Place("model code beside config.json", model_code, OF_MODELS, trusted(CHECK, PUSH, SPACE), load("model")),
    Place(
        "a tokenizer's auto_map",
        tokenizer_code,
        [*OF_MODELS, *OF_ADAPTERS, JUDGE],
        trusted(CHECK, PUSH),
        load("judge", "AutoTokenizer"),
    ),
    Place("custom_generate/generate.py", custom_generate, [*OF_MODELS, JUDGE], trusted(CHECK, PUSH), load("judge")),
    Place(
        "custom_pipelines",
        custom_pipelines,
        [["check", "classifier"], ["classify", "classifier", "a text"], *trusted(["check", "classifier"])],
        naive=pipeline("classifier"),
    ),
    Place(
        "auto_map by a path",
        code_by_path,
        [*OF_MODELS, *OF_ADAPTERS, JUDGE, *trusted(CHECK, PUSH)],
        naive=load("model"),
    ),
    Place(
        "attention kernels in config.json",
        kernels,
        [*OF_MODELS, *OF_ADAPTERS, JUDGE, *trusted(CHECK, PUSH)],
        naive=load("judge"),
        prepare=watch_kernels,
    ),
    Place(
        "another config.json",
        other_configs,
        [CHECK, WRITE, chat, PUSH, JUDGE, *trusted(CHECK, PUSH)],
        naive=load("judge"),
        prepare=watch_kernels,
    ),
    Place("an adapter's base model", model_code, OF_ADAPTERS, naive=load("base")),
    Place(
        "modules in adapter_config.json",
        megatron,
        [*OF_ADAPTERS, *trusted(["check", ADAPTER])],
        naive=load_adapter(ADAPTER),
        prepare=import_from_here,
    ),
    Place("a judge's model code", judge_code, [JUDGE], naive=load("judge")),
    *(
        Place(
            f"chat template: a way out of the sandbox ({number})",
            templates(text),
            [chat, JUDGE, CHECK, PUSH],
            naive=render("model/chat_template.jinja"),
        )
        for number, text in enumerate(ESCAPES, 1)
    ),
    Place("chat template: endless", templates(ENDLESS), [chat, JUDGE, CHECK]),
    Place(
        "pickled weights",
        pickled_weights,
        [
            *(["convert", "stock", "out", "--tokenizer", "none"], WRITE, *OF_ADAPTERS, CHECK, INSTRUCT),
            ["convert", "nanogpt/ckpt.pt", "out", "--tokenizer", "none"],
        ],
        naive=unpickle("stock/pytorch_model.bin"),
    ),
    Place("pickled characters", pickled_characters, [["convert", "characters", "out"]], naive=unpickle_plain),
    *(
        Place(f"a checkpoint's {name}", checkpoint(name), [RESUMED], naive=unpickle(f"run/checkpoint-1/{name}"))
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    ),
    Place("YAML of a job", yaml_tag, [["train", "pretrain", "evil.yaml"]], naive=read_yaml),
    Place(
        "a script of a data set",
        data_script,
        [["train", "pretrain", "--dataset_name", "./data", "--output_dir", "run", "--train_tokenizer", "270"]],
        naive=run_file("data/data.py"),
    ),
    Place("functions of a task", task(task_function), [EVALUATE], trusted(EVALUATE), prepare=few_tasks),
    Place(
        "templates of a task",
        task(task_template),
        [EVALUATE, *trusted(EVALUATE)],
        naive=render("tasks/mine.yaml"),
        prepare=few_tasks,
    ),
    Place(
        "handler.py, app.py and others in a folder",
        served_code,
        [*OF_MODELS, *trusted(CHECK)],
        naive=run_file("model/handler.py"),
    ),
    Place(
        "modules in the working directory", working_directory, [CHECK, WRITE], naive=run_file("torch.py"), is_real=True
    ),
    Place("push's load-back", model_code, [load_back], naive=load("model")),
    *data_places(
        ESCAPES,
        {
            **{"check": CHECK, "write": WRITE, "push": PUSH, "space": SPACE, "instruct": INSTRUCT},
            **{"classify": ["classify", "classifier", "a text"], "adapter": ["push", ADAPTER, "you/x", "--dry-run"]},
        },
    ),
]
