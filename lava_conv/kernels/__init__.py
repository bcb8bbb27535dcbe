"""Compiled inner loops (numba), for the simulator and for the Lava process models alike. Channels come last here.

`neuron.compiled` turns the one `step` of a neuron into a loop over time and neurons; `events` holds convolutions that
cost what the spikes cost. Where numba is missing everything works without them, more slowly.
"""

try:
    import numba  # noqa: F401

    AVAILABLE = True
except ImportError:  # a Python that numba has not reached yet
    AVAILABLE = False
