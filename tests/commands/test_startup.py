"""`--help`, `--version` and wrong usage are answered at once, without torch; a command imports what it needs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_gpt_scratch import __version__
from hf_gpt_scratch.cli import load_all, make_parser
from hf_gpt_scratch.commands import COMMANDS
from support.distributions import make_distribution

HEAVY = {"torch", "transformers", "numpy", "datasets", "pandas", "sklearn", "scipy", "matplotlib", "huggingface_hub"}
DATA = "hf_gpt_scratch/example_data"
SECONDS = 2.0  # an idle machine needs a tenth; this fails where torch or transformers comes back
PROBE = f"""
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted({HEAVY!r} & set(sys.modules)))))
from hf_gpt_scratch_cli import run
sys.argv[0] = "hf-gpt-scratch"
run()
"""


def names(table: dict = COMMANDS, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of each command, such as `("app", "chat")`."""
    return [
        command
        for name, (_, home) in table.items()
        for command in (
            [(*before, name), *names(home, (*before, name))] if isinstance(home, dict) else [(*before, name)]
        )
    ]


def answer(*args: str) -> tuple[int, str, str, list[str], float]:
    """Exit status, what was printed and complained, which heavy packages were imported, and the seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, timeout=120)
    printed, _, imported = done.stdout.rstrip("\n").rpartition("\n")
    return done.returncode, printed, done.stderr, json.loads(imported), time.perf_counter() - began


def test_the_probe_sees_what_is_imported(tmp_path):
    status, _, said, imported, _ = answer("classify", str(tmp_path), "text")
    assert status == 1
    assert said.startswith("error: ")
    assert {"torch", "transformers"} <= set(imported)


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        *([*command, "--help"] for command in names() if len(command) == 1 or command[0] != "train"),
    ],
    ids=" ".join,
)
def test_help_and_version_import_nothing_heavy(args):
    status, printed, said, imported, _ = answer(*args)
    assert (status, said, imported) == (0, "", [])
    assert printed.startswith(f"hf-gpt-scratch {__version__}" if args == ["--version"] else "usage: hf-gpt-scratch")


@pytest.mark.parametrize("args", [[], ["nonsense"], ["export", "a", "b", "--to", "c"], ["classify"]], ids=" ".join)
def test_wrong_usage_imports_nothing_heavy(args):
    status, printed, said, imported, _ = answer(*args)
    assert (status, printed, imported) == (2, "", [])
    assert said.startswith("usage: ")


def test_the_first_word_comes_at_once():
    assert min(answer("--help")[-1] for _ in range(3)) < SECONDS


def test_a_command_does_not_wait_for_the_modules_of_others():
    parser = make_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["export", "--help"])
    waiting = {name for name, command in parser._subparsers._group_actions[0].choices.items() if command.module}
    assert waiting == {name for name, (_, home) in COMMANDS.items() if isinstance(home, str)} - {"export"}


# A file or a folder that is not there, for every argument of a command that names one.
WRONG_PATHS = [
    "train pretrain --data_file nope --output_dir x",
    "train spam --model_name_or_path ./nope --output_dir x",
    "train instruct --tokenizer_name /nope --output_dir x",
    "train classify --data_file nope --output_dir x",
    "train prefer --data_file nope --output_dir x",
    "train chat --data_file nope --output_dir x",
    "convert ./nope x",
    "convert tests/nope x",
    "convert you/gpt2 x --tokenizer ./nope",
    "export /nope x --to hf-gpt2",
    "export you/gpt2 x --to hf-gpt2 --adapter nope",
    "export you/gpt2 x --to gguf --perplexity-text nope",
    "generate ./nope",
    "generate tests/nope",
    "chat ./nope",
    "classify nope text",
    "classify tests --file nope",
    "judge nope --judge-model x",
    "judge README.md nope --judge-model x",
    "judge README.md --judge-model ./nope",
    "evaluate ./nope --tasks x",
    "evaluate tests --tasks x --include_path nope",
    "calibrate nope",
    "calibrate tests --data_file nope",
    "benchmark tests nope",
    "benchmark tests tests --book nope",
    "benchmark tests tests --data_file nope",
    "report tests nope",
    "app chat nope",
    "app classify nope",
    "app compare README.md nope",
    "app compare README.md README.md --results --judge nope",
    "check nope",
    "push nope you/x",
]


@pytest.mark.parametrize("words", WRONG_PATHS)
def test_a_wrong_path_is_told_before_anything_heavy_is_imported(words):
    status, printed, said, imported, seconds = answer(*words.split())
    assert (status, printed, imported) == (1, "", [])
    assert said.startswith("error: ") and "nope" in said and said.count("\n") == 1
    assert seconds < SECONDS


def test_every_command_is_among_these():
    tried = {" ".join(command) for command in names() for words in WRONG_PATHS if words.startswith(" ".join(command))}
    assert tried == {" ".join(command) for command in names()} - {"app spam", "examples"}


@pytest.mark.parametrize(
    "words",
    [
        "app chat tests --trust-remote-code",
        "app classify tests --trust-remote-code",
        "app compare a b --judge x",
        "app compare a b --output x.json",
        "benchmark tests",
        "benchmark tests tests --data_file a --dataset_name b",
        "calibrate tests --precision 1",
        "classify tests text --file x",
        "convert a b --size 124M --from nanogpt",
        "evaluate you/gpt2 --tasks x",
        "export a b --to hf-gpt2 --dtype f16",
        "judge README.md",
        "train spam --data_file --output_dir x",
    ],
)
def test_contradicting_options_are_told_before_anything_heavy_is_imported(words):
    status, printed, said, imported, _ = answer(*words.split())
    assert (status, printed, imported) == (2, "", [])
    assert said.startswith("error: ") and said.count("\n") == 1


@pytest.fixture(scope="module")
def too_old(tmp_path_factory):
    """Where Python finds packages of extras that are too old; a folder `adapter` is there too."""
    folder = tmp_path_factory.mktemp("site")
    packages = ("peft", "bitsandbytes", "trl", "gradio", "gguf")
    for package in packages:
        make_distribution(folder, package, "0.0.1")
    make_distribution(folder, "hf-gpt-scratch", "9", *(f"{package}>=0.2" for package in packages))
    shutil.rmtree(folder / "hf_gpt_scratch")  # the metadata alone
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("train instruct --model_name_or_path you/gpt2 --lora_r 4 --output_dir x", "peft"),
        (f"train chat --data_file {DATA}/airline.jsonl --model_name_or_path {{}}/adapter --output_dir x", "peft"),
        (f"train prefer --data_file {DATA}/tickets.csv --output_dir x", "trl"),
        ("generate {}/adapter", "peft"),
        ("chat {}/adapter", "peft"),
        ("export tests x --to gguf", "gguf"),
        ("app chat tests", "gradio"),
        ("app compare README.md README.md", "gradio"),
    ],
)
def test_a_missing_package_is_told_before_anything_heavy_is_imported(words, package, too_old, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(too_old), prepend=os.pathsep)
    status, printed, said, imported, _ = answer(*words.format(too_old).split())
    assert (status, printed, imported) == (1, "", [])
    assert f" needs {package}>=" in said and "but 0.0.1 is installed: pip install -U" in said


TRAIN, FILE, COLUMNS = (
    "train {} --output_dir {{folder}}/out --data_file {{file}}",
    "classify {folder} --file {file}",
    b"a,b\n1,2\n",
)


@pytest.mark.parametrize(
    ("command", "name", "content", "error"),
    [
        (TRAIN.format("classify"), "x.csv", b"", "{} is empty."),
        (
            TRAIN.format("classify"),
            "x.xlsx",
            b"PK\x03\x04..",
            "{} is a zip or Excel file; unpack it, or save the sheet",
        ),
        (TRAIN.format("chat"), "x.xls", b"\xd0\xcf\x11\xe0..", "{} is an old Excel or Word file; save it as CSV."),
        (TRAIN.format("prefer"), "x.pdf", b"%PDF-1.7", "{} is a PDF file; save its table as CSV."),
        (TRAIN.format("spam"), "x.xlsx", b"PK\x03\x04..", "{} is a zip or Excel file"),
        (TRAIN.format("instruct"), "x.json", b"{", "{} is not valid JSON ("),
        (FILE, "x.txt", b"", "{} is empty."),
        (TRAIN.format("classify"), "x.csv", b"a,b,c\n1,2,3\n", "It is not clear which column of {} holds"),
        (TRAIN.format("chat"), "x.csv", COLUMNS, "{} has no column question and no column answer"),
        (TRAIN.format("instruct"), "x.csv", COLUMNS, "{} has the columns a, b, and none of them are known"),
        (FILE, "x.csv", COLUMNS, "It is not clear which column of {} holds the texts"),
    ],
)
def test_wrong_data_is_told_before_anything_heavy_is_imported(command, name, content, error, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    status, printed, said, imported, _ = answer(*command.format(folder=tmp_path, file=file).split())
    assert (status, printed, imported) == (1, "", [])
    assert said.startswith(f"error: {error.format(file)}")


def test_copying_the_examples_imports_nothing_heavy(tmp_path):
    status, printed, said, imported, seconds = answer("examples", str(tmp_path / "x"))
    assert (status, said, imported) == (0, "", []) and "Wrote" in printed and seconds < SECONDS


@pytest.mark.parametrize("name", ["model", "you/a/b"])
def test_a_name_of_no_repository_is_told_before_anything_heavy_is_imported(name):
    status, _, said, imported, _ = answer("push", "--dry-run", "tests", "--", name)
    assert (status, imported) == (2, [])
    assert said == f"error: {name!r} is not the name of a repository; expected one such as you/your-model.\n"


def test_a_missing_token_is_told_before_torch_is_imported(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    status, _, said, imported, _ = answer("push", "tests", "you/model")
    assert status == 1 and said.startswith("error: A push needs a Hub token: ") and "torch" not in imported


def test_two_files_are_told_at_once():
    status, _, said, imported, _ = answer(*["train", "classify", "--data_file", "a.csv", "b.csv", "--output_dir", "x"])
    assert (status, imported) == (2, [])
    assert said == "error: --data_file takes one file, or a folder of them, not a.csv and b.csv.\n"


@pytest.mark.parametrize("command", ["classify {} text", "generate {}", "push {} you/x"])
def test_an_unfinished_run_is_told_at_once(command, tmp_path):
    for step in (8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    status, printed, said, imported, seconds = answer(*command.format(tmp_path).split())
    assert (status, printed, imported) == (1, "", []) and seconds < SECONDS
    assert f"{tmp_path} holds an unfinished run (checkpoint-10): repeat the command that began it to finish it" in said
    assert said.endswith("/checkpoint-10 as it is.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND is missing; choose one of train, examples, convert, "),
        (["train"], "JOB is missing; choose one of pretrain, classify, spam, instruct, prefer, chat."),
        (["app"], "APP is missing; choose one of chat, classify, "),
        (["genrate", "runs/x"], "There is no command 'genrate' (did you mean generate?)."),
        (["train", "spm"], "There is no job 'spm' (did you mean spam?)."),
        (["nothing-like-it"], "argument COMMAND: invalid choice: 'nothing-like-it' (choose from "),
    ],
    ids=" ".join,
)
def test_what_there_is_to_choose_from_is_told(words, said):
    status, _, error, imported, _ = answer(*words)
    assert (status, imported) == (2, [])
    assert f": error: {said}" in error.splitlines()[-1]


@pytest.mark.parametrize("words", [["train"], ["app"], ["generate"], ["chat"], ["classify"], ["check"], ["push"]])
def test_help_is_wrapped_begins_with_a_sentence_and_ends_with_an_example(words):
    status, printed, _, imported, _ = answer(*words, "--help")
    _, description, *others = printed.split("\n\n")
    assert (status, imported) == (0, []) and description[0].isupper() and description[-1] in ".:"
    assert max(map(len, description.splitlines())) <= 80
    assert words != ["chat"] or "\n/quit        end (also: exit, quit or Ctrl-D)\n" in printed
    assert others[-1].startswith("Example") and f"hf-gpt-scratch {words[0]} " in others[-1]


def test_trust_of_a_page_is_for_its_export():
    assert "with --export-space: run the code in the folder" in " ".join(answer("app", "chat", "--help")[1].split())


@pytest.mark.parametrize("words", [["nonsense"], ["classify", "nope", "text"], ["--version"]], ids=" ".join)
def test_after_a_command_in_the_same_process_the_package_is_registered(words):
    code = f"""
