"""The options of training. torch is not needed to read them, so that the command line can be made from them."""

from dataclasses import dataclass

from lava_conv.options import Absent, Flag, Number, OneOf, Options, Paths, Text, Whole, documented, group, option
from lava_conv.qat.options import Quantisation

FLOAT = "float"  # the method that trains without quantisation
MOST_LEFT_OUT = 0.9  # share of what is skipped, dropped or zoomed


@documented
@dataclass(frozen=True)
class Model(Options):
    """Which network is trained, and from which weights."""

    name: str = option("digits", "its name in `lava_conv.training.models.MODELS`.", Text(), flat="model")
    width: int = option(0, "channels of the first layer, 0: the model's own.", Whole())
    one_output: bool = option(
        False, "two classes as one logit, class 1 above 0, trained with binary cross-entropy.", Flag()
    )
    start: str = option(
        "",
        "path of a checkpoint whose weights to begin with, of the same network, float or quantised by any method; or "
        "of a `.net` that such a model was converted to.",
        Text(),
    )


@documented
@dataclass(frozen=True)
class Augmentation(Options):
    """What is done to training images at random."""

    shift: int = option(1, "images move by up to this many pixels.", Whole())
    rotate: float = option(0.0, "images turn by up to this many degrees to either side.", Number(0, 360))
    scale: float = option(0.0, "images grow or shrink by up to this share.", Number(0, MOST_LEFT_OUT))
    crop: int = option(
        0,
        "the network sees squares of this many pixels, cut at random in training and from the middle afterwards; 0: "
        "whole images.",
        Whole(),
    )
    flip: bool = option(False, "every second image is mirrored.", Flag())
    cutout: int = option(0, "a square of this many pixels of each image is hidden, 0: none.", Whole())


@documented
@dataclass(frozen=True)
class Optimiser(Options):
    """How weights follow their gradients."""

    name: str = option(
        "adam",
        "the rule that changes weights: adam, or sgd with Nesterov momentum.",
        OneOf(("adam", "sgd")),
        flat="optimiser",
    )
    lr: float = option(2e-3, "the largest learning rate; it falls to 0 as half a cosine.", Number())
    decay: float = option(0.0, "weight decay.", Number())
    warmup: int = option(0, "epochs in which the learning rate rises.", Whole())


@documented
@dataclass(frozen=True)
class Distillation(Options):
    """Networks from which to learn, see `lava_conv.training.distillation`."""

    teachers: tuple[str, ...] = option(
        (),
        "path of a checkpoint of any model, or of a `.net`, trained on the same data, to learn from; the mean of "
        "several.",
        Paths(),
        flag="--teacher",
    )
    share: float = option(
        0.7, "with teachers: how much of the loss is theirs; the rest are the labels.", Number(0, 1), flat="distill"
    )
    temperature: float = option(
        2.0, "with teachers: softens what they and the network say.", Number(0, least_open=True)
    )


@documented
@dataclass(frozen=True, kw_only=True)
class Recipe(Options):
    """How to train; stored in the checkpoint.

    `Recipe.flat(model="lenet", lr=1e-3, method="ca_lif", levels=8)` takes the options of all groups by the names they
    have on the command line, `recipe.changed(...)` changes some of them.
    """

    model: Model = group(Model(), "the network and its first weights, see `Model`.")
    quantisation: Quantisation | None = group(
        Quantisation(),
        "see `lava_conv.qat.options.Quantisation`; None trains the float network, for `lava_conv.calibrate`.",
        Absent("method", FLOAT, "no quantisation, for `lava-conv calibrate`."),
    )
    augmentation: Augmentation = group(Augmentation(), "random changes of the images, see `Augmentation`.")
    optimiser: Optimiser = group(Optimiser(), "see `Optimiser`.")
    distillation: Distillation = group(Distillation(), "teachers, see `Distillation`.")
    epochs: int = option(40, "passes through the training images.", Whole(1))
    batch: int = option(
        64,
        "images per step of the optimiser, several for batch normalisation; what is left of an epoch beyond whole "
        "batches is not used.",
        Whole(2),
    )
    seed: int = option(0, "of weights, order and augmentation.", Whole())
    smoothing: float = option(0.0, "label smoothing.", Number(0, 1, most_open=True))
    dropout: float = option(
        0.0,
        "share of the inputs of linear layers that are zeroed at random in training (Srivastava et al. 2014).",
        Number(0, MOST_LEFT_OUT),
    )
    skip_easy: float = option(
        0.0,
        "each epoch leaves out this share of the images whose last loss was below the mean (InfoBatch, see "
        "`lava_conv.training.selection`).",
        Number(0, MOST_LEFT_OUT),
    )
    unroll: int = option(
        0,
        "train on the output of the spiking network after this step and the one before; 0: on its settled output.",
        Whole(),
    )
    spike_penalty: float = option(0.0, "weight of the spikes per neuron in the loss.", Number())
    late_penalty: float = option(
        0.0,
        "weight in the loss of the steps by which the spikes of a neuron come after its first, so that it settles "
        "sooner (see `lava_conv.training.penalty`).",
        Number(),
    )
    bf16: bool = option(
        False,
        "convolutions and products in bfloat16 while training; faster on some processors, slower on others. The "
        "trained model is float32.",
        Flag(),
    )

    @property
    def method(self) -> str:
        """The method of quantisation, or "float"."""
        return FLOAT if self.quantisation is None else self.quantisation.method

    def conflict(self) -> str | None:
        """What trains spikes needs a spiking network, unrolled or not."""
        penalties = [name for name in ("spike_penalty", "late_penalty") if getattr(self, name)]
        if self.unroll and self.quantisation is None:
            return f"unroll is {self.unroll}, but a float network has no time steps; leave it out, or choose a method"
        if self.dropout and self.unroll:
            return "dropout does not go together with unroll; leave one of them out"
        if penalties and (self.unroll or self.quantisation is None):
            other = "unroll" if self.unroll else f"method {FLOAT}"
            return f"{' and '.join(penalties)} does not go together with {other}; leave one of them out"
        return None
