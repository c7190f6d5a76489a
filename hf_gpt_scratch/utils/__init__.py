"""What every other room uses and that uses none of them: errors, files, provenance, result cards."""
