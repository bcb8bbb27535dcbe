"""Chip descriptions: TOML files whose every number carries its source and a status.

A file holds `name`, a table `[unpublished]` (what is not known, key = sentence) and one table a key of KEYS with
`value`, `source` and `status`. Keys that are not required may be absent: what they limit is then not checked.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lava_conv.errors import FitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "chips"
STATUSES = ("published", "quoted", "assumed")
KERNELS = ("none", "patterns", "kernel")


class Kind(NamedTuple):
    """What a value may be: a test, and the same in words."""

    allowed: Callable[[object], bool]
    words: str


def _number(value: object, least: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < float("inf")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and _number(value, least)


def _list(value: object, allowed: Callable[[object], bool], length: int | None = None) -> bool:
    return isinstance(value, list) and len(value) == (length or len(value)) > 0 and all(map(allowed, value))


COUNT = Kind(lambda x: _whole(x, 1), "an integer of 1 or more")
SIZE = Kind(lambda x: _whole(x, 0), "an integer of 0 or more")
WIDTHS = Kind(lambda x: _list(x, lambda y: _whole(y, 1)), "a list of bit widths of 1 or more")
FLAG = Kind(lambda x: isinstance(x, bool), "true or false")
WORDS = Kind(lambda x: isinstance(x, str) and bool(x), "a text")
KERNEL = Kind(lambda x: isinstance(x, str) and x in KERNELS, " or ".join(map(repr, KERNELS)))
AMOUNT = Kind(_number, "a number of 0 or more")
PAIR = Kind(lambda x: _list(x, _number, 2), "a list of two numbers of 0 or more")
MESH = Kind(lambda x: _list(x, lambda y: _whole(y, 1), 3), "a list of three integers of 1 or more")

REQUIRED = {
    "cores": COUNT,
    "neurons_per_core": COUNT,
    "synapse_bytes_per_core": COUNT,
    "weight_bits": WIDTHS,  # widths in which weights can be stored
    "index_bits": WIDTHS,  # widths of the target index of a sparse synapse
    "list_header_bits": SIZE,  # of each block of an axon's list of synapses
    "list_block": COUNT,  # synapses a block
    "memory_word_bits": COUNT,  # a block fills whole words
    "kernels": KERNEL,  # convolutions: unrolled, each distinct pattern of targets once, each kernel once
    "state_bits": COUNT,
    "spike_bits": COUNT,  # payload, sign included; 1: a spike is there or not
    "programmable_neurons": FLAG,
}
OPTIONAL = {
    "neurons": COUNT,
    "input_axons": COUNT,
    "output_axons": COUNT,
    "delay_steps": SIZE,
    "core_bytes": COUNT,  # synapses and neuron states together
    "state_variable_bytes": COUNT,
}
COST = {  # all or none; pJ and ns
    "cost_label": WORDS,
    "mesh": MESH,  # tiles wide, tiles high, cores a tile
    "energy_synaptic_op": AMOUNT,
    "energy_update_active": AMOUNT,
    "energy_update_inactive": AMOUNT,
    "energy_spike": AMOUNT,
    "energy_hop": PAIR,  # east-west, north-south
    "time_synaptic_op": AMOUNT,
    "time_update_active": AMOUNT,
    "time_update_inactive": AMOUNT,
    "time_spike": AMOUNT,
    "time_barrier": PAIR,  # one tile, all tiles
}
KEYS = REQUIRED | OPTIONAL | COST
TOGETHER = (tuple(COST), ("core_bytes", "state_variable_bytes"))  # of each group all keys or none


class Entry(NamedTuple):
    """A value of a chip's description, where it was read, and how far it can be trusted (see STATUSES)."""

    value: Any
    source: str
    status: str


class Chip(NamedTuple):
    """A chip: its name, its numbers by key, and what is known to be unpublished."""

    name: str
    entries: Mapping[str, Entry]
    unpublished: Mapping[str, str]

    def __getitem__(self, key: str) -> Any:  # type: ignore[override]
        return self.entries[key].value

    def get(self, key: str) -> Any:
        """The value, None where the chip has none."""
        return self.entries[key].value if key in self.entries else None

    @property
    def has_cost(self) -> bool:
        """Whether energies and times are known."""
        return "cost_label" in self.entries


def shipped() -> tuple[str, ...]:
    """Names of the chips that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_chip(name: str) -> Chip:
    """A chip by its name, or by the path of a TOML file.

    Raises:
        FitError: unknown, unreadable, or an entry is not what the schema says; names the key, the value, the allowed.
    """
    if not isinstance(name, str | os.PathLike):
        raise FitError(f"chip is {name!r}, allowed are {', '.join(shipped())} or the path of a TOML file that exists")
    path = FOLDER / f"{name}.toml" if name in shipped() else Path(name)
    if not path.is_file():
        raise FitError(f"chip is {name!r}, allowed are {', '.join(shipped())} or the path of a TOML file that exists")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FitError(f"{path}: not a readable TOML file ({' '.join(str(error).split())})") from None
    return _chip(path, table)


def _chip(path: Path, table: dict[str, Any]) -> Chip:
    title, unpublished = table.pop("name", None), table.pop("unpublished", {})
    if not WORDS.allowed(title):
        raise FitError(f"{path}: name is {title!r}, allowed is {WORDS.words}")
    if not isinstance(unpublished, dict) or not all(map(WORDS.allowed, unpublished.values())):
        raise FitError(f"{path}: unpublished is {unpublished!r}, allowed is a table of texts")
    if unknown := [key for key in table if key not in KEYS]:
        raise FitError(f"{path}: unknown key {unknown[0]!r}, allowed are name, unpublished, {', '.join(KEYS)}")
    if missing := [key for key in REQUIRED if key not in table]:
        raise FitError(f"{path}: lacks {missing[0]}, which must be {REQUIRED[missing[0]].words}")
    for group in TOGETHER:
        there = [key for key in group if key in table]
        if there and len(there) < len(group):
            lacking = next(key for key in group if key not in table)
            raise FitError(f"{path}: has {there[0]} but lacks {lacking}; allowed are all of {', '.join(group)} or none")
    return Chip(title, {key: _entry(path, key, entry) for key, entry in table.items()}, unpublished)


def _entry(path: Path, key: str, entry: object) -> Entry:
    if not isinstance(entry, dict):
        raise FitError(f"{path}: {key} is {entry!r}, allowed is a table with {', '.join(Entry._fields)}")
    if odd := set(Entry._fields) ^ set(entry):
        name = min(odd)
        raise FitError(
            f"{path}: {key} {'has an unknown' if name in entry else 'lacks its'} {name}, "
            f"allowed are {', '.join(Entry._fields)}"
        )
    if not KEYS[key].allowed(entry["value"]):
        raise FitError(f"{path}: {key} is {entry['value']!r}, allowed is {KEYS[key].words}")
    if entry["status"] not in STATUSES:
        raise FitError(f"{path}: status of {key} is {entry['status']!r}, allowed is {' or '.join(STATUSES)}")
    if not WORDS.allowed(entry["source"]):
        raise FitError(f"{path}: source of {key} is {entry['source']!r}, allowed is {WORDS.words}")
    value = entry["value"]
    return Entry(tuple(value) if isinstance(value, list) else value, entry["source"], entry["status"])
