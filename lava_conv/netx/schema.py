"""What reading and writing of `.net` files share: the names of the formats, and what a neuron stores."""

from lava_conv.network.neurons import NEURONS

FORMAT, VERSION = "lava-conv", 1
STOCK_FORMAT = "lava-conv, lowered for stock netx"


def stored_fields(kind: str) -> dict[str, str]:
    """Parameter of a neuron -> the name of its dataset."""
    neuron = NEURONS[kind]
    names = dict(neuron.file_names) | {code.name: code.stored for code in neuron.coded}
    return {name: names.get(name, name) for name in neuron.channel_fields + neuron.scalar_fields}
