"""What the commands keep off the terminal."""


def quieten_transformers() -> None:
    """What does not fit is said in our own sentence, and a progress bar does not go with an answer of one line."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # else a line for each try of a connection, before our own sentence
