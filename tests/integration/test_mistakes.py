"""Usual mistakes at the public functions and commands: one or two sentences that name the remedy, never a Python error.

A further mistake is a row: what is called, and what the sentence must say.
"""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command import call
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lava_conv as lc
from lava_conv import figures, qat
from lava_conv.analysis.activity import Meter
from lava_conv.analysis.early_exit import decided_after, leave, silent_after
from lava_conv.calibration.procedure import float_predictions
from lava_conv.loihi.cost import cost
from lava_conv.lowering import write_stock
from lava_conv.report.findings import collect
from lava_conv.torch_tools.checkpoint import load_weights
from lava_conv.training.data import Dataset, centred, load_dataset
from lava_conv.training.loop import Recipe, load_trained, train

LONGEST = 600  # characters of a sentence
NO_REMEDY = ("weights_only", "Traceback", "report it")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
USER = """
import torch
from torch import nn
def one(x): return nn.Linear(2, 3)
def number(): return 3
def scripted(): return torch.jit.script(nn.Linear(2, 3))
def fails(): raise ValueError("[bold] words")
def linear(): return nn.Linear(2, 3)
"""


class Hostile:
    """Pickled it runs a command."""

    def __reduce__(self):
        return os.system, ("touch stolen",)


class World:
    """Everything that the rows use, made once."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.x, self.y = rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8), np.arange(20) % 3
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        self.float = nn.Sequential(*layers).eval()
        self.model = qat.prepare(self.float)
        self.model.train()(torch.tensor(self.x).float())
        self.model.eval()
        self.graph = lc.convert(self.model, self.x, steps=4)
        self.record, self.bare = lc.run(self.graph, self.x, record_spikes=True), lc.run(self.graph, self.x)
        self.loader = DataLoader(TensorDataset(torch.tensor(self.x)))
        self.data = Dataset("mine", self.x, self.y, self.x, self.y)
        self.digits = load_dataset()
        self.files(folder)

    def files(self, folder):
        """Files of every kind, in the folder where the rows run."""
        write = lambda name, content: (folder / name).write_bytes(content)  # noqa: E731
        lc.save(self.graph, folder / "good.net")
        for ending in ("net", "pt", "npz"):
            write(f"lfs.{ending}", LFS)
            write(f"empty.{ending}", b"")
            write(f"page.{ending}", b"<!DOCTYPE html><html>")
        write("tensors.safetensors", (9).to_bytes(8, "little") + b'{"a":{}}')
        write("usermade.py", USER.encode())
        write("broken.py", b"x = (")
        (folder / "folder").mkdir()
        (folder / "folder" / "inside.net").touch()
        with h5py.File(folder / "nir.net", "w") as file:
            file.create_group("node")
        with h5py.File(folder / "keras.net", "w") as file:
            file.create_group("model_weights")
        with h5py.File(folder / "stock.net", "w") as file:
            for number in range(2):
                group = file.create_group(f"layer/{number}")
                group["type"], group["shape"] = np.array([b"dense"], "S10"), np.array([3])
                group["weight"], group["neuron/type"] = np.ones((3, 3)), b"CUBA"
        torch.save(self.float.state_dict(), folder / "weights.pt")
        torch.save({"model": Hostile()}, folder / "hostile.pt")
        torch.save(self.float, folder / "whole.pt")
        torch.jit.script(self.float).save(folder / "scripted.pt")
        np.savez(folder / "floats.npz", x_train=self.x / 255, y_train=self.y, x_test=self.x / 255, y_test=self.y)
        np.savez(folder / "first.npz", x_train=self.x, y_train=self.y, x_test=self.x, y_test=self.y)
        np.savez(folder / "some.npz", x_train=self.x)
        frames = self.x[:, 0]
        np.savez(folder / "few.npz", x_train=frames, y_train=self.y, x_test=frames, y_test=self.y)
        np.save(folder / "array.npy", self.x)
        small = Recipe(epochs=1, batch=32)
        few = replace(self.digits, x_train=self.digits.x_train[:64], y_train=self.digits.y_train[:64])
        train(few, small, folder / "trained.pt")
        train(few, small.changed(method="float"), folder / "float.pt")
        state = torch.load(folder / "trained.pt")
        for name, change in {
            "no_losses": {"losses": None}, "shape": {"shape": "square"}, "recipe": {"recipe": {"k": "2"}},
            "other": {"recipe": state["recipe"] | {"model": "lenet"}}, "model": {"model": 3},
        }.items():  # fmt: skip
            torch.save(state | change, folder / f"{name}.pt")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("mistakes"), Path.cwd()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.chdir(folder)
    yield World(folder)
    os.chdir(before)
    torch.set_num_threads(threads)


def lazy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that lazy modules are new
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


CALLS = {
    # run, reference, compare
    "run a path": (lambda w: lc.run("good.net", w.x), r"graph is the path 'good.net'; load it first"),
    "run a model": (lambda w: lc.run(w.model, w.x), "graph is a PyTorch network .*convert it first"),
    "run nothing": (lambda w: lc.run(None, w.x), "graph is of type NoneType, needed is a Graph"),
    "run the wrong way round": (lambda w: lc.run(w.x, w.graph), "pass the graph first"),
    "run a loader": (lambda w: lc.run(w.graph, w.loader), r"is a DataLoader; pass one batch"),
    "run floats": (lambda w: lc.run(w.graph, w.x / 255), "dtype float64, allowed is uint8.*do not scale"),
    "run booleans": (lambda w: lc.run(w.graph, w.x > 9), "dtype bool, allowed is uint8"),
    "run a path of images": (lambda w: lc.run(w.graph, "x.png"), "is the path 'x.png'; load it"),
    "run a batch with labels": (lambda w: lc.run(w.graph, (w.x, w.y)), r"pass the images alone, batch\[0\]"),
    "run half a step": (lambda w: lc.run(w.graph, w.x, 2.5), "steps is 2.5, allowed is a whole number, 1 or more"),
    "run yes steps": (lambda w: lc.run(w.graph, w.x, True), "steps is True, allowed is a whole number"),
    "run an unknown option": (
        lambda w: lc.run(w.graph, w.x, colour=3),
        "backend 'torch' has no option colour; it takes device, threads, method",
    ),
    "record as in 0.1": (
        lambda w: lc.run(w.graph, w.x, record=()),
        "no option record; pass record_spikes=True",
    ),
    "record spikes as text": (
        lambda w: lc.run(w.graph, w.x, record_spikes="yes"),
        "record_spikes is 'yes', allowed are True and False",
    ),
    "look at spikes that were not kept": (lambda w: w.bare.spikes[1], "no spikes; run with record_spikes=True"),
    "an unknown backend": (lambda w: lc.run(w.graph, w.x, backend=["torch"]), "backend is .*allowed are torch, lava"),
    "an unknown device": (lambda w: lc.run(w.graph, w.x, device="tpu"), "device"),
    "half a thread": (lambda w: lc.run(w.graph, w.x, threads=0.5), "threads is 0.5, allowed is a whole number"),
    "reference of a data set": (lambda w: w.graph.reference(w.data), r"is a data set; pass its images"),
    "reference of nothing": (lambda w: w.graph.reference(None), "images is None; pass an array"),
    "compare a model": (lambda w: lc.compare(w.model, w.x), "convert it first"),
    "compare steps with none": (lambda w: lc.compare(w.graph, w.x, second="reference"), "different|has 4 steps"),
    # accuracy
    "labels of another data set": (lambda w: w.record.accuracy(w.y + 7), "labels go from 7 to 9.*use its own data set"),
    "one-hot labels": (lambda w: w.record.accuracy(np.eye(3)[w.y]), r"one-hot.*labels.argmax\(1\)"),
    "several classes": (lambda w: w.record.accuracy(np.ones((20, 3))), "several classes per image"),
    "labels to regress to": (lambda w: w.record.accuracy(w.y / 2), "as in regression"),
    "no labels": (lambda w: w.record.accuracy(None), "labels have shape"),
    # models and evaluation
    "evaluate a loader": (lambda w: qat.evaluate(w.model, w.loader), "is a DataLoader"),
    "evaluate a state dict": (lambda w: qat.evaluate(w.model.state_dict(), w.x), "state dict.*load_state_dict"),
    "evaluate normalised images": (lambda w: qat.evaluate(w.model, w.x / 255), "not whole numbers in 0..255"),
    "evaluate other images": (lambda w: qat.evaluate(w.model, w.x[:, :, :5]), "does not take images of shape"),
    "evaluate no batch": (lambda w: qat.evaluate(w.model, w.x, batch=0), "batch is 0, allowed is"),
    "evaluate feature maps": (
        lambda w: qat.evaluate(nn.Conv2d(1, 2, 3), w.x),
        "needed are logits",
    ),
    "exact of a path": (lambda w: qat.exact("weights.pt"), "is the path 'weights.pt'"),
    "exact of a scripted model": (lambda w: qat.exact(torch.jit.script(w.float)), "TorchScript"),
    "exact of a lazy model": (lambda w: qat.exact(lazy()), "call the model on one batch first"),
    "predictions of nothing": (lambda w: float_predictions(None, w.x), "needed is a torch.nn.Module"),
    "predictions of other images": (
        lambda w: float_predictions(w.float, w.x[:, :, :5]),
        "pass those it was trained on",
    ),
    "weights of another network": (
        lambda w: load_weights(nn.Linear(2, 3), w.float.state_dict(), "x.pt"),
        r"x.pt: its weights are of another network: weight is missing, .* more \(\d+ in all\)",
    ),
    "no weights": (lambda w: load_weights(w.float, {"epoch": 3}, "x.pt"), "holds epoch, but no weights"),
    # files
    "load nothing": (lambda w: lc.load(None), "path is of type NoneType; pass the name"),
    "load an empty name": (lambda w: lc.load(""), "path is empty"),
    "load a folder": (lambda w: lc.load("folder"), "is a folder; name a file in it, such as inside.net"),
    "load a pointer": (lambda w: lc.load("lfs.net"), "Git LFS pointer.*git lfs pull"),
    "load a page": (lambda w: lc.load("page.net"), "is a web page.*download it again"),
    "load an empty file": (lambda w: lc.load("empty.net"), "is an empty file"),
    "load a checkpoint": (lambda w: lc.load("trained.pt"), "but a zip archive; of a checkpoint `lava-conv convert`"),
    "load safetensors": (lambda w: lc.load("tensors.safetensors"), "but a safetensors file"),
    "load NIR": (lambda w: lc.load("nir.net"), "looks like a NIR file: build its network in PyTorch"),
    "load Keras": (lambda w: lc.load("keras.net"), "looks like a Keras file"),
    "load a stock file": (lambda w: lc.load("stock.net"), "stock netx file.*lava-conv validate"),
    "save the wrong way round": (lambda w: lc.save("a.net", w.graph), "the graph first, then the path"),
    "save a model": (lambda w: lc.save(w.model, "a.net"), "convert it first"),
    "save nowhere": (lambda w: lc.save(w.graph, None), "path is of type NoneType"),
    "save in no folder": (lambda w: lc.save(w.graph, "no/such/a.net"), "cannot be written"),
    "a checkpoint of nobody": (lambda w: load_trained("weights.pt"), "weights of another program.*calibrate --model"),
    "a checkpoint that is a network": (lambda w: load_trained("good.net"), "an HDF5 file, as networks of integers are"),
    "a hostile checkpoint": (lambda w: load_trained("hostile.pt"), "holds the object posix.system.*running code"),
    "a whole pickled model": (lambda w: load_trained("whole.pt"), "Sequential.*torch.save"),
    "a scripted checkpoint": (lambda w: load_trained("scripted.pt"), "TorchScript archive.*write a state dict"),
    "a checkpoint of safetensors": (lambda w: load_trained("tensors.safetensors"), "safetensors.torch.load_file"),
    "a checkpoint without losses": (lambda w: load_trained("no_losses.pt"), "damaged at losses"),
    "a checkpoint without shape": (lambda w: load_trained("shape.pt"), "damaged at shape"),
    "a checkpoint without weights": (lambda w: load_trained("model.pt"), "damaged at model"),
    "a recipe of texts": (
        lambda w: load_trained("recipe.pt"),
        "the checkpoint's recipe: k is '2', allowed is a whole number, 0 to 8",
    ),
    "weights of another recipe": (lambda w: load_trained("other.pt"), "does not fit its own recipe"),
    # data sets and training
    "a data set by nothing": (lambda w: load_dataset(None), "path is of type NoneType"),
    "an unknown data set": (lambda w: load_dataset("MNIST"), "data set is 'MNIST', allowed are digits, mnist"),
    "a data set as pointer": (lambda w: load_dataset("lfs.npz"), "Git LFS pointer"),
    "a data set of floats": (lambda w: load_dataset("floats.npz"), "dtype float64.*write it again as uint8"),
    "channels first": (lambda w: load_dataset("first.npz"), r"transpose\(0, 2, 3, 1\)"),
    "half a data set": (lambda w: load_dataset(Path("some.npz")), "lacks y_train"),
    "a seed below 0": (lambda w: load_dataset(seed=-1), "seed is -1, allowed is a whole number"),
    "a data set of lists": (lambda w: Dataset("a", [[1]], [1], [[1]], [1]), "of type list, needed are arrays"),
    "two sizes": (lambda w: Dataset("a", w.x, w.y, w.x[:, :, :4], w.y), "cut them to one size"),
    "one image": (lambda w: centred(w.x[0], (1, 4, 4)), "needed are N,C,H,W and C,H,W"),
    "train on arrays": (lambda w: train(w.x, Recipe()), "needed is a Dataset; make one of arrays"),
    "train by a dictionary": (lambda w: train(w.digits, {"epochs": 1}), "needed is a Recipe"),
    "train another model": (lambda w: train(w.digits, Recipe.flat(model="alexnet")), "model is 'alexnet', allowed are"),
    "epochs as text": (
        lambda w: train(w.digits, Recipe(epochs="3")),
        "train: epochs is '3', allowed is a whole number, 1 or more",
    ),
    "no epoch": (lambda w: train(w.digits, Recipe(epochs=0)), "epochs is 0, allowed is a whole number, 1 or more"),
    "batches of one": (lambda w: train(w.digits, Recipe(batch=1)), "batch is 1, allowed is a whole number, 2 or more"),
    "a rate that is none": (
        lambda w: train(w.digits, Recipe.flat(lr=float("nan"))),
        "lr is nan, allowed is a number, 0 or more",
    ),
    "too smooth": (
        lambda w: train(w.digits, Recipe(smoothing=3.0)),
        "smoothing is 3.0, allowed is a number, 0 or more and below 1",
    ),
    "far shifts": (lambda w: train(w.digits, Recipe.flat(shift=90)), "shift is 90, allowed is 0 to 7"),
    "steps of a float network": (
        lambda w: train(w.digits, Recipe.flat(method="float", unroll=4)),
        "unroll is 4, but a float network has no time steps",
    ),
    "a teacher as text": (
        lambda w: train(w.digits, Recipe.flat(teachers="t.net")),
        "teachers is 't.net', allowed is a tuple of paths",
    ),
    "no such start": (lambda w: train(w.digits, Recipe.flat(start="nope.pt")), "nope.pt: there is no such checkpoint"),
    "one output for ten": (lambda w: train(w.digits, Recipe.flat(one_output=True)), "one_output tells 2 classes apart"),
    # graphs, chips, lowering, exits, pictures
    "a graph of nothing": (lambda w: lc.Graph(None, 3), "layers must be a tuple of Layer"),
    "a graph of numbers": (lambda w: lc.Graph((1, 2), 3), "layers must be a tuple of Layer"),
    "steps as text": (lambda w: lc.Graph(w.graph.layers, "3"), "steps is '3', allowed is a whole number"),
    "bounds for half a step": (lambda w: w.graph.check(2.5), "steps is 2.5, allowed is a whole number"),
    "fit a path": (lambda w: lc.fit("good.net"), "load it first"),
    "an unknown chip": (lambda w: lc.fit(w.graph, "loihi9"), "chip is 'loihi9', allowed are loihi1, loihi2"),
    "a chip that is none": (lambda w: lc.fit(w.graph, None), "chip is None, allowed are"),
    "fit no steps": (lambda w: lc.fit(w.graph, "loihi2", 0), "steps is 0, allowed is a whole number"),
    "cost of a loader": (lambda w: cost(w.graph, w.loader), "is a DataLoader"),
    "lower a model": (lambda w: lc.lower(w.model), "convert it first"),
    "lower on paths": (lambda w: lc.lower(w.graph, ["a.png"]), "list of paths|cannot be lowered|layer"),
    "write what is not lowered": (lambda w: write_stock(w.graph, "x.net"), "pass what lava_conv.lower gives"),
    "leave the wrong way round": (lambda w: leave(w.record, w.graph), "pass the graph first"),
    "leave by an unknown policy": (lambda w: leave(w.graph, w.record, "soon"), "allowed are margin, confidence"),
    "leave below 0": (lambda w: leave(w.graph, w.record, "confidence", -1), "threshold is -1, allowed is"),
    "silence without spikes": (lambda w: silent_after(w.bare), "run with record_spikes=True"),
    "decided by a graph": (lambda w: decided_after(w.graph), "needed is a Record"),
    "measure a path": (lambda w: Meter("good.net"), "load it first"),
    "draw the wrong way round": (lambda w: figures.raster(w.record, w.graph), "pass the graph first"),
    "draw without spikes": (lambda w: figures.raster(w.graph, w.bare), "run with record_spikes=True"),
    "draw no network": (lambda w: figures.network(None), "needed is a Graph"),
    "draw a graph's accuracy": (lambda w: figures.accuracy_by_step(w.graph, w.y), "needed is a Record"),
    "confuse other labels": (lambda w: figures.confusion(w.y, w.y + 5, 3), "labels go from 5"),
    "a picture of nothing": (lambda w: figures.save_png(None, "x.png"), "pass what a function of lava_conv.figures"),
    "a picture in no folder": (lambda w: figures.save_png(figures.network(w.graph), "no/x.png"), "cannot be written"),
    "report on a loader": (lambda w: collect("a", "b", w.graph, w.loader, w.y), "is a DataLoader"),
    "report on no graph": (lambda w: collect("a", "b", None, w.x, w.y), "needed is a Graph"),
}


# those that go through `lava_conv.arguments` at the first line of convert, prepare and calibrate
ENTRANCE = {
    "convert a state dict": (lambda w: lc.convert(w.model.state_dict(), w.x), "state dict.*load_state_dict"),
    "convert a path": (lambda w: lc.convert("trained.pt", w.x), "is the path 'trained.pt'"),
    "convert a graph": (lambda w: lc.convert(w.graph, w.x), "converted already"),
    "convert a scripted model": (lambda w: lc.convert(torch.jit.script(w.float), w.x), "TorchScript"),
    "convert on a loader": (lambda w: lc.convert(w.model, w.loader), "is a DataLoader"),
    "convert on nothing": (lambda w: lc.convert(w.model, None), "is None"),
    "convert in no steps": (lambda w: lc.convert(w.model, w.x, steps=0), "steps is 0"),
    "convert in words": (lambda w: lc.convert(w.model, w.x, labels="abc"), "labels is 'abc'"),
    "convert at a scale of text": (lambda w: lc.convert(w.model, w.x, input_scale="x"), "input_scale is 'x'"),
    "prepare at a scale of text": (lambda w: qat.prepare(w.float, input_scale="x"), "input_scale is 'x'"),
    "calibrate with text": (lambda w: lc.calibrate(w.float, w.x, mean="0.5"), "mean"),
    "prepare a class": (lambda w: qat.prepare(nn.Sequential), "is the class Sequential"),
    "prepare a lazy model": (lambda w: qat.prepare(lazy()), "call the model on one batch first"),
    "calibrate a dictionary": (lambda w: lc.calibrate({"model": w.float}, w.x), r"checkpoint\['model'\]"),
    "calibrate on a loader": (lambda w: lc.calibrate(w.float, w.loader), "is a DataLoader"),
    "calibrate on booleans": (lambda w: lc.calibrate(w.float, w.x > 9), "dtype bool"),
}


@pytest.mark.parametrize("mistake", ENTRANCE)
def test_a_mistake_at_the_entrance_is_a_sentence(world, mistake):
    function, message = ENTRANCE[mistake]
    with pytest.raises(lc.LavaConvError, match=message) as caught:
        function(world)
    assert is_a_sentence(str(caught.value)), str(caught.value)


def is_a_sentence(text):
    return len(text) < LONGEST and "\n" not in text.strip() and not any(words in text for words in NO_REMEDY)


@pytest.mark.parametrize("mistake", CALLS)
def test_a_mistake_in_python_is_a_sentence(world, mistake):
    function, message = CALLS[mistake]
    with pytest.raises(lc.LavaConvError, match=message) as caught:
        function(world)
    assert is_a_sentence(str(caught.value)), str(caught.value)
    assert not Path("stolen").exists()


COMMANDS = {
    "run a checkpoint": ("run trained.pt", "but a zip archive"),
    "run a folder": ("run folder", "name a file in it, such as inside.net"),
    "run a pointer": ("run lfs.net", "git lfs pull"),
    "run nothing": ("run nothing.net", "there is no such file"),
    "run with brackets": ("run [red]no[/].net", r"error: \[red\]no\[/\].net: there is no such file"),
    "run on other images": ("run good.net --data first.npz", "transpose"),
    "run on another size": ("run good.net --data lfs.npz", "Git LFS pointer"),
    "run labels of ten classes": ("run good.net", "labels go from 0 to 9, the network has classes 0 to 2"),
    "run on a network": ("run good.net --data good.net", "data set is 'good.net'|not an .npz"),
    "run on nothing": ("run good.net --data few.npz --backend brain", "allowed are torch, lava"),
    "inspect a page": ("inspect page.net", "is a web page"),
    "inspect NIR": ("inspect nir.net", "looks like a NIR file"),
    "validate a folder": ("validate folder", "is a folder"),
    "validate a stock file": ("validate stock.net", "a stock netx file, which cannot be run here"),
    "convert a network": ("convert good.net x.net", "an HDF5 file, as networks of integers are"),
    "convert a state dict": ("convert weights.pt x.net", "weights of another program"),
    "convert a hostile file": ("convert hostile.pt x.net", "which only running code from the file could restore"),
    "convert without losses": ("convert no_losses.pt x.net", "damaged at losses"),
    "convert a float network": ("convert float.pt x.net", "`lava-conv calibrate` converts it"),
    "calibrate a trained one": ("calibrate trained.pt x.net", "`lava-conv convert` takes it as it is"),
    "calibrate a network": ("calibrate good.net x.net", "an HDF5 file"),
    "calibrate with an argument": (
        "calibrate weights.pt x.net --model usermade:one",
        r"one\(\) failed \(TypeError.*no arg",
    ),
    "calibrate a number": ("calibrate weights.pt x.net --model usermade:number", "the model is of type int"),
    "calibrate a scripted one": ("calibrate weights.pt x.net --model usermade:scripted", "TorchScript"),
    "calibrate what fails": ("calibrate weights.pt x.net --model usermade:fails", r"ValueError: \[bold\] words"),
    "calibrate what is broken": ("calibrate weights.pt x.net --model broken:f", "was never closed"),
    "calibrate nobody's": ("calibrate weights.pt x.net --model nowhere:f", "No module named 'nowhere'"),
    "calibrate no function": ("calibrate weights.pt x.net --model usermade:none", "no attribute 'none'"),
    "calibrate half a name": (
        "calibrate weights.pt x.net --model usermade",
        "--model is 'usermade'; write PACKAGE.MODULE",
    ),
    "calibrate other weights": (
        "calibrate weights.pt x.net --model usermade:linear",
        "of another network: weight is missing",
    ),
    "calibrate with words": ("calibrate float.pt x.net --mean red", "--mean is 'red'; write a number"),
    "train float with steps": (
        "train --method float --unroll 4 --out x.pt",
        "unroll is 4, but a float network has no time steps",
    ),
    "train float with levels": (
        "train --method float --levels 8 --out x.pt",
        "train: levels is 8, but method float does not use it; leave it out, or choose method ca_lif",
    ),
    "train float for lowering": (
        "train --method float --power-of-two --out x.pt",
        "power_of_two is True, but method float does not use it; .* choose method dynamic_threshold or ca_lif",
    ),
    "train with another's option": ("train --method gao --k 1 --out x.pt", "k is 1, but method ca_lif does not use it"),
    "train by another method": ("train --method li --out x.pt", "'dynamic_threshold', 'ca_lif', 'float'"),
    "train without out": ("train", "Missing option '--out'"),
    "train on nothing": ("train --data none.npz --out x.pt", "none.npz: there is no such file"),
    "train another model": ("train --model alexnet --out x.pt", "allowed are digits, lenet"),
    "train from a page": ("train --start page.pt --out x.pt", "is a web page"),
    "train with far shifts": ("train --shift 90 --out x.pt", "shift is 90, allowed is 0 to 7"),
    "resume a network": ("train --out good.net --resume", "an HDF5 file"),
    "lower a checkpoint": ("lower trained.pt x.net", "but a zip archive"),
    "fit an unknown chip": ("fit good.net --chip brain", "chip is 'brain', allowed are"),
    "fit a picture of no kind": ("fit good.net --out x.doc", "cannot write the picture"),
    "report with another checkpoint": ("report good.net --data digits --checkpoint lfs.pt", "Git LFS pointer"),
    "an unknown benchmark": ("bench speed", "is not one of"),
    "an unknown command": ("simulate good.net", "No such command 'simulate'"),
    "loud and quiet": ("inspect good.net -q -v", "exclude each other"),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_a_mistake_at_the_command_line_is_a_sentence(world, mistake):
    words, message = COMMANDS[mistake]
    done = call(*words.split())
    assert done.returncode == 2, done.stderr
    told = [line for line in done.stderr.splitlines() if line.lower().startswith("error: ")]
    assert len(told) == 1, done.stderr
    assert_found(message, told[0])
    assert is_a_sentence(told[0]) and "Traceback" not in done.stderr
    assert not Path("x.net").exists() and not Path("stolen").exists()


def assert_found(message, text):
    import re

    assert re.search(message, text), text
