"""Text classifiers measured: beside linear models, calibrated."""
