"""What a user would pick instead: PyTorch with a dense and with a sampled softmax, on the CPU or a GPU, and omikuji.

Networks and batches are those of our defaults: sparse input, 128 hidden neurons with ReLU, batches of 256. Loss and
optimiser are what PyTorch brings: cross-entropy with the target 1/|labels| on each true label, and Adam. On a GPU
products are in TF32, and an epoch's batches lie there before the clock starts: only steps count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from shared import omikuji_peer, tasks
from shared.curves import Point, ended
from torch.nn import functional

from slide_fast.parallel.machine import MemoryMeter
from slide_ref.common.metrics import precision_at
from slide_ref.common.schedule import sample_order
from slide_ref.common.sparse_rows import Dataset

HIDDEN = 128
BATCH = 256
CPU = "cpu"
EVALUATE_AT_ONCE = 512
LEAST_GAP = 50  # steps: fewer can pass without a gain before learning has begun


class Batch:
    """Samples as tensors: a bag of features each, and one entry for each sample and label."""

    def __init__(self, data: Dataset, device: str = CPU):
        features, labels = data
        self.n = data.n_samples
        values = np.ones(features.nnz, np.float32) if features.data is None else features.data
        counts = np.diff(labels.indptr)
        arrays = (
            features.indices.astype(np.int64),
            features.indptr[:-1].copy(),
            values,
            np.repeat(np.arange(self.n), counts),
            labels.indices.astype(np.int64),
            (1 / np.repeat(counts, counts)).astype(np.float32),
        )
        tensors = (torch.from_numpy(array).to(device) for array in arrays)
        self.features, self.offsets, self.values, self.rows, self.labels, self.targets = tensors


class Network:
    """Weights, and one step of training.

    Parameters
    ----------
    n_features, n_labels : int
    rate : float
        Learning rate.
    n_negatives : int, optional
        Negatives a batch, drawn uniformly and shared by its samples, whose labels come on top. None: all labels.
    seed : int
    device : str
        Where weights and batches lie.
    """

    def __init__(
        self, n_features: int, n_labels: int, rate: float, n_negatives: int | None = None, seed: int = 0,
        device: str = CPU,
    ):  # fmt: skip
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)  # moments that die away would slow dense Adam down
        torch.set_float32_matmul_precision("high" if device != CPU else "highest")
        self.n_labels, self.n_negatives, self.device = n_labels, n_negatives, device
        self.W0 = torch.empty(n_features, HIDDEN, device=device).normal_(0, 0.1).requires_grad_()
        self.b0 = torch.zeros(HIDDEN, device=device, requires_grad=True)
        self.W1 = torch.empty(n_labels, HIDDEN, device=device).normal_(0, (3 * HIDDEN) ** -0.5).requires_grad_()
        self.b1 = torch.zeros(n_labels, 1, device=device, requires_grad=True)
        if n_negatives is None:
            self.optimizers = [torch.optim.Adam([self.W0, self.b0, self.W1, self.b1], lr=rate, fused=True)]
        else:
            self.optimizers = [torch.optim.SparseAdam([self.W0, self.W1, self.b1], lr=rate)]
            self.optimizers += [torch.optim.Adam([self.b0], lr=rate)]

    def hidden(self, batch: Batch) -> torch.Tensor:
        bags = functional.embedding_bag(
            batch.features, self.W0, batch.offsets, mode="sum", sparse=self.n_negatives is not None,
            per_sample_weights=batch.values,
        )  # fmt: skip
        return torch.relu(bags + self.b0)

    def loss(self, batch: Batch) -> torch.Tensor:
        hidden, columns = self.hidden(batch), batch.labels
        if self.n_negatives is None:
            logits = torch.addmm(self.b1[:, 0], hidden, self.W1.T)
        else:
            drawn = torch.randint(self.n_labels, (self.n_negatives,), device=self.device)
            ids, place = torch.unique(torch.cat([batch.labels, drawn]), return_inverse=True)
            columns = place[: len(batch.labels)]
            W, b = (functional.embedding(ids, array, sparse=True) for array in (self.W1, self.b1))
            logits = torch.addmm(b[:, 0], hidden, W.T)
        scores = functional.log_softmax(logits, dim=1)
        return -(scores[batch.rows, columns] * batch.targets).sum() / batch.n

    def step(self, batch: Batch) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        for optimizer in self.optimizers:
            optimizer.step()

    @torch.no_grad()
    def topk(self, data: Dataset, k: int) -> np.ndarray:
        """The k best labels of each sample."""
        best = []
        for start in range(0, data.n_samples, EVALUATE_AT_ONCE):
            rows = data.take(np.arange(start, min(start + EVALUATE_AT_ONCE, data.n_samples)))
            logits = torch.addmm(self.b1[:, 0], self.hidden(Batch(rows, self.device)), self.W1.T)
            best.append(torch.topk(logits, k, dim=1).indices.cpu().numpy())
        return np.concatenate(best)


def labelled(train: Dataset) -> Dataset:
    """The samples that have labels: only these train."""
    return train.take(np.flatnonzero(np.diff(train.labels.indptr)))


def batches(train: Dataset, epoch: int, device: str = CPU) -> Iterator[Batch]:
    """The batches of an epoch in the order in which we visit the samples: made when asked for, on a GPU all at once."""
    order = sample_order(0, epoch, train.n_samples)
    made = (Batch(train.take(order[i : i + BATCH]), device) for i in range(0, len(order), BATCH))
    return made if device == CPU else iter(list(made))


def clocks(device: str) -> np.ndarray:
    """Seconds of the wall and of the processor, once all that was asked of the device is done."""
    if device != CPU:
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


def torch_curve(
    network: Network,
    train: Dataset,
    test: Dataset,
    max_seconds: float,
    gap: float = 0.5,
    keep: Callable[[list[Point]], None] = lambda points: None,
) -> list[Point]:
    """P@1 over training, until three evaluations bring no gain.

    Parameters
    ----------
    network : Network
    train, test : Dataset
    max_seconds : float
        Of training, evaluations not counted.
    gap : float
        Epochs between evaluations, or `LEAST_GAP` steps where these are more.
    keep : callable
        Given the points so far after each.

    Returns
    -------
    list of dict
        Each with ``epoch``, ``seconds`` and ``cpu_seconds`` of training, ``precision_at_1``, ``precision_at_5``.
    """
    train = labelled(train)
    per_epoch = -(-train.n_samples // BATCH)
    gap = max(gap * per_epoch, LEAST_GAP)  # in steps
    evaluate_at, points, step, epoch = gap, [], 0, 0
    trained = np.zeros(2)  # so far: wall, processor
    while not ended(points, max_seconds):
        supply = batches(train, epoch, network.device)
        started = clocks(network.device)
        for batch in supply:
            network.step(batch)
            step += 1
            if step >= evaluate_at:
                evaluate_at += gap
                trained += clocks(network.device) - started
                best = network.topk(test, 5)
                points.append(
                    {
                        "epoch": step / per_epoch,
                        "seconds": float(trained[0]),
                        "cpu_seconds": float(trained[1]),
                        **{f"precision_at_{k}": precision_at(best, test.labels, k) for k in (1, 5)},
                    }
                )
                keep(points)
                if ended(points, max_seconds):
                    break
                started = clocks(network.device)
        else:
            trained += clocks(network.device) - started
        epoch += 1
    return points


def network_curve(
    data: str, n_samples: int | None, rate: float, n_negatives: int | None, n_threads: int, max_seconds: float,
    device: str = CPU,
) -> dict[str, Any]:  # fmt: skip
    """`torch_curve` of a network, sampled or dense."""
    torch.set_num_threads(n_threads)
    train, test = tasks.load(data, n_samples)
    sizes = train.features.n_columns, train.labels.n_columns, rate, n_negatives
    if device != CPU:
        Network(*sizes, device=device).step(next(batches(labelled(train), 0, device)))  # starts its libraries
    network = Network(*sizes, device=device)
    return {"points": torch_curve(network, train, tasks.evaluation_rows(data, test), max_seconds)}


def torch_rate(data: str, n_samples: int | None, n_negatives: int | None, n_threads: int, seconds: float) -> dict:
    """Samples a second and peak memory of a network's training, sampled or dense, over at least two steps."""
    torch.set_num_threads(n_threads)
    with MemoryMeter() as meter:
        train = labelled(tasks.load(data, n_samples)[0])
        network = Network(train.features.n_columns, train.labels.n_columns, 1e-3, n_negatives)
        supply = batches(train, 0)
        network.step(next(supply))  # makes the moments
        started, n_steps = time.perf_counter(), 0
        while n_steps < 2 or time.perf_counter() - started < seconds:
            network.step(next(supply, None) or next(supply := batches(train, 0)))
            n_steps += 1
        rate = n_steps * BATCH / (time.perf_counter() - started)
    return {
        "samples_per_second": rate,
        "seconds_per_epoch": train.n_samples / rate,
        "steps": n_steps,
        "peak_memory_bytes": meter.peak_bytes,
    }


def omikuji_curve(data: str, n_samples: int | None, n_threads: int) -> dict[str, Any]:
    """Train omikuji with its defaults; it tells no accuracy on the way, so the curve is a point."""
    train, test = tasks.load(data, n_samples)
    test = tasks.evaluation_rows(data, test)
    model, seconds = omikuji_peer.train(labelled(train), n_threads)
    ids = omikuji_peer.best(model, test.features, 1)
    return {"points": [{"seconds": seconds, "precision_at_1": precision_at(ids, test.labels, 1)}]}
