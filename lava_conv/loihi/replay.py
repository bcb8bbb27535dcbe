"""The recorded spikes through SANA-FE's Loihi 1, whose figures are calibrated on a board (extra `sanafe`).

SANA-FE is GPL-3.0: it runs in a process of its own, which gets arrays and gives numbers back. It knows no signed
spikes, so the neurons there only play what was recorded: every neuron costs an access a step and every spike its spike
and its update. What a neuron's other updates cost, those without a spike, is added: (active - spikes) times the figure
of SANA-FE's neuron. The synapses of a neuron on one core are one connection, whose unit costs what all of them would.
Two synapses from one neuron to the same core share a message there.
The image's frame is not replayed, for Loihi 1 has no graded spikes. Cores beyond the 128 of one chip enlarge the mesh.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.backends import run
from lava_conv.errors import BackendError, FitError
from lava_conv.loihi.cost import network_work, targets, tile_members
from lava_conv.loihi.fitting import Fit, fit
from lava_conv.loihi.load import IMAGE
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images

LABEL = "Loihi 1, calibrated"
UPDATE_PJ = 21.6  # energy_update_neuron of loihi_lif in SANA-FE's loihi.yaml
CORES_PER_TILE = 4
MAX_PAIRS = 1_000_000  # (neuron, core) pairs; SANA-FE takes about 3 KB for each
MAX_SAMPLES = 10
SCRIPT = Path(__file__).parent / "sanafe_script.py"


class Replay(NamedTuple):
    """What the replay cost, as means per sample.

    Fields:
        label: what kind of figures these are.
        samples: images replayed.
        energy_pj: in all, in pJ.
        parts_pj: what SANA-FE gives for synapses, somas and network, and the added updates without a spike, in pJ.
        latency_ns: of a sample, in ns.
        spikes: that the neurons played.
        messages: between cores.
        tiles: of the mesh.
    """

    label: str
    samples: int
    energy_pj: float
    parts_pj: dict[str, float]
    latency_ns: float
    spikes: float
    messages: float
    tiles: int


def replay(graph: Graph, images: NDArray[np.uint8], laid: Fit | None = None, steps: int | None = None) -> Replay:
    """Record uint8 images (N, C, H, W) and replay them one after another, each by itself.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W), a few: SANA-FE is slow.
        laid: of this graph on Loihi 1, whose steps then hold; default: `fit(graph, "loihi1", steps)`.
        steps: time steps a sample, default graph.steps; not used with `laid`.

    Raises:
        BackendError: SANA-FE is not installed or failed.
        FitError: the network is too large for it.
        DataError: the images are not the network's.
    """
    if importlib.util.find_spec("sanafe") is None:
        raise BackendError("SANA-FE is not installed; pip install lava-conv[sanafe]")
    images = check_images(graph, images)
    laid = fit(graph, "loihi1", steps) if laid is None else laid
    record = run(graph, images, laid.steps, record_spikes=True)
    works = network_work(laid, record, images, graph.input_code)
    arrays = network_arrays(laid, record.spikes)
    found, count = call_script(arrays), len(images)
    sent = sum(int(np.count_nonzero(s)) for s in record.spikes.values())
    added = (sum(float(w.active.sum()) for w in works.values()) - sent) * UPDATE_PJ
    parts = {name: value * 1e12 / count for name, value in found["parts_j"].items()} | {"added updates": added / count}
    return Replay(
        label=LABEL,
        samples=count,
        energy_pj=sum(parts.values()),
        parts_pj=parts,
        latency_ns=found["time_s"] * 1e9 / count,
        spikes=found["fired"] / count,
        messages=found["messages"] / count,
        tiles=int(arrays["tiles"]),
    )


def network_arrays(laid: Fit, spikes: Mapping[int, NDArray[np.int8]]) -> dict[str, NDArray[Any]]:
    """What the script needs.

    core, slot: of each neuron, all layers in order, then the idle ones. spikes: bool (N * (steps + depth - 1),
    neurons), each layer in its own window. pairs: (neuron, neuron where its spike lands): in SANA-FE the synapse unit
    belongs to the neuron where a spike lands, so every number of synapses has a landing neuron on its core, an idle one
    where the core has too few. unit: of each neuron, -1 for none; unit_format, unit_count: the format and the number
    of synapses that a unit stands for. tiles: of the mesh.
    """
    depth, samples = max(load.depth for load in laid.loads), next(iter(spikes.values())).shape[1]
    period = laid.steps + depth - 1
    total = sum(load.neurons for load in laid.loads)
    core, slot = np.zeros(total, np.int64), np.zeros(total, np.int64)
    trains = np.zeros((samples, period, total), bool)
    numbers: dict[int, NDArray[np.int64]] = {}  # layer -> number of each neuron, C,H,W
    members: list[NDArray[np.int64]] = []  # of each core
    start = 0
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        ids = numbers[load.layer] = np.arange(start, start + load.neurons).reshape(load.shape)
        start += load.neurons
        for one in plan.cores:
            here = ids[slice(*one.channels), slice(*one.rows), slice(*one.columns)].ravel()
            core[here], slot[here] = len(members), np.arange(here.size)
            members.append(here)
        if load.layer in spikes:
            window = slice(load.depth - 1, load.depth - 1 + laid.steps)
            sent = spikes[load.layer][: laid.steps] != 0
            trains[:, window, ids.ravel()] = sent.reshape(laid.steps, samples, -1).swapaxes(0, 1)
    reach = _reach(laid, numbers)
    kinds, kind = np.unique(np.array([reach.formats, reach.counts.astype(str)]), axis=1, return_inverse=True)
    keys, key = np.unique(np.stack([reach.cores, kind.ravel()], 1), axis=0, return_inverse=True)
    ranks = np.arange(len(keys)) - np.searchsorted(keys[:, 0], keys[:, 0])
    idle = [int(c) for c, rank in zip(keys[:, 0], ranks, strict=True) if rank >= members[c].size]
    new = iter(range(total, total + len(idle)))
    landing = np.array(
        [members[c][rank] if rank < members[c].size else next(new) for c, rank in zip(keys[:, 0], ranks, strict=True)],
        np.int64,
    )
    unit = np.full(total + len(idle), -1)
    unit[landing] = keys[:, 1]
    return {
        "core": np.concatenate([core, np.array(idle, np.int64)]),
        "slot": np.concatenate([slot, ranks[landing >= total]]),
        "spikes": np.pad(trains.reshape(samples * period, total), ((0, 0), (0, len(idle)))),
        "pairs": np.stack([reach.sources, landing[key.ravel()]], 1),
        "unit": unit, "unit_format": kinds[0], "unit_count": kinds[1].astype(float),
        "tiles": np.array(-(-len(members) // CORES_PER_TILE)),
    }  # fmt: skip


class _Reach(NamedTuple):
    """One entry a source neuron and core that it reaches: how many synapses it has there, stored in which format."""

    sources: NDArray[np.int64]
    cores: NDArray[np.int64]
    counts: NDArray[np.float64]
    formats: NDArray[np.str_]


def _reach(laid: Fit, numbers: dict[int, NDArray[np.int64]]) -> _Reach:
    parts: list[_Reach] = []
    total = first_core = 0
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        tiles = tile_members(load, plan)
        for feed, form in zip(load.feeds, plan.formats, strict=True):
            if feed.source == IMAGE:
                continue
            channels, rows, columns = targets(feed, load.shape, tiles)
            share = 1.0 if form == "dense" else feed.density
            total += int(np.prod([np.count_nonzero(x) for x in (channels, rows, columns)]))
            if total > MAX_PAIRS:
                raise FitError(
                    f"layer {load.layer}: the replay has more than {MAX_PAIRS:,} pairs of a neuron and a core that it "
                    f"reaches, which takes SANA-FE too much memory; use a smaller network"
                )
            for offset, (k, r, c) in enumerate(np.ndindex(len(channels), len(rows), len(columns))):
                here = channels[k][:, None, None] * rows[r][:, None] * columns[c]
                sources = numbers[feed.source][here > 0]
                cores = np.full(sources.size, first_core + offset)
                parts.append(_Reach(sources, cores, here[here > 0] * share, np.full(sources.size, form, "U6")))
        first_core += len(plan.cores)
    if not parts:  # a readout alone
        return _Reach(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, "U6"))
    return _Reach(
        sources=np.concatenate([part.sources for part in parts]),
        cores=np.concatenate([part.cores for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
        formats=np.concatenate([part.formats for part in parts]),
    )


def call_script(arrays: dict[str, NDArray[np.generic]]) -> dict[str, Any]:
    """Run `sanafe_script` in a process of its own on arrays as `network_arrays` gives them.

    Returns:
        parts_j: energies by part, in J; time_s: of all time steps, in s; fired: spikes; messages: between cores.

    Raises:
        BackendError: it failed; the last line of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.json"
        np.savez(given, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, str(SCRIPT), str(given), str(found)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not found.is_file():
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise BackendError(f"SANA-FE failed: {reason}")
        return json.loads(found.read_text())
