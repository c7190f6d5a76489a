"""
Labels for texts from a sequence classifier:

    classifier     `TextClassifier`: whole texts, or word by word
    prediction     what it says of a text
    reading        texts read ahead, to be classified together
    session        a text that arrives in pieces
    calibration    from logits to probabilities, and from those to labels
"""
