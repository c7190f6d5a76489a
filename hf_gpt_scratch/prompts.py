"""
The Alpaca prompt, said once: as Python for training, as a chat template for tokenizers, as Ollama's for a Modelfile.

Source: Stanford Alpaca's prompt, as "Build a Large Language Model (From Scratch)", chapter 7, spells it: no other
preamble for a task without an input, and a line end after `### Response:`.
"""

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
INSTRUCTION, INPUT, RESPONSE = "\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:\n"


def render_prompt(instruction: str, input: str = "") -> str:
    """What the model reads before it answers; the answer and the EOS token follow."""
    return f"{PREAMBLE}{INSTRUCTION}{user_message(instruction, input)}{RESPONSE}"


def user_message(instruction: str, input: str = "") -> str:
    """An instruction and its input as one message of a chat."""
    return f"{instruction}{INPUT}{input}" if input else instruction


def _jinja(text: str) -> str:
    return "{{ '" + text.replace("\n", "\\n") + "' }}"


# A system message stands in the place of the preamble. Every answer ends with the EOS token, as in training.
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

OLLAMA_TEMPLATE = (
    "{{ if .System }}{{ .System }}{{ else }}" + PREAMBLE + "{{ end }}"
    "{{ if .Prompt }}" + INSTRUCTION + "{{ .Prompt }}{{ end }}" + RESPONSE + "{{ .Response }}"
)
