"""
What `push --with-handler` lays beside a model for Hugging Face Inference Endpoints: `handler.py`, which answers the
requests there, and `requirements.txt`. Neither imports this package.
"""
