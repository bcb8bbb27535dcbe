"""Random valid parameters of every neuron in the table."""

from lava_conv.network.neurons import NEURONS


def random_params(kind, rng, n):
    theta = rng.integers(1, 60, n)
    if kind == "DTB":
        values = dict(theta=rng.integers(-60, 60, n), delta=rng.integers(1, 40, n), shift=int(rng.integers(0, 4)))
        values |= dict(n_max=int(rng.integers(0, 5)), unipolar=int(rng.integers(0, 2)))
    elif kind == "CALIF":
        values = dict(theta=theta, bias=rng.integers(-50, 50, n), leak=rng.integers(-9, 9, n), v_init=theta // 2)
        values |= dict(
            v_neg=-theta * int(rng.integers(0, 2)), shift=int(rng.integers(0, 4)), ca_max=int(rng.integers(0, 6))
        )
        values |= dict(dv=int(rng.integers(0, 2)) * int(rng.integers(0, 4096)), leak_steps=int(rng.integers(0, 5)))
        values["unipolar"] = int(rng.integers(0, 2))
    else:
        values = dict(bias=rng.integers(-50, 50, n), shift=int(rng.integers(0, 4)))
    params = NEURONS[kind].Params(**values)
    assert NEURONS[kind].check(params) is None
    return params
