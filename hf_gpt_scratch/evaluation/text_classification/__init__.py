"""
Text classifiers measured. In the order of reading:

    runs           reopening a training's folder, with the data that it was trained on
    baselines      the linear models that every classifier is compared with
    benchmark      both on the same splits, with intervals
    calibration    fitting probabilities and threshold to a validation set
"""
