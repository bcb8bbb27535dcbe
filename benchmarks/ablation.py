#!/usr/bin/env python
"""What each part of the Ca-LIF neuron is worth: python benchmarks/ablation.py [--data mnist --epochs 2] [--steps 8]

A network is trained with quantisation (or a .net of the zoo is taken: --net). A dynamic-threshold neuron with
(theta, delta, max_count) is a Ca-LIF neuron with theta' = delta, the same max_count and v_init + bias = -theta; so the
same weights run with Ca-LIF neurons, and then with one part of the neuron changed at a time.
"""

import argparse
import dataclasses

import numpy as np

import lava_conv as lc
from lava_conv.network.fixedpoint import saturate
from lava_conv.network.graph import Graph
from lava_conv.network.neurons import NEURONS, ca_lif
from lava_conv.training.data import load_dataset
from lava_conv.training.loop import Recipe, train


def no_gate(state, a_in, p):
    """Ca-LIF without the calcium gate: it may send more negative spikes than positive ones."""
    v = saturate(ca_lif.integrate(state, a_in, p))
    up = (v >= p.theta) & ((p.max_count == 0) | (state.ca < p.max_count))
    s = (state.ca + up) - (state.ca + (v < p.v_neg))
    return s, ca_lif.State(v - s * p.theta, state.ca + s, state.k + 1)


def no_negative(state, a_in, p):
    """Ca-LIF that never takes a spike back: the usual integrate-and-fire neuron with soft reset."""
    v = saturate(ca_lif.integrate(state, a_in, p))
    s = (state.ca + ((v >= p.theta) & ((p.max_count == 0) | (state.ca < p.max_count)))) - state.ca
    return s, ca_lif.State(v - s * p.theta, state.ca + s, state.k + 1)


def to_ca_lif(graph: Graph, steps: int, spread: bool = False) -> Graph:
    """The same network with Ca-LIF neurons; `spread`: the bias as a leak over the sample, not at its first step."""
    layers = []
    for layer in graph.layers:
        if layer.neuron in ("DTB", "CALIF"):
            staircase = NEURONS[layer.neuron].to_staircase(layer.params)
            staircase = staircase._replace(unipolar=0, repeats=steps if spread else 1)
            params = ca_lif.from_staircase(staircase)
            layers.append(dataclasses.replace(layer, neuron="CALIF", params=params))
        else:
            layers.append(layer)
    return dataclasses.replace(graph, layers=tuple(layers))


def changed(graph: Graph, neuron: str = "CALIF", **values) -> Graph:
    """`graph` with some parameters of its Ca-LIF layers replaced by functions of the old ones."""
    layers = [
        dataclasses.replace(x, neuron=neuron, params=x.params._replace(**{k: f(x.params) for k, f in values.items()}))
        if x.neuron == "CALIF"
        else x
        for x in graph.layers
    ]
    return dataclasses.replace(graph, layers=tuple(layers))


def variants(graph: Graph, steps: int) -> dict[str, Graph]:
    """Name -> graph of every form that is compared."""
    for name, step in (("NO-GATE", no_gate), ("NO-NEGATIVE", no_negative)):
        NEURONS[name] = ca_lif.NEURON._replace(type=name, step=step)
    exact = to_ca_lif(graph, steps)
    return {
        "as it is": graph,
        "Ca-LIF, exact form (negative at v < 0, gate, bias at the first step)": exact,
        "bias as a leak over the sample": to_ca_lif(graph, steps, spread=True),
        "negative at v <= -theta (symmetrical)": changed(exact, v_neg=lambda p: -p.theta),
        "v(0) without theta/2": changed(exact, v_init=lambda p: 0 * p.theta),
        "no negative spikes": changed(exact, "NO-NEGATIVE"),
        "no calcium gate": changed(exact, "NO-GATE"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--net", help="a .net to take instead of training one")
    options = parser.parse_args()
    data = load_dataset(options.data)
    model = options.net or ("digits" if data.shape[1] == 8 else "lenet")
    if options.net:
        graph = dataclasses.replace(lc.load(options.net), steps=options.steps)
    else:
        trained = train(data, Recipe.flat(model=model, epochs=options.epochs, batch=64 if model == "digits" else 200))
        graph = lc.convert(trained.model, data.x_train[:16], options.steps)
    images, labels = data.x_test[: options.samples], data.y_test[: options.samples]
    reference = graph.reference(images)
    print(f"{options.data}, {model}, {len(images)} test images, T = {options.steps}, ", end="")
    print(f"integer reference {100 * reference.accuracy(labels)[0]:.2f} %")
    print(f"{'form':70} accuracy  counts that differ  +spikes  -spikes  settled at")
    for name, variant in variants(graph, options.steps).items():
        record = lc.run(variant, images, record_spikes=True)
        total = sum(c.size for c in reference.counts.values())
        differ = sum(int((record.counts[i] != c).sum()) for i, c in reference.counts.items())
        up = sum(int((s > 0).sum()) for s in record.spikes.values()) / total
        down = sum(int((s < 0).sum()) for s in record.spikes.values()) / total
        same = (record.predictions == record.predictions[-1]).mean(1) == 1
        settled = int(np.argmax(same)) + 1
        accuracy = 100 * record.accuracy(labels)[-1]
        print(f"{name:70} {accuracy:6.2f} %  {100 * differ / total:13.4f} %  {up:7.3f}  {down:7.3f}  T = {settled}")


if __name__ == "__main__":
    main()
