"""The pages that are written as folders, and what is pushed of and with them, as subjects of `kill`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import kill_training
from command_inputs import TO_ONNX, small_model
from kill_commands import (
    REPOSITORY,
    command,
    in_own_place,
    pushed_differ,
    start_hub,
    with_hub,
    with_packages,
)
from kill_subject import Subject


def static_page(folder: Path) -> None:
    """A static page, whose model is random bytes."""
    import random

    from hf_gpt_scratch.apps.static_page import StaticPage, write_static

    (folder / "model" / "onnx").mkdir(parents=True)
    (folder / "model" / "onnx" / "model.onnx").write_bytes(random.Random(1).randbytes(2_000_000))
    (folder / "model" / "tokenizer.json").write_text("{}")
    said = StaticPage("A page", "", "", "m", "classify.html", (), (), packages=())
    write_static(folder / "model", folder / "page", said)


def with_gradio(words: Sequence[str]) -> int:
    """The command, and what is done when its process ends, which that of a fork does not do by itself."""
    from hf_gpt_scratch.apps import page

    try:
        return in_own_place(words)
    finally:
        page.clean()


def push(name: str, what: str, inputs: Callable, branches: Sequence[str], **more) -> Subject:
    """A push with the options in its name, to these branches."""

    def differs(whole: Path, tried: Path) -> list[str]:
        return pushed_differ(whole, tried, branches)

    def words(at: Path) -> list:
        return ["push", at / what, REPOSITORY, *name.split()[1:]]

    return command(name, words, inputs, start_hub, differs=differs, run=with_hub, **more)


SUBJECTS = [
    command(
        "app chat --export-static",
        lambda at: ["app", "chat", at / "follower", "--export-static", "page"],
        kill_training.follower,
        run=with_packages,
        modules=(*TO_ONNX, "hf_gpt_scratch.apps.static_chat"),
    ),
    command(
        "app chat --export-space",
        lambda at: ["app", "chat", at / "follower", "--export-space", "page"],
        kill_training.follower,
        run=with_gradio,
        modules=("gradio", "hf_gpt_scratch.apps.space"),
    ),
    push("push --space", "page", static_page, ["main"], modules=("hf_gpt_scratch.hub.push_space",)),
    push(
        "push --with-onnx --with-handler",
        "model",
        small_model,
        ["main", "gpt2"],
        modules=("hf_gpt_scratch.hub.push", *TO_ONNX),
    ),
]
