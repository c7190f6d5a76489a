"""
Pages in the browser, by Gradio, which is imported when a page is made. In the order of reading:

    page        what the pages share: address, errors as sentences, text that is not trusted
    chat        chat with an instruction follower
    classify    a text coloured word by word as the classifier reads it
    compare     a blind vote between two models' answers
    space       a page as a folder that runs by itself, also as a Space of the Hub
"""
