"""What reading and writing of `.net` files share: the names of the formats, and what a neuron stores."""

from lava_conv.network.neurons import NEURONS

FORMAT, VERSION = "lava-conv", 1
STOCK_FORMAT = "lava-conv, lowered for stock netx"


def stored_fields(kind: str) -> tuple[str, ...]:
    """Names of a neuron's datasets: its parameters, coded ones under their name in the file."""
    neuron = NEURONS[kind]
    names = {code.name: code.stored for code in neuron.coded}
    return tuple(names.get(name, name) for name in neuron.channel_fields + neuron.scalar_fields)
