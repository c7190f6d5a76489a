"""What the commands keep off the terminal."""


def quieten_transformers() -> None:
    """What does not fit is said in our own sentence, and a progress bar does not go with an answer of one line."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
