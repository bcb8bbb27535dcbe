#!/usr/bin/env python
"""Random networks, written and used in every usual way, through each front end: is any number wrong without a word?

python benchmarks/silent.py                    600 networks (minutes, one core), a table, every difference and crash
python benchmarks/silent.py --first 600        other 600
python benchmarks/silent.py --only 17          one, with its source and what happened
python benchmarks/silent.py --kind hooks       those of one kind

The measure is the user's own module, run by plain PyTorch in evaluation mode and float64, never the product's trace:
what a front end made of it must compute the same with its quantisation left out, and the integer graph must give the
counts and logits of the quantised model. A model that draws random numbers, or whose output for an image depends on
the other images, has no such graph and must be refused. Verdicts:

exact      accepted, and everything is equal
refused    a LavaConvError before any training; `late` one from convert, of a model that a front end had accepted
crash      any other exception
silent     accepted, and something differs
void       the network does not run in PyTorch either
sweep      a fault of this program
"""

import argparse
import collections
import os
import random
import re
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from silent_fronts import FRONTS, Case
from silent_networks import GROUPS, network
from silent_oracle import N_MAX, SCALE, Crash, Difference, Late, Void
from silent_usage import CHANGES, USAGES

import lava_conv as lc

NOISE = re.compile(r"While executing|Original traceback|Traceback|object at 0x|NoneType|Proxy\(|symbolically traced")
LONGEST = 2000


def _by_hand(text: str) -> str:
    """The pieces in our own layers."""
    text = re.sub(r"«nn\.((?:Adaptive)?AvgPool2d\([^«»]*\))»", r"«nn.Sequential(nn.\1, qat.MedianQuant(1, 8))»", text)
    text = re.sub(r"nn\.ReLU\([^()]*\)|nn\.ReLU6\([^()]*\)", "qat.MedianQuant(1, 8)", text)
    text = text.replace("F.relu(", "«qat.MedianQuant(1, 8)»(").replace("nn.Conv2d(", "qat.TernaryConv2d(")
    return text.replace("nn.Linear($N, $K", "qat.Readout($N, $K").replace("nn.Linear(", "qat.TernaryLinear(")


def _in_brevitas(text: str) -> str:
    text = re.sub(r"nn\.ReLU\([^()]*\)|nn\.ReLU6\([^()]*\)", "qnn.QuantReLU(bit_width=3)", text)
    text = text.replace("F.relu(", "«qnn.QuantReLU(bit_width=3)»(").replace("nn.Conv2d(", "qnn.QuantConv2d(")
    return text.replace("nn.Linear(", "qnn.QuantLinear(")


def case(seed: int) -> Case:
    """The case of a seed, always the same."""
    rng = random.Random(seed)
    front = rng.choices(list(FRONTS), [share for _, share in FRONTS.values()])[0]
    usage = change = None
    if rng.random() < 0.35:
        kind = rng.choice(list(USAGES))
        usage = (kind, rng.choice(list(USAGES[kind])))
    if front in ("prepare", "hand-written") and rng.random() < 0.3 and usage is None:
        change = rng.choice(list(CHANGES))
    count = rng.choices((0, 1, 2), (0.75, 0.2, 0.05) if usage or change else (0.05, 0.75, 0.2))[0]
    wanted = rng.sample(GROUPS, count)
    if front == "Brevitas":
        import brevitas.nn  # noqa: F401
    translate, first = {
        "hand-written": (_by_hand, "x = «qat.Pixels(1 / 64)»(x)"), "Brevitas": (_in_brevitas, "")
    }.get(front, (str, ""))  # fmt: skip
    made = network(rng, wanted, translate, first)
    if front == "hand-written":  # the image needs int8 weights
        made.source = made.source.replace("qat.TernaryConv", "qat.Int8Conv", 1)
    options: dict[str, Any] = {}
    if front == "prepare":
        options = {
            "method": rng.choice(("ca_lif", "ca_lif", "dynamic_threshold")), "levels": rng.choice((4, 7, 15)),
            "n_max": N_MAX, "k": rng.choice((0, 1, 2)), "power_of_two": rng.random() < 0.2,
            "weight_bits": rng.choice((8, 8, 4)),
        }  # fmt: skip
        for unused in ("k", "n_max") if options["method"] == "ca_lif" else ("levels", "weight_bits"):
            del options[unused]
        if re.search(r"[mM]ax_?[pP]ool", made.source):
            options["max_pool"] = rng.choice((None, "conv", "average"))
    elif front == "calibrate":
        constant = rng.random() < 0.5
        options = {
            "steps": 64 if constant else 32, "levels": 64 if constant else 31,
            "method": rng.choice(("none", "mmse", "light")), "neuron": rng.choice(("calif", "calif", "dtb", "if")),
            "per_channel": rng.random() < 0.3, "input_code": "constant" if constant else "flash",
            "normalised": rng.random() < 0.15,
        }  # fmt: skip
    elif front == "torch.ao":
        options = {"levels": rng.choice((7, 15))}
    scale = 1.0 if front == "hand-written" else SCALE
    return Case(seed, front, made, usage, change, options, scale)


