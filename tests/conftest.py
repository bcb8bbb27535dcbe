"""Shared pieces: random networks, and a session-wide trained one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # torch.compile begins with a pool of processes else

import numpy as np
import pytest


@pytest.fixture
def rng(request):
    """A generator seeded by the test's own name, so that a failure repeats itself."""
    return np.random.default_rng(sum(map(ord, request.node.name)))


@pytest.fixture(scope="session")
def trained_digits():
    """A digits network trained for a few epochs: enough to be a real one."""
    from lava_conv.training.data import load_dataset
    from lava_conv.training.loop import Recipe, train

    data = load_dataset("digits")
    return data, train(data, Recipe(epochs=8))
