"""A model's folder: the code in it, and loading it where this package is not installed."""
