"""The label-sharded network on one rank and on two, or with two workers: memory, bytes and messages, samples a second.

    python benchmarks/mpi.py                     Amazon-670K shape, as plain local processes
    python benchmarks/mpi.py --sizes 2x2         two ranks of two workers each
    python benchmarks/mpi.py --namespaces        two more in network namespaces of their own (needs root)

Namespaces are joined by a virtual cable, and the bytes on the wire are those that the kernel counts at rank 0's end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import ROOT, require_agreement, table, write_result

from slide_fast.engine.tasks import TrainRange
from slide_fast.mpi.communicator import mpi_ranks
from slide_fast.mpi.sample_ranges import range_of
from slide_fast.mpi.tasks import Level, Order, Rebuild
from slide_fast.mpi.training import prepare
from slide_fast.parallel.blas_threads import ONE_BLAS_THREAD
from slide_fast.parallel.machine import MemoryMeter, proportional_set_size
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
RATES = {1: 30e-6, 10: 30e-6, 100: 3e-6}  # Gbit/s, and seconds of a message: TCP, TCP, InfiniBand or the like
MESSAGES, DISK = 6, 1e9  # collective calls a step; bytes a second of a disk
WARM_UP = 5  # steps of each team before those that are measured: the buffers grow
TCP = {
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "FI_PROVIDER": "tcp",
    "MPIR_CVAR_NOLOCAL": "1",
}  # of MPICH: nothing by shared memory
CABLE = """
set -e
ip link set lo up
ip link add slide0 type veth peer name slide1
unshare -n sleep 3600 &
other=$!
trap 'kill $other' EXIT
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
ip link set slide1 netns $other
ip addr add 10.9.0.1/24 dev slide0
ip link set slide0 up
nsenter -t $other -n bash -c 'ip addr add 10.9.0.2/24 dev slide1; ip link set slide1 up; ip link set lo up'
export OTHER=$other
"$@"
"""
PLACE = """
if [ "$PMI_RANK" = 1 ]; then exec env FI_TCP_IFACE=slide1 nsenter -t $OTHER -n "$@"; fi
exec env FI_TCP_IFACE=slide0 "$@"
"""


def rank(data: str, config: Config, n_workers: int, n_steps: int, interface: str) -> dict[str, Any]:
    """What one process does and finds, with so many workers a rank; run under mpiexec."""
    everyone = mpi_ranks()
    with MemoryMeter() as meter, ONE_BLAS_THREAD:
        train, _ = tasks.load(data)
        mine = train.take(np.array(range_of(train.n_samples, everyone)))
        del train
        own, _ = prepare(config, mine, None, everyone, None, n_workers)
        mine, ranks = own.train_samples.own, own.ranks
        own.run(Order(0))
        started = time.perf_counter()
        own.run(Rebuild(0, [1]))
        rebuild_seconds = time.perf_counter() - started
        own.run(TrainRange(0, 1, WARM_UP * n_workers))
        everyone.barrier()
        before, traffic, started = bytes_at(interface), [dict(ranks.messages), dict(ranks.n_bytes)], time.perf_counter()
        report = own.run(TrainRange(0, 1 + WARM_UP * n_workers, n_steps * n_workers))
        everyone.barrier()
        seconds, after = time.perf_counter() - started, bytes_at(interface)
        started = time.perf_counter()
        if own.drifts:
            own.run(Level())
        level_seconds = time.perf_counter() - started
        in_training = proportional_set_size()
    each = [{k: (n - old.get(k, 0)) / n_steps for k, n in now.items() if n > old.get(k, 0)}
            for now, old in zip((ranks.messages, ranks.n_bytes), traffic, strict=True)]  # fmt: skip
    return {
        "step_seconds": seconds / n_steps,
        "samples_per_second": report.n_samples / seconds,
        "rebuild_seconds": rebuild_seconds,
        "level_seconds": level_seconds,
        "level_bytes": ranks.n_bytes.get("take over", 0),
        "active_neurons": report.active / report.n_labelled,
        "arrays_bytes": sum(array.nbytes for array in own.arrays.values()),
        "data_bytes": sum(rows.nbytes for rows in mine),
        "memory_bytes": in_training,
        "peak_memory_bytes": meter.peak_bytes,
        "messages_per_step": each[0],
        "bytes_per_step": each[1],
        "wire_bytes_per_step": None if not interface else {k: (after[k] - before[k]) / n_steps for k in before},
        "touched_features": touched(mine, config),
        "model_bytes_per_step": model(mine, config, ranks.size),
    }


def bytes_at(interface: str) -> dict[str, int]:
    """Bytes that the kernel has seen at a network interface."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()  # of the namespace that this process is in
    counters = {name.strip(): words.split() for name, _, words in (line.partition(":") for line in lines)}
    return {"rx": int(counters[interface][0]), "tx": int(counters[interface][8])} if interface else {}


def touched(mine: Dataset, config: Config) -> int:
    """Distinct features of a micro-batch: rows of the first layer that a step updates."""
    return len(np.unique(mine.features.take(np.arange(config.micro_batch)).indices))


def model(mine: Dataset, config: Config, n_ranks: int) -> dict[str, float]:
    """What a rank gives to others in a step, by docs/many-machines.md."""
    b, hidden = config.micro_batch, config.hidden[-1]
    nnz, labels = (rows.nnz / rows.n_rows for rows in mine)
    return {"allreduce": 4 * b * (hidden + 2) + 8 * (b + 1), "allgather": 4 * b * (2 + 2 * nnz + labels) / n_ranks}


