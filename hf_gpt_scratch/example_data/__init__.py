"""Small data sets that were written for this package; `hf-gpt-scratch examples` copies them into a folder."""
