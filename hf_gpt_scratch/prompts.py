"""
The Alpaca prompt, defined once: in Python for training, as a chat template for tokenizers, and as
Ollama's template for a Modelfile.

Source: Stanford Alpaca's prompt, as "Build a Large Language Model (From Scratch)", chapter 7, spells it: the same
preamble with and without an input, and a newline after `### Response:`.
"""

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
INSTRUCTION, INPUT, RESPONSE = "\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:\n"


def render_prompt(instruction: str, input: str = "") -> str:
    """What the model reads before it answers; the answer and the EOS token follow."""
    return f"{PREAMBLE}{INSTRUCTION}{user_message(instruction, input)}{RESPONSE}"


def user_message(instruction: str, input: str = "") -> str:
    """An instruction and its input as one message of a conversation."""
    return f"{instruction}{INPUT}{input}" if input else instruction


def is_alpaca(chat_template: str | None) -> bool:
    """Whether a chat template is that of this package's followers, which are trained on single questions."""
    return PREAMBLE in (chat_template or "")


def is_our_template(chat_template: str | None) -> bool:
    """Whether a chat template is, to the letter, one that `train instruct` gives its tokenizers."""
    return chat_template in (CHAT_TEMPLATE, CHAT_TEMPLATE_WITH_BOS)


def _jinja(text: str) -> str:
    return "{{ '" + text.replace("\n", "\\n") + "' }}"


# A system message replaces the preamble. Every answer ends with the EOS token, as in training.
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% else %}" + _jinja(PREAMBLE) + "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + _jinja(INSTRUCTION) + "{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    + _jinja(RESPONSE)
    + "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% elif not (message['role'] == 'system' and loop.first) %}"
    "{{ raise_exception('Expected the roles user and assistant, after at most one system message at the start.') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + _jinja(RESPONSE) + "{% endif %}"
)

# For a tokenizer that puts the BOS token before every text: a chat template writes it itself.
CHAT_TEMPLATE_WITH_BOS = "{{ bos_token }}" + CHAT_TEMPLATE

OLLAMA_TEMPLATE = (
    "{{ if .System }}{{ .System }}{{ else }}" + PREAMBLE + "{{ end }}"
    "{{ if .Prompt }}" + INSTRUCTION + "{{ .Prompt }}{{ end }}" + RESPONSE + "{{ .Response }}"
)