def launch(
    n_ranks: int, options: argparse.Namespace, config: Config, in_spaces: bool = False, n_workers: int = 1
) -> list[dict[str, Any]]:
    """Run `rank` in the workers of so many ranks; what the first of each found, with the memory of all."""
    program = [sys.executable, str(Path(__file__).resolve()), "--data", options.data, "--steps", str(options.steps),
               "--workers", str(n_workers), "--as-rank", json.dumps(config.to_dict())]  # fmt: skip
    command = [MPIEXEC, "-n", str(n_ranks * n_workers)]
    if in_spaces:
        command = ["unshare", "-n", "bash", "-c", CABLE, "cable", *command, "bash", "-c", PLACE, "place"]
    done = subprocess.run(
        [*command, *program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (TCP if in_spaces else {}),
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    results = [one["result"] for one in sorted(found, key=lambda one: one["rank"])]
    of_ranks = [results[first : first + n_workers] for first in range(0, len(results), n_workers)]
    memory = ("memory_bytes", "peak_memory_bytes")
    return [workers[0] | {key: sum(worker[key] for worker in workers) for key in memory} for workers in of_ranks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--steps", type=int, default=100, help="that are measured")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=["1x1", "2x1", "1x2"], metavar="RxW", help="ranks and workers")
    parser.add_argument("--labels", type=int, default=670_091, help="of the data, for what is worked out on paper")
    parser.add_argument("--namespaces", action="store_true", help="two ranks in network namespaces of their own")
    parser.add_argument("--as-rank", metavar="SETTINGS", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_rank:
        interface = os.environ.get("FI_TCP_IFACE", "")
        config = Config.from_dict(json.loads(options.as_rank))
        found = rank(options.data, config, options.workers, options.steps, interface)
        print(json.dumps({"rank": mpi_ranks().rank, "result": found}), flush=True)
        return
    if MPIEXEC is None:
        sys.exit('there is no mpiexec; install one with: pip install "slide-numpy[mpi]"')
    require_agreement("tests/mpi/test_training.py")
    config = Config(shards=options.shards, in_batch=0.0)
    sizes = {name: [int(number) for number in name.split("x")] for name in options.sizes}
    results = {name: launch(n_ranks, options, config, n_workers=n) for name, (n_ranks, n) in sizes.items()}
    if options.namespaces:
        results["2x1, namespaces"] = launch(2, options, config, in_spaces=True)
    labels_only = {} if "1x1" not in results else launch(1, options, config.replace(lsh={"L": 0, "min_active": 0}))[0]
    head = ["ranks x workers", "samples/s", "rebuild s", "MiB a rank", "at the peak", "kB a step", "by the model"]
    rows = [[*head, "on the wire"]]
    for n, found in results.items():
        first, wire = found[0], found[0]["wire_bytes_per_step"]
        cells = [f"{max(one[key] for one in found) / 2**20:,.0f}" for key in ("memory_bytes", "peak_memory_bytes")]
        sent = [sum(first[key].get(kind, 0) for kind in ("allreduce", "allgather")) / 1000
                for key in ("bytes_per_step", "model_bytes_per_step")]  # fmt: skip
        rows.append([n, f"{first['samples_per_second']:,.0f}", f"{first['rebuild_seconds']:.2f}", *cells,
                     *(f"{x:,.1f}" for x in sent), "" if wire is None else f"{wire['tx'] / 1000:,.1f}"])  # fmt: skip
    table(rows)
    if "1x1" not in results:
        return
    alone = results["1x1"][0]
    print(f"a step of one rank: {1000 * alone['step_seconds']:.0f} ms, "
          f"{1000 * labels_only['step_seconds']:.0f} ms with no neurons active but the labels")  # fmt: skip
    on_paper = paper(alone, labels_only["step_seconds"], options.labels)
    write_result("mpi", {"shards": options.shards, "steps": options.steps, "namespaces": options.namespaces,
                         "ranks": results,
                         "labels_only": labels_only, "on_paper": on_paper})  # fmt: skip


def paper(one: dict[str, Any], hidden_seconds: float, n_labels: int) -> list[dict[str, float]]:
    """Seconds a step, and memory, for more labels and nodes than there are here: docs/many-machines.md says how."""
    hidden, features = 128, 135_909
    output_seconds = one["step_seconds"] - hidden_seconds
    shared = one["model_bytes_per_step"]
    found = []
    head = ["labels", "nodes", "GiB a node", *(f"ms at {rate} Gbit/s" for rate in RATES), "rebuild s", "to save"]
    rows = [head]
    for labels in (10**7, 10**8):
        for nodes in (16, 64, 256):
            others = (nodes - 1) / nodes
            wire = 2 * shared["allreduce"] * others + shared["allgather"] * others
            rounds = 2 * math.log2(nodes) * MESSAGES
            steps = [hidden_seconds + output_seconds / nodes + wire / (rate * 1.25e8) + rounds * latency
                     for rate, latency in RATES.items()]  # fmt: skip
            table_bytes = 10 * (4 + 2) + 4  # L tables: ids and addresses; the order of insertion
            row = 4 * (hidden + 3)  # of a label: weights, bias, a second moment of each of these
            memory = labels / nodes * (row + table_bytes + 5) + 8 * labels + 4 * (hidden + 1) * features
            rebuild = one["rebuild_seconds"] * labels / n_labels / nodes
            saving = row * labels / DISK
            found.append({"labels": labels, "nodes": nodes, "bytes": memory, "wire_bytes": wire, "step_seconds": steps,
                          "rebuild_seconds": rebuild, "saving_seconds": saving})  # fmt: skip
            rows.append([f"{labels:,}", str(nodes), f"{memory / 2**30:.1f}", *(f"{1000 * s:.1f}" for s in steps),
                         f"{rebuild:.1f}", f"{saving:.0f} s"])  # fmt: skip
    table(rows)
    return found


if __name__ == "__main__":
    main()
