"""Chat templates of others: what they write is what transformers writes, and neither time nor memory is theirs."""

import hashlib
import itertools
import sys
import threading
import time

import pytest

from hf_gpt_scratch import prompts
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils import chat_template
from hf_gpt_scratch.utils.chat_template import OURS, render_template
from hf_gpt_scratch.utils.errors import InputError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Café \U0001f600 <b>?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Why?"},
]
CHATML = """
{% for message in messages %}
  {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
FEATURES = """
{% set ns = namespace(n=0, seen=dict(a=1)) %}
{% for m in messages %}
  {% if loop.index0 == 1 %}{% continue %}{% endif %}
  {% if loop.index > 3 %}{% break %}{% endif %}
  {% set ns.n = ns.n + 1 %}{{ m | tojson }}{{ m['content'][:2].strip() }}
{% endfor %}
{{ ns.n }}{{ ns.seen.items() | list }}{{ bos_token }}{{ strftime_now('%Y') }}{{ tools is none }}
{% generation %} {{ messages[2]['content'] }} {% endgeneration %}{{ enable_thinking }}
{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') | upper }}{{ dict.fromkeys(['k']) }}
"""


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a lamp on a hill"], 270)


def render(tokenizer, template: str, **variables) -> str:
    tokenizer.chat_template = template
    return render_template(tokenizer, MESSAGES, **variables)


@pytest.mark.parametrize("template", [CHATML, FEATURES], ids=["chatml", "features"])
def test_it_writes_what_transformers_writes(tokenizer, template):
    found = render(tokenizer, template, enable_thinking=False)
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    assert found == tokenizer.apply_chat_template(MESSAGES, **options)
    assert "Café \U0001f600" in found or template is FEATURES


def test_templates_of_this_package_are_rendered_here(tokenizer, monkeypatch):
    monkeypatch.setattr(chat_template, "_PROCESS", None)
    contents = (prompts._chat_template(prompts._content), prompts._chat_template(prompts._untreated))
    parts = itertools.product(("", prompts.BEGINS), ("", prompts.CONVERSATIONS), contents)
    ours = ["".join(part) for part in parts]
    assert all(map(prompts.is_our_template, ours))
    assert {hashlib.sha256(one.encode()).hexdigest() for one in ours} == OURS
    assert "Be brief." in render(tokenizer, ours[0])
    with pytest.raises(AttributeError):
        render(tokenizer, ours[0] + " ")


def test_a_process_of_its_own_is_started_once(tokenizer):
    render(tokenizer, CHATML)
    began, process = time.perf_counter(), chat_template._PROCESS._process
    for _ in range(100):
        render(tokenizer, CHATML)
    assert (time.perf_counter() - began) / 100 < 0.05  # about 0.1 ms on an idle machine; starting takes 100
    assert chat_template._PROCESS._process is process


def test_an_answer_that_nobody_waited_for_is_not_the_next_one(tokenizer):
    render(tokenizer, CHATML)
    process = chat_template._PROCESS._process

    class Interrupted:
        """What it says, which Ctrl-C keeps from being read."""

        def readline(self):
            raise KeyboardInterrupt

        def close(self):
            said.close()

    said, process.stdout = process.stdout, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        render(tokenizer, "first")
    assert render(tokenizer, "second") == "second" and process.poll() is not None


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
MANY = "{% for i in range(99999) %}" + "x" * 100 + "{% endfor %}"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit both time and memory")
DEEP = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        pytest.param(ENDLESS, "was stopped, as it takes more than 2 seconds", marks=LINUX),
        pytest.param("{{ 'x' * 10 ** 10 }}", "was stopped, as it takes more than 512 MB", marks=LINUX),
        pytest.param("{{ '%10000000000d' % 1 }}", "was stopped, as it takes more than 512 MB", marks=LINUX),
        (MANY, "was stopped, as it writes more than 4000000 characters"),
        (DEEP, "cannot render this conversation .*recursion"),
        ("{{ raise_exception('Only\nusers.') }}", r"cannot render this conversation \(Only users\)"),
        ("{{ 1 / 0 }}", "cannot render this conversation .*zero"),
        ("{% if %}", "cannot render this conversation"),
        ("{{ ''.__class__.__mro__ }}", "cannot render this conversation .*unsafe"),
        ("{{ messages.append(1) }}", "cannot render this conversation .*unsafe"),
        ("{{ namespace(__class__=1) }}", "cannot render this conversation .*__class__"),
    ],
)
def test_what_goes_too_far_is_refused_in_one_sentence(tokenizer, template, reason):
    with pytest.raises(InputError, match=f"^The chat template {reason}"):
        render(tokenizer, template)
    assert "Why?" in render(tokenizer, CHATML)  # the next is served


def test_the_process_has_nothing_of_this_one(tokenizer, monkeypatch, tmp_path):
    """Were there a way out of the sandbox: no token in the environment, no file that could be filled."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    main = tmp_path / "main.py"
    main.write_text(
        chat_template.MAIN.read_text().replace(
            '    environment.globals |= {"dict"',
            "    def leak():\n        import os, sys\n"
            f"        file, failed = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY), False\n"
            "        try:\n            os.write(file, b'x')\n        except OSError:\n            failed = True\n"
            "        return [sorted(os.environ), failed, 'torch' in sys.modules]\n"
            '    environment.globals |= {"leak": leak}\n    environment.globals |= {"dict"',
        )
    )
    monkeypatch.setattr(chat_template, "MAIN", main)
    process = chat_template._Process()
    monkeypatch.setattr(chat_template, "_PROCESS", process)
    try:
        found = render(tokenizer, "{{ leak() }}")
    finally:
        process.stop()
    assert "HF_TOKEN" not in found and "True, False]" in found


def test_threads_get_their_own_answers(tokenizer):
    tokenizer.chat_template, found = "{{ messages[0]['content'] }}", {}

    def ask(number: int) -> None:
        found[number] = render_template(tokenizer, [{"role": "user", "content": f"number {number}"}])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"number {number}" for number in range(20)}
