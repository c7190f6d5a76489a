"""Checkpoints of the GPT-2 family into this package's model (convert.py) and out of it (export.py, gguf.py)."""
