"""
Text classifiers measured. In the order of reading:

    runs           a training's folder opened again, with the data that it was trained on
    baselines      the linear models beside every classifier
    benchmark      both on the same splits, with intervals
    calibration    fitting probabilities and threshold to a validation set
"""
