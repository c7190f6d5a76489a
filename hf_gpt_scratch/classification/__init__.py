"""Labels for texts: `classifier` by a sequence classifier, `calibration` the settings that a calibration keeps."""
