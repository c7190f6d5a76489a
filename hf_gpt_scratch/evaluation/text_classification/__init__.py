"""
Text classifiers measured. In the order of reading:

    runs           reopening a training's folder, with the data that it was trained on
    baselines      the linear models that every classifier is compared with
    benchmark      both on the same splits, with intervals
    calibration    fitting what a classifier says to a validation set, in these parts:
      temperature, thresholds, outside, early
      binary_calibration, label_calibration    of two labels, and of more or several a text
      verdicts     what the calibrated model says, as arrays
"""
