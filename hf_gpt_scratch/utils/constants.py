"""Names that several rooms share."""

REPOSITORY = "https://github.com/hf-gpt-scratch/hf_gpt_scratch"  # as in pyproject.toml
NO_TOKEN = "A push needs a Hub token: run `hf auth login`, or set the environment variable HF_TOKEN."
NO_NAME = "{!r} is not the name of a repository; expected one such as you/your-model."
ONNX_RECORD = "onnx_export.json"  # of an ONNX folder: what it was exported from, and how
ONNX_ONLY = "{} holds an ONNX model, which is for use only; give the model that it was exported from."
DTYPES = ("float32", "bfloat16", "float16")  # that a model is saved in
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}  # that it runs in, by --dtype
# Those of generation_config.json, and the options of the commands that write text
SAMPLING_SETTINGS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
SHORTEST_PASSWORD = 8  # characters, of a page
