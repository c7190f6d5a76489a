"""
Code that tasks of lm-evaluation-harness bring with them. The harness imports the functions that a YAML file names with
`!function`, lets `evaluate` run the code of a metric in a folder or on the Hub, and renders a task's Jinja templates
outside of Jinja's sandbox, where a template can do whatever Python can.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..utils.errors import InputError, one_line

ADVICE = "which runs only with --trust-remote-code: read it first"


@contextmanager
def only_own_code(trust_remote_code: bool = False) -> Iterator[None]:
    """
    While tasks are loaded and run, their templates stay in Jinja's sandbox; and unless their code is trusted, no
    function runs but those of the harness's own tasks, no metric of `evaluate`, and no pickle is read as data.

    Raises:
        InputError: when a task names such code, or afterwards, where the harness has swallowed the refusal; when a
            template cannot be rendered.
    """
    import evaluate
    import jinja2
    import lm_eval
    import pandas
    from lm_eval import utils
    from lm_eval.tasks import _yaml_loader

    own, import_function, refused = Path(lm_eval.__file__).resolve().parent, _yaml_loader._import_func_in_yml, []

    def refuse(what: str) -> None:
        refused.append(what)
        raise InputError(f"{what}, {ADVICE}.")

    def import_own(name: str, folder: Path):
        if not Path(folder).resolve().is_relative_to(own):
            refuse(f"A task in {folder} names the function {name}")
        return import_function(name, folder)

    def load_metric(name: str, *_, **__):
        refuse(f"A task names the metric {name} of the package evaluate, a program in a folder or on the Hub")

    def read_pickle(*_, **__):
        refuse("A task's data is a pickle, which runs what it holds")

    changes = [(utils, "env", _sandboxed(utils.env))]
    if not trust_remote_code:
        changes += [(_yaml_loader, "_import_func_in_yml", import_own), (evaluate, "load", load_metric)]
        changes += [(pandas, "read_pickle", read_pickle)]  # with which older versions of datasets read `pandas`
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(_in_place(*change))
        try:
            yield
        except InputError:
            if not refused:
                raise  # else told below, whatever the harness made of it
        except jinja2.TemplateError as error:
            raise InputError(f"A task's template cannot be rendered ({one_line(error)}); correct its YAML.") from None
    if refused:
        raise InputError(f"{refused[0]}, {ADVICE}.")


@contextmanager
def _in_place(module, name: str, value) -> Iterator[None]:
    """Meanwhile a name of a module stands for `value`."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _sandboxed(environment):
    """Jinja's sandbox with the settings and filters of an environment."""
    from jinja2.sandbox import SandboxedEnvironment

    sandbox = SandboxedEnvironment(
        loader=environment.loader,
        undefined=environment.undefined,
        keep_trailing_newline=environment.keep_trailing_newline,
    )
    sandbox.filters.update(environment.filters)
    return sandbox
