"""Reads hostile `.net` files by the thousand in child processes: `python benchmarks/fuzz_net.py 100000 --processes 4`.

Each goes through both readers, ours and that of stock files (`inspect`, `validate`). Prints what each kind of damage
came to. Lost is a case that crashed, hung, took more than a second of CPU time or 200 MiB more memory, raised anything
but NetFormatError or RangeError, or came back as another network; its number and what was done to the file are printed,
and `tests/damaged_nets.py` makes the same file of the same number again.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from damaged_nets import GOOD, Case, fuzz, table


def part(number: int, first: int, stop: int, step: int) -> list[Case]:
    found = []
    for case in fuzz(first + number, stop, step):
        found.append(case)
        if case.word not in GOOD:
            print(f"lost: case {case.seed} ({case.changes}): {case.word}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=4)
    chosen = parser.parse_args()
    begin, stop = time.time(), chosen.first + chosen.cases
    with ThreadPoolExecutor(chosen.processes) as pool:
        parts = list(pool.map(lambda n: part(n, chosen.first, stop, chosen.processes), range(chosen.processes)))
    results = [result for found in parts for result in found]
    columns = (*GOOD, "lost")
    print(f"| damage | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for change, counts in sorted(table(results).items()):
        print(f"| {change} | {' | '.join(str(counts[name]) for name in columns)} |")
    good = {name: sum(case.word == name for case in results) for name in GOOD}
    lost = len(results) - sum(good.values())
    print(f"| **{len(results):,} cases** | {' | '.join(map(str, good.values()))} | {lost} |")
    slow, large = (max(results, key=lambda case: getattr(case, field)) for field in ("seconds", "bytes"))
    print(f"slowest: {slow.seconds:.2f} s of CPU time (case {slow.seed}, {slow.changes})")
    print(f"largest: {large.bytes >> 20} MiB more memory (case {large.seed}, {large.changes})")
    print(f"{time.time() - begin:.0f} s in all")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
