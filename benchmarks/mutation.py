#!/usr/bin/env python
"""Plant small faults in the core and see whether the tests catch them.

uv run --with cosmic-ray python benchmarks/mutation.py --faults 100 --seed 0

Sites are drawn at random from neurons, fixed point, netx and simulator, one fault at each (cosmic-ray's: an operator, a
comparison, a number, a condition changed); types in annotations are left out, and so are the lines of SPEED_ONLY. Every
fault is tried in a copy of the last commit, with the tests of these parts, until the first one fails. Prints how many
were caught, and the others.
"""

import argparse
import ast
import random
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = (
    "lava_conv/network/neurons",
    "lava_conv/network/fixedpoint.py",
    "lava_conv/conversion/thresholds.py",
    "lava_conv/netx",
    "lava_conv/simulation",
)
TESTS = (
    "fixedpoint",
    "thresholds",
    "neurons",
    "graph",
    "netx",
    "netx_stock",
    "heaps",
    "simulate",
    "kernels",
)  # the quick ones
# Lines that decide how long something takes or how much memory it holds, and no result: no test of results can tell.
SPEED_ONLY = {
    "lava_conv/netx/hdf5.py": r"BLOCK = |rows = chunks",
    "lava_conv/simulation/__init__.py": r"CHUNK\w* = |compiled = |workers? = |largest = |turns = |size = |workers, ",
    "lava_conv/simulation/compiled.py": r"FEW = |share = |if share > |if self.method == .auto.",
    "lava_conv/simulation/tensors.py": r"CHUNK_ELEMENTS = ",
    "lava_conv/simulation/dense.py": r"matmul.allow_tf32 = |with torch.backends",  # of GPUs, and of ARM processors
}
TIMEOUT = 300  # seconds; a fault may make an endless loop, which counts as caught
CONFIG = """
[cosmic-ray]
module-path = {core}
timeout = {timeout}
excluded-modules = []
test-command = "{command}"
distributor.name = "local"
"""


def annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(line, column) where each type annotation of a file begins and ends."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    parts = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
    return [((p.lineno, p.col_offset), (p.end_lineno or 0, p.end_col_offset or 0)) for p in parts if p is not None]


def draw(session: Path, folder: Path, faults: int, seed: int) -> int:
    """Leave so many faults in the session, each at a site of its own; returns how many sites there are."""
    database = sqlite3.connect(session)
    rows = database.execute(
        "select job_id, module_path, start_pos_row, start_pos_col, end_pos_row, end_pos_col from mutation_specs "
        "order by module_path, start_pos_row, start_pos_col, operator_name, occurrence, operator_args"
    ).fetchall()
    outside = {path: annotations(folder / path) for path in {row[1] for row in rows}}
    lines = {path: (folder / path).read_text().splitlines() for path in outside}
    sites: dict[tuple, list[str]] = {}
    for job, path, *place in rows:
        if path in SPEED_ONLY and re.match(SPEED_ONLY[path], lines[path][place[0] - 1].strip()):
            continue
        if not any(start <= tuple(place[:2]) < end for start, end in outside[path]):
            sites.setdefault((path, *place), []).append(job)
    rng = random.Random(seed)
    chosen = {rng.choice(sites[site]) for site in rng.sample(sorted(sites), min(faults, len(sites)))}
    for (job,) in database.execute("select job_id from work_items").fetchall():
        if job not in chosen:
            database.execute("delete from mutation_specs where job_id = ?", (job,))
            database.execute("delete from work_items where job_id = ?", (job,))
    database.commit()
    return len(sites)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cosmic-ray", default="cosmic-ray", help="the program")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        archive = subprocess.run(
            ["git", "archive", "HEAD", "--prefix=copy/"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", name], input=archive, check=True)
        tests = [f"tests/unit/test_{test}.py" for test in TESTS]
        command = ["env", f"PYTHONPATH={folder}", sys.executable, "-m", "pytest", "-x", "-q", *tests]
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        print(f"without a fault: {time.perf_counter() - began:.0f} s", flush=True)
        (folder / "cr.toml").write_text(
            CONFIG.format(core=list(CORE), timeout=TIMEOUT, command=shlex.join(command).replace('"', '\\"'))
        )
        session = folder / "session.sqlite"
        subprocess.run([options.cosmic_ray, "init", "cr.toml", session.name], cwd=folder, check=True)
        sites = draw(session, folder, options.faults, options.seed)
        subprocess.run([options.cosmic_ray, "exec", "cr.toml", session.name], cwd=folder, check=True)
        rows = sqlite3.connect(session).execute(
            "select module_path, start_pos_row, operator_name, test_outcome, diff from mutation_specs "
            "join work_results using (job_id) order by 1, 2"
        ).fetchall()  # fmt: skip
    outcomes = Counter("caught" if row[3] in ("KILLED", "INCOMPETENT") else "not caught" for row in rows)
    print(f"{len(rows)} faults at {sites:,} sites: {dict(outcomes)}")
    for path, line, operator, outcome, diff in rows:
        if outcome == "SURVIVED":
            changed = [x for x in diff.splitlines() if x[:1] in "+-" and x[:3] not in ("+++", "---")]
            print(f"{path}:{line} {operator}\n    " + "\n    ".join(changed))


if __name__ == "__main__":
    main()
