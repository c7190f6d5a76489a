"""A larger language model as the judge of answers."""
