"""The commands that have no module of their own elsewhere: the arguments of each, and what calls the work."""
