"""All cores of a machine against its GPU: ours with the defaults, and PyTorch's dense and sampled softmax on the GPU.

    python benchmarks/gpu.py --data acl_authors      and stdlib, diginetica, amazon-670k, or a folder

As time_to_accuracy.py, but the dense softmax is trained again, since a GPU does that in seconds; PyTorch on the CPU,
with a thread for each worker, tells only its pace. The GPU is given what helps it: batches that lie ready in its
memory, whose making is not counted, and products in TF32.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from shared import ours, peers, plots, tasks
from shared.curves import best
from shared.harness import child, figure, in_turn, require_agreement, spread, write_result
from time_to_accuracy import DENSE, OURS, SAMPLED, SHARE, report, summary

from slide_fast.parallel.machine import available_cpus

DENSE_GPU, SAMPLED_GPU = f"{DENSE['pytorch']}, GPU", f"{SAMPLED}, GPU"


def run_contenders(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Runs by contender, in turn; the sampled softmax at our mean number of active neurons in a first run."""
    given = options.data, options.samples
    own = partial(child, ours.curve, *given, options.workers, options.max_seconds)
    n_negatives = round(own()["active_neurons"])
    print(f"our mean number of active neurons: {n_negatives:,}", flush=True)
    contenders = {OURS: own}
    for rate in options.rates:
        for name, negatives in ((DENSE_GPU, None), (SAMPLED_GPU, n_negatives)):
            rest = rate, negatives, options.workers, options.max_seconds, options.device
            contenders[f"{name}, {rate:g}"] = partial(child, peers.network_curve, *given, *rest)
    return dict(zip(contenders, in_turn(list(contenders.values()), options.rounds), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="acl_authors")
    parser.add_argument("--samples", type=int, help="for training; 0: all; default: 200,000 of stdlib and diginetica")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="and threads of PyTorch on the CPU")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3], help="learning rates of PyTorch")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=60.0, help="of training, for each run")
    parser.add_argument("--device", default="cuda", help="of PyTorch")
    options = parser.parse_args()
    require_agreement()
    runs = run_contenders(options)
    curves = {name: [run["points"] for run in own] for name, own in runs.items()}
    scores = {name: [best(points) for points in of] for name, of in curves.items()}
    targets = {
        key: SHARE * max(score for name, of in scores.items() if name.startswith(start) for score in of)
        for key, start in (("dense", DENSE_GPU), ("sampled", SAMPLED_GPU))
    }
    rows = [summary(name, of, targets) for name, of in curves.items()]
    n_samples = peers.labelled(tasks.load(options.data, options.samples)[0]).n_samples
    for row in rows:
        last = [points[-1] for points in curves[row["contender"]]]
        row["samples_per_second"] = spread([n_samples * point["epoch"] / point["seconds"] for point in last])
    report(rows, targets)
    for row in rows:
        print(f"{row['contender']}: {row['samples_per_second']['median']:,.0f} samples/s", flush=True)
    on_cpu = child(peers.torch_rate, options.data, options.samples, None, options.workers, 4.0)["samples_per_second"]
    print(f"{DENSE['pytorch']}, {options.workers} CPUs: {on_cpu:,.0f} samples/s", flush=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {"gpu": gpu, "workers": options.workers, "targets": targets, "dense_on_cpu_samples_per_second": on_cpu}
    name = tasks.name_of(options.data)
    write_result(f"gpu_{name}", facts | {"rows": rows, "curves": curves})
    plot = plots.times(curves, f"{name}, {options.workers} workers")
    figure(plot.draw, f"gpu_{name}", **plot.axes)


if __name__ == "__main__":
    main()
