"""Compiled inner loops (numba), for the simulator and for the Lava process models alike. Channels come last here.

`neuron.compiled` turns the one `step` of a neuron into a loop over time and neurons; `events` holds convolutions that
cost what the spikes cost. Where numba is missing everything works without them, more slowly.
"""

try:
    import numba  # noqa: F401

    AVAILABLE = True
except ImportError:  # a Python that numba has not reached yet
    AVAILABLE = False

TOGETHER = 512  # neurons advanced in one loop: long enough to be worth its beginning, and their state stays in cache


def together(pixels: int, channels: int) -> int:
    """How many pixels' neurons run in one loop: the most, up to TOGETHER neurons, that divide the pixels."""
    return max(g for g in range(1, max(1, TOGETHER // channels) + 1) if pixels % g == 0)
