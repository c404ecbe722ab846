"""Measure every row of the performance page again, on one machine, in one sitting.

    python benchmarks/all.py                          about an hour on two cores
    python benchmarks/all.py --only prediction.py     the commands that contain a word
    python benchmarks/all.py --list                   print the commands, run none

The commands run one after another, so leave the machine alone. The agreement tests run once, before the first. A
command that fails is named at the end, and the others run all the same. What needs a library or data that are not here
says so itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from shared.harness import AGREED, ROOT, require_agreement

COMMANDS = (
    "throughput.py peers --rounds 2",
    "throughput.py run",
    "throughput.py labels --rounds 2",
    "throughput.py paper",
    "scaling.py --data amazon-670k --workers 1 2 --max-seconds 10",
    "floor.py",
    "rebuild.py",
    "memory.py",
    "reading.py",
    "text.py vectorising",
    "text.py pipe",
    "prediction.py --data stdlib --peers hnswlib faiss scann",
    "prediction.py --data acl_authors --peers hnswlib faiss scann",
    "prediction.py --data acl_authors --preset wide --name wide --peers hnswlib faiss scann",
    "prediction.py --data amazon-670k --peers hnswlib faiss scann",
    "time_to_accuracy.py --data amazon-670k --rounds 1 --max-seconds 150 --without-omikuji",
    "time_to_accuracy.py --data stdlib --rounds 1",
    "time_to_accuracy.py --data acl_authors --rounds 1",
)


def run(command: str) -> int:
    """Run a benchmark in a process of its own, say how long it took, and return its exit code."""
    print(f"\n+ python benchmarks/{command}", flush=True)
    name, *arguments = command.split()
    started = time.perf_counter()
    environment = os.environ | {AGREED: str(os.getpid())}
    code = subprocess.run([sys.executable, str(ROOT / "benchmarks" / name), *arguments], env=environment).returncode
    print(f"{time.perf_counter() - started:.0f} s, exit code {code}", flush=True)
    return code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="run the commands that contain a word")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    options = parser.parse_args()
    wanted = [command for command in COMMANDS if any(word in command for word in options.only)]
    if not wanted:
        parser.error(f"no command contains {' or '.join(options.only)}; --list prints all")
    if options.list:
        print("\n".join(f"python benchmarks/{command}" for command in wanted))
        return
    require_agreement()
    failed = [command for command in wanted if run(command)]
    if failed:
        sys.exit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
