"""What reading and writing of `.net` files share: the names of the formats, and what a neuron stores."""

from lava_conv.network.neurons import NEURONS

FORMAT, VERSION = "lava-conv", 1
STOCK_FORMAT = "lava-conv, lowered for stock netx"


def stored_fields(kind: str) -> tuple[str, ...]:
    """Names of a neuron's datasets: its parameters, with v_neg (0 or -theta) written as a flag."""
    fields = NEURONS[kind].channel_fields + NEURONS[kind].scalar_fields
    return tuple("v_neg_is_theta" if name == "v_neg" else name for name in fields)
