"""
Text from a language model. Read them in this order:

    sampling    the sampling loop by hand, token by token; the saved settings; text as it is written
    cache       keys and values of the tokens so far
    batch       many prompts at once, left-padded; the next take the places of those that are answered
    chat        a conversation
    adapters    several LoRA adapters of one model, to switch between
"""
