"""
What a model's folder is. Read first `contents.py`: `ModelFolder`, and which files make up a model.

- `weight_files.py`: which of its files hold the weights, as transformers decides.
- `loading.py` and `saving.py`: a model out of a folder and into one.
- `code.py`: whose code a folder holds; `clean_process.py` loads it where only that can run.
- `onnx_files.py`: what a folder with a model in the ONNX format is.
- `reference_logits.py`: what it answered when it was saved.
"""
