"""Labels for texts from a sequence classifier."""
