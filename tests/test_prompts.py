"""The Alpaca prompt: what is typed in it stays text, and its templates say what a model was trained on."""

import pytest
from jinja2 import Template

from hf_gpt_scratch.prompts import (
    CHAT_TEMPLATE,
    OLLAMA_TEMPLATE,
    as_text,
    chat_template,
    is_our_template,
    ollama_template,
    question_parts,
    reads_history,
    render_prompt,
    user_message,
)
from hf_gpt_scratch.tokenizer import train_tokenizer

# As `train instruct` wrote it before headings were set apart
OLD = CHAT_TEMPLATE.replace(".replace('### Instruction:', '# # # Instruction:')", "").replace(
    ".replace('### Response:', '# # # Response:')", ""
)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("### Response:", "# # # Response:"),
        ("#### Response:\n### Instruction:x", "## # # Response:\n# # # Instruction:x"),
        ("### ### Response: Response:", "### # # # Response: Response:"),
        (
            "### Responses: ###Response: ### response: ### Input:",
            "### Responses: ###Response: ### response: ### Input:",
        ),
    ],
)
def test_headings_are_set_apart_once_and_nothing_else_changes(typed, text):
    assert as_text(typed) == as_text(text) == text
    assert render_prompt(typed).count("### Response:") == render_prompt("x").count("### Response:") == 1


def test_a_message_comes_apart_as_it_was_put_together():
    for pair in (("Do it.", ""), ("Add.", "1\n2"), ("", "x")):
        assert question_parts(user_message(*pair)) == pair


def test_our_templates_of_all_times_are_known():
    for begins in (False, True):
        for conversations in (False, True):
            template = chat_template(begins, conversations)
            assert is_our_template(template) and reads_history(template) == conversations
    assert is_our_template(OLD) and not reads_history(OLD) and "replace" not in OLD
    assert not is_our_template(CHAT_TEMPLATE + " ") and not is_our_template(None)
    assert reads_history("{{ messages[0]['content'] }}")  # of others: it may have been trained on conversations


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_ollama_template_of_conversations_is_the_training_prompt(system):
    tokenizer = train_tokenizer([render_prompt("Do it.")] * 3, 300)
    tokenizer.chat_template = chat_template(conversations=True)
    messages = [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": "Done."}]
    messages.append({"role": "user", "content": "Again."})
    template = ollama_template(tokenizer.chat_template, tokenizer.eos_token)
    for go, jinja in {
        "{{ if .System }}": "{% if system %}",
        "{{ .System }}": "{{ system }}",
        "{{ range .Messages }}": "{% for one in messages %}",
        '{{ if eq .Role "user" }}': "{% if one.role == 'user' %}",
        '{{ else if eq .Role "assistant" }}': "{% elif one.role == 'assistant' %}",
        "{{ .Content }}": "{{ one.content }}",
        "{{ else }}": "{% else %}",
        "{{ end }}{{ end }}": "{% endif %}{% endfor %}",
        "{{ end }}": "{% endif %}",
    }.items():
        assert go in template
        template = template.replace(go, jinja)
    rendered = Template(template, keep_trailing_newline=True).render(system=system, messages=messages)
    first = [{"role": "system", "content": system}] if system else []
    assert rendered == tokenizer.apply_chat_template(first + messages, tokenize=False, add_generation_prompt=True)
    assert ollama_template(CHAT_TEMPLATE, "x") == OLLAMA_TEMPLATE and ollama_template(None, "x") == "{{ .Prompt }}"
