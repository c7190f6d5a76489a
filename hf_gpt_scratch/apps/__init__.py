"""Pages for people, on Gradio: pip install 'hf-gpt-scratch[apps]'."""
