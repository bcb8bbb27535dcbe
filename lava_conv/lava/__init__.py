"""A watched runtime for Lava networks: every fault ends in time, with a reason."""
