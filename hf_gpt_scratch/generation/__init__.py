"""Text from a language model: sampling, many prompts at once, conversations."""