class Result(NamedTuple):
    """verdict: see the head of the file. detail: the sentence, or what differs. flaw: what is wrong with a refusal."""

    seed: int
    front: str
    kinds: list[str]
    words: str
    verdict: str
    detail: str
    flaw: str
    seconds: float


def judge(seed: int) -> Result:
    """Build the case of a seed and say what became of it."""
    begin = time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one = case(seed)
        except Exception as error:
            return Result(seed, "", ["plain"], "", "sweep", f"{type(error).__name__}: {error}", "", time.time() - begin)
        flaw = ""
        try:
            FRONTS[one.front][0](one)
            verdict, detail = "exact", ""
        except Void as error:
            verdict, detail = "void", str(error)
        except Difference as error:
            verdict, detail = "silent", str(error)
        except Late as error:
            verdict, detail, flaw = "late", str(error), _flaw(str(error))
        except lc.LavaConvError as error:
            verdict, detail, flaw = "refused", str(error), _flaw(str(error))
        except Crash as error:
            verdict, detail = "crash", str(error)
        except Exception as error:  # a fault of this program
            verdict, detail = "sweep", f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
    return Result(seed, one.front, one.kinds(), one.words(), verdict, detail, flaw, time.time() - begin)


def _flaw(sentence: str) -> str:
    if len(sentence) >= LONGEST:
        return f"{len(sentence)} characters"
    if found := NOISE.search(sentence):
        return f"noise: {found[0]}"
    return "blames itself" if "fault of the converter" in sentence else ""


VERDICTS = ("exact", "refused", "late", "crash", "silent", "void", "sweep")


def table(results: list[Result]) -> list[str]:
    """By front end, then by kind of variation, how many ended in each verdict. A case of two kinds counts in both."""
    lines = ["| | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        rows[f"**{result.front}**"][result.verdict] += 1
        for kind in set(result.kinds):
            rows[kind][result.verdict] += 1
    for name in sorted(rows, key=lambda n: (not n.startswith("**"), n)):
        lines.append(f"| {name} | " + " | ".join(str(rows[name][v] or "") for v in VERDICTS) + " |")
    total = collections.Counter(result.verdict for result in results)
    return [*lines, f"| {len(results)} networks | " + " | ".join(str(total[v]) for v in VERDICTS) + " |"]


def _shorten(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=600, help="how many networks")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no further network after so long")
    parser.add_argument("--only", type=int, nargs="+", help="these seeds, with the source of each network")
    parser.add_argument("--kind", help="print refusals of cases of this kind of variation, too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.only:
        for seed in chosen.only:
            one = case(seed)
            print(f"{one.network.source}\n# images {one.network.shape}, {one.front} {one.options}, {one.words()}")
            result = judge(seed)
            print(f"# {result.verdict} ({result.seconds:.1f} s): {result.detail}\n")
        return
    results, begin = [], time.time()
    for seed in range(chosen.first, chosen.first + chosen.count):
        if time.time() - begin > chosen.seconds:
            break
        result = judge(seed)
        results.append(result)
        bad = result.verdict in ("silent", "crash", "sweep")
        if bad or result.flaw or chosen.kind in result.kinds:
            flaw = f" [{result.flaw}]" if result.flaw else ""
            where = f"{seed} ({result.front}; {result.words})"
            print(f"{result.verdict}{flaw} {where}: {_shorten(result.detail)}", flush=True)
    print("\n".join(table(results)))
    print(f"{time.time() - begin:.0f} s in all, the slowest {max(r.seconds for r in results):.1f} s "
          f"(seed {max(results, key=lambda r: r.seconds).seed})")  # fmt: skip
    sys.exit(any(r.verdict in ("silent", "crash", "sweep") for r in results))


if __name__ == "__main__":
    main()
