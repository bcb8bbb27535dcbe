"""The options of quantisation. torch is not needed to read them, so that the command line can be made from them."""

from dataclasses import KW_ONLY, dataclass

from lava_conv.network.fixedpoint import WEIGHT_BITS
from lava_conv.options import (
    Anything,
    Flag,
    Number,
    OneOf,
    Options,
    PowerOfTwo,
    Whole,
    documented,
    option,
)

DYNAMIC_THRESHOLD = "dynamic_threshold"  # Zou et al. 2024, Front. Neurosci. 18:1449020
CA_LIF = "ca_lif"  # Gao et al. 2023, Front. Neurosci. 17:1141701
METHODS = (DYNAMIC_THRESHOLD, CA_LIF)
ALIASES = (("zou", DYNAMIC_THRESHOLD), ("gao", CA_LIF))  # their names in version 0.1
ENCODER_LEVELS = 4  # the encoder sends at most 4 spikes in a row (B of Zou et al. 2024)
MAX_COUNT = 255  # of a neuron
STEP_LIMIT = 1 << 15


@documented
@dataclass(frozen=True)
class Quantisation(Options):
    """How weights and activations are quantised."""

    method: str = option(
        DYNAMIC_THRESHOLD,
        "the scheme: dynamic_threshold has ternary weights (int8 in the first and the last layer) and neurons with a "
        "dynamic threshold (Zou et al. 2024); ca_lif has int8 weights per channel, learned steps and Ca-LIF neurons "
        "(Gao et al. 2023).",
        OneOf(METHODS), aliases=ALIASES,
    )  # fmt: skip
    _: KW_ONLY
    k: int = option(0, "2^k counts make one unit.", Whole(0, 8), methods=(DYNAMIC_THRESHOLD,))
    levels: int = option(16, "largest count of a neuron.", Whole(1, MAX_COUNT), methods=(CA_LIF,))
    encoder_levels: int = option(
        ENCODER_LEVELS, "largest count of the first layer, whose k is 0; fewer settle sooner.", Whole(1, MAX_COUNT),
        methods=(DYNAMIC_THRESHOLD,),
    )  # fmt: skip
    power_of_two: bool = option(
        False, "every neuron's step is a power of two of its integer unit, as `lava-conv lower` needs it.", Flag()
    )
    clip: bool = option(True, "an upper clip at levels.", Flag(), methods=(CA_LIF,))
    n_max: int = option(
        0, "largest count of a hidden neuron, 0: no upper clip, as in the paper. ReLU6 and Hardtanh bring their own.",
        Whole(0, MAX_COUNT), methods=(DYNAMIC_THRESHOLD,),
    )  # fmt: skip
    step_max: int | None = option(
        None,
        "with power_of_two the largest step, a power of two; weights are then coarser, and clipped at 127 / step_max "
        "steps. A stock neuron holds 64: with it a lowered network needs no layers that divide. 0 or None: any step.",
        PowerOfTwo(STEP_LIMIT), aliases=((0, None),),
    )  # fmt: skip
    weight_bits: int = option(
        WEIGHT_BITS, "bits per weight, its sign included; the first and the last layer keep 8.", Whole(2, WEIGHT_BITS),
        methods=(CA_LIF,),
    )  # fmt: skip

    def conflict(self) -> str | None:
        """step_max needs power_of_two."""
        if self.step_max is None or self.power_of_two:
            return None
        return f"step_max is {self.step_max}, but power_of_two is False; set power_of_two, or leave step_max out"


@documented
@dataclass(frozen=True)
class Preparation(Quantisation):
    """What `prepare` takes: how to quantise, and what has to be known of the model."""

    _: KW_ONLY
    max_pool: str | None = option(
        None, '"conv" or "average": what to put in the place of max pooling; None refuses it.',
        OneOf((None, "conv", "average")),
    )  # fmt: skip
    input_scale: float = option(1.0, "the model is trained on pixels (0..255) times this.", Number(0, least_open=True))
    example_input: object = option(
        None,
        "images (N, C, H, W) or (N, C, L) of 0..255, on which the quantised model is compared with the given one. "
        "Default: random ones of a size that the model takes, found by trying.",
        Anything(), compare=False,
    )  # fmt: skip
