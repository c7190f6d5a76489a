"""
The Alpaca prompt, defined once: in Python for training, as a chat template for tokenizers, and as
Ollama's template for a Modelfile.

Source: Stanford Alpaca's prompt, as "Build a Large Language Model (From Scratch)", chapter 7, spells it: the same
preamble with and without an input, and a newline after `### Response:`.
"""

from collections.abc import Callable

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
INSTRUCTION, INPUT, RESPONSE = "\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:\n"
TURN_MARKERS = (INSTRUCTION.strip(), RESPONSE.strip())


def render_prompt(instruction: str, input: str = "") -> str:
    """What the model reads before it answers; the answer and the EOS token follow."""
    return render_turn(user_message(instruction, input), PREAMBLE)


def render_turn(question: str, before: str = "") -> str:
    """
    The prompt of one question of a conversation: its first one comes after the system message or the `PREAMBLE`, a
    later one after the EOS token of the answer before it.
    """
    return f"{as_text(before)}{INSTRUCTION}{as_text(question)}{RESPONSE}"


def user_message(instruction: str, input: str = "") -> str:
    """An instruction and its input as one message of a conversation."""
    return f"{instruction}{INPUT}{input}" if input else instruction


def question_parts(message: str) -> tuple[str, str]:
    """The instruction of a message and its input, "" where it has none: what `user_message` put together."""
    instruction, _, input = message.partition(INPUT)
    return instruction, input


def as_text(content: str) -> str:
    """
    What someone wrote, as it stands in a prompt: a typed `### Instruction:` or `### Response:` opens no turn, as its
    hashes are set apart. Any other text is unchanged; so is the result, if it goes through here again.
    """
    for marker in TURN_MARKERS:
        content = content.replace(marker, _apart(marker))
    return content


def _apart(marker: str) -> str:
    return marker.replace("###", "# # #")


def is_alpaca(chat_template: str | None) -> bool:
    """Whether a chat template is the Alpaca prompt."""
    return PREAMBLE in (chat_template or "")


def reads_history(chat_template: str | None) -> bool:
    """
    Whether a model of this chat template was trained on conversations, as far as that shows: an Alpaca prompt says so
    at its beginning; without that, it belongs to a model of single questions. Of other templates it is assumed.
    """
    return not is_alpaca(chat_template) or CONVERSATIONS in chat_template


def is_our_template(chat_template: str | None) -> bool:
    """Whether a chat template is, to the letter, one that `train instruct` gives its tokenizers, or gave them once."""
    return chat_template in {
        begins + mark + template
        for begins in ("", BEGINS)
        for mark in ("", CONVERSATIONS)
        for template in (_chat_template(_content), _chat_template(_untreated))
    }


def chat_template(begins_with_bos: bool = False, conversations: bool = False) -> str:
    """
    The Alpaca prompt as a chat template.

    Args:
        begins_with_bos: for a tokenizer that puts the BOS token before every text: a chat template writes it itself.
        conversations: of a model trained on conversations, which `reads_history` tells by a comment in the template.
    """
    return (BEGINS if begins_with_bos else "") + (CONVERSATIONS if conversations else "") + CHAT_TEMPLATE


def _jinja(text: str) -> str:
    return "{{ '" + text.replace("\n", "\\n") + "' }}"


def _content(message: str) -> str:
    """A Jinja expression: the content of a message, `as_text`."""
    return f"{message}['content']" + "".join(f".replace('{one}', '{_apart(one)}')" for one in TURN_MARKERS)


def _untreated(message: str) -> str:
    return f"{message}['content']"


def _chat_template(content: Callable[[str], str]) -> str:
    # A system message replaces the preamble. Every answer ends with the EOS token, as in training.
    return (
        "{% if messages[0]['role'] == 'system' %}{{ "
        + content("messages[0]")
        + " }}{% else %}"
        + _jinja(PREAMBLE)
        + "{% endif %}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}" + _jinja(INSTRUCTION) + "{{ " + content("message") + " }}"
        "{% elif message['role'] == 'assistant' %}"
        + _jinja(RESPONSE)
        + "{% generation %}{{ "
        + content("message")
        + " + eos_token }}{% endgeneration %}"
        "{% elif not (message['role'] == 'system' and loop.first) %}"
        "{{ raise_exception('Expected the roles user and assistant, after at most one system message"
        " at the start.') }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + _jinja(RESPONSE) + "{% endif %}"
    )


BEGINS = "{{ bos_token }}"
CONVERSATIONS = "{# Trained on conversations: a question is read together with those before it. #}"
CHAT_TEMPLATE = _chat_template(_content)
CHAT_TEMPLATE_WITH_BOS = chat_template(begins_with_bos=True)

# Go's templates cannot replace text, so in Ollama a typed marker stays one.
OLLAMA_TEMPLATE = (
    "{{ if .System }}{{ .System }}{{ else }}" + PREAMBLE + "{{ end }}"
    "{{ if .Prompt }}" + INSTRUCTION + "{{ .Prompt }}{{ end }}" + RESPONSE + "{{ .Response }}"
)


def ollama_template(template: str | None, end: str) -> str:
    """
    Ollama's template for a tokenizer with the chat template `template` and the EOS token `end`: of a model of
    conversations all messages, of one of single questions the last one, of others nothing around the prompt.
    """
    if not is_our_template(template):
        return "{{ .Prompt }}"
    if not reads_history(template):
        return OLLAMA_TEMPLATE
    return (
        "{{ if .System }}{{ .System }}{{ else }}" + PREAMBLE + "{{ end }}"
        '{{ range .Messages }}{{ if eq .Role "user" }}' + INSTRUCTION + "{{ .Content }}"
        '{{ else if eq .Role "assistant" }}' + RESPONSE + "{{ .Content }}" + end + "{{ end }}{{ end }}" + RESPONSE
    )