import hf_gpt_scratch_cli
try:
    hf_gpt_scratch_cli.main({words!r})
except SystemExit:
    pass
import transformers
transformers.AutoConfig.for_model("gpt_scratch")
assert not hf_gpt_scratch_cli.registers_later
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


def test_importing_the_module_of_the_command_does_not_keep_the_package_from_registering():
    code = "import hf_gpt_scratch_cli, hf_gpt_scratch, transformers; transformers.AutoConfig.for_model('gpt_scratch')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command_and_option(shell, tmp_path):
    shtab = pytest.importorskip("shtab")
    status, script, said, imported, _ = answer("--print-completion", shell)
    assert (status, said, imported) == (0, "", [])
    parser = make_parser()
    load_all(parser)
    assert script.strip() == shtab.complete(parser, shell).strip()
    assert all(word in script for command in names() for word in command)
    assert "dry" in script  # an option of a command


def test_bash_completes_by_the_script(tmp_path):
    pytest.importorskip("shtab")
    script = answer("--print-completion", "bash")[1]
    ask = """
COMP_WORDS=(hf-gpt-scratch cla) COMP_CWORD=1 COMP_LINE="hf-gpt-scratch cla" COMP_POINT=18
_shtab_hf_gpt_scratch; echo "${COMPREPLY[@]}"
COMP_WORDS=(hf-gpt-scratch push --dr) COMP_CWORD=2
_shtab_hf_gpt_scratch; echo "${COMPREPLY[@]}"
COMP_WORDS=(hf-gpt-scratch train spam --learning_) COMP_CWORD=3
_shtab_hf_gpt_scratch; echo "${COMPREPLY[@]}"
COMP_WORDS=(hf-gpt-scratch train spam gpt2) COMP_CWORD=3
_shtab_hf_gpt_scratch; echo "${COMPREPLY[@]}"
COMP_WORDS=(hf-gpt-scratch train spam --config cpu) COMP_CWORD=4
_shtab_hf_gpt_scratch; echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["classify", "--dry-run", "--learning_rate", "gpt2_small", "cpu_small"]


@pytest.mark.parametrize("module", ["hf_gpt_scratch", "hf_gpt_scratch_cli"])
def test_nothing_of_the_working_directory_is_imported(tmp_path, module):
    """Python puts it first, before the package itself is imported."""
    stdlib = ("typing", "json", "logging", "argparse", "difflib", "subprocess")
    for name in (*stdlib, "torch", "transformers", "numpy", "yaml", "safetensors", "peft"):
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\n")
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-m", module, "check", "model"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model is not the folder of a model")
    assert not list(tmp_path.glob("ran-*"))
