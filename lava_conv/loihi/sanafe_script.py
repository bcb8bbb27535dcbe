"""Runs in a process of its own: builds a SANA-FE network from arrays, replays the spikes, writes energy and time.

python sanafe_script.py INPUT.npz OUTPUT.json

SANA-FE (GPL-3.0) is imported here and nowhere else; this file is started, never imported for use. What the arrays hold
is said in replay.py.
"""

import importlib
import importlib.resources
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TILES, WIDE = 32, 8  # of the architecture that comes with SANA-FE
FORMATS = {"dense": "loihi_dense_synapse", "sparse": "loihi_sparse_synapse", "shared": "loihi_conv_synapse"}


def architecture(text: str, tiles: int, units: list[tuple[str, float]]) -> str:
    """SANA-FE's Loihi, as YAML, with three changes.

    Its input units, one a neuron, which play recorded spikes, cost what its neurons cost. The mesh gets rows until it
    has `tiles` tiles. For every (format, number) in `units` a synapse unit is added that stands for that many synapses.
    """
    neuron = text[text.index("- name: loihi_lif") : text.index("- name: loihi_inputs")]
    start, stop = text.index("- name: loihi_inputs"), text.index("dendrite:")
    inputs = text[start:stop]
    for key, value in re.findall(r"((?:energy|latency)_\w+): (\S+)", neuron):
        inputs = re.sub(rf"{key}: \S+", f"{key}: {value}", inputs)
    text = text[:start] + inputs + text[stop:]
    rows = -(-max(tiles, TILES) // WIDE)
    text = text.replace(f"loihi_tile[0..{TILES - 1}]", f"loihi_tile[0..{rows * WIDE - 1}]")
    text = re.sub(r"height: \d+", f"height: {rows}", text)
    synapses = text[text.index("synapse:") : text.index("axon_out:")]
    indent = " " * (len(synapses.split("\n")[1]) - len(synapses.split("\n")[1].lstrip()))
    added = ""
    for number, (form, count) in enumerate(units):
        entry = synapses[synapses.index(FORMATS[form]) :]
        energy, latency = (
            float(re.search(rf"{key}_process_spike: (\S+)", entry)[1])  # type: ignore[index]
            for key in ("energy", "latency")
        )
        added += (
            f"{indent}- name: replay_{number}\n{indent}  attributes:\n{indent}    model: current_based\n"
            f"{indent}    energy_process_spike: {energy * count:e}\n"
            f"{indent}    latency_process_spike: {latency * count:e}\n"
        )
    stop = text.index("axon_out:")
    stop = text.rindex("\n", 0, stop) + 1
    return text[:stop] + added + text[stop:]


def replay(arrays: Any) -> dict[str, Any]:
    """Energy by part in J, time in s and what was counted, of all samples one after another."""
    sanafe: Any = importlib.import_module("sanafe")

    text = (importlib.resources.files("sanafe.examples") / "loihi.yaml").read_text()
    units = [(str(form), float(count)) for form, count in zip(arrays["unit_format"], arrays["unit_count"], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loihi.yaml"
        path.write_text(architecture(text, int(arrays["tiles"]), units))
        loaded = sanafe.load_arch(path)
    cores, network = loaded.cores(), sanafe.Network()
    core, slot, unit, spikes = (arrays[name] for name in ("core", "slot", "unit", "spikes"))
    group = network.create_neuron_group("all", len(core))
    for number in range(len(core)):
        neuron, train = group[number], spikes[:, number].tolist()
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{slot[number]}]", model_attributes={"spikes": train})
        neuron.set_attributes(dendrite_hw_name="loihi_dendrites")
        if unit[number] >= 0:
            neuron.set_attributes(default_synapse_hw_name=f"replay_{unit[number]}")
        neuron.map_to_core(cores[core[number]])
    pairs = [(int(a), int(b)) for a, b in arrays["pairs"]]
    group.connect_neurons_sparse(group, {"w": [0.0] * len(pairs)}, pairs)
    chip = sanafe.SpikingChip(loaded)
    chip.load(network)
    result = chip.sim(len(spikes), timing_model="detailed")
    return {
        "time_s": result["sim_time"],
        "fired": result["neurons_fired"],
        "messages": result["packets_sent"],
        "parts_j": {name: value for name, value in result["energy"].items() if name != "total"},
    }


if __name__ == "__main__":
    with np.load(sys.argv[1], allow_pickle=False) as given:
        found = replay(given)
    Path(sys.argv[2]).write_text(json.dumps(found))
