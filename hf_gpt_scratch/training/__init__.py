"""The training jobs behind transformers' Trainer."""
