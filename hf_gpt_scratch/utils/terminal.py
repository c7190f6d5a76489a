"""Keeping the libraries' own output off the terminal."""


def quieten_transformers() -> None:
    """Silences their warnings and progress bars: problems are told in our own sentences."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # else a line for each attempt to connect
