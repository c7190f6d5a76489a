"""One module for each data set: where it comes from, how it is read, how it is split without leaking."""
