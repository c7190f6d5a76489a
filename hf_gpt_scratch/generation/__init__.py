"""
Text from a language model. In the order of reading:

    sampling    the sampling loop by hand, token by token; text as it is written
    batch       many prompts at once, left-padded, with a cache
    chat        a conversation
"""
