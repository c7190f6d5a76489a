"""To the Hub and back: checks, cards, pushes."""
