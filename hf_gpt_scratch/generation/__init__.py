"""Text from a language model: the sampling loop (`sampling`), many prompts at once (`batch`), talks (`chat`)."""
