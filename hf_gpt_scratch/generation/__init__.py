"""
Text from a language model. Read them in this order:

    sampling    the sampling loop by hand, token by token; the saved settings; text as it is written
    batch       many prompts at once, left-padded, with a cache
    chat        a conversation
    adapters    several LoRA adapters of one model, to switch between
"""
