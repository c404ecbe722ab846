"""How far each phase of a training step is from what the machine could do: measured time over its floor, one core.

    python benchmarks/floor.py                       Amazon-670K shape, scope batch
    python benchmarks/floor.py --data acl_authors

Measured are in-batch steps and steps that query the tables of the default network, and those of a wide one, in-batch.

The floor of a phase is what its products take at the sgemm rate measured at their very shapes, plus what its rows take
at the measured bandwidth of gathering (and scattering) rows of that size, plus exponentials at the measured rate. Rows
that a phase must read and write are counted once: weights for the products, weights and first moments for the update.
Where the first layer works off stored values pair by pair, its floor is that of a product with as many multiplications,
or the time measured if that is less.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import figure, require_agreement, table, write_result
from threadpoolctl import threadpool_limits

from slide_fast import network, optimizers
from slide_fast.active_sets import without_tables
from slide_fast.cli.settings import PRESETS
from slide_fast.engine import learner, worker
from slide_fast.engine.layout import dataset_arrays, table_arrays
from slide_fast.engine.rebuilds import stages
from slide_fast.engine.worker import Worker, WorkerConfig
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.schedule import sample_order

PHASES = ("batch", "forward hidden", "retrieve", "gather", "output products", "softmax", "backward hidden",
          "update output rows", "update input rows", "rest")  # fmt: skip
CASES = {
    "in-batch": Config(),
    "tables": Config(in_batch=0.0),
    "wide, in-batch": Config().replace(**PRESETS["wide"]),
}
Shapes = list[tuple[int, int, int]]
ROUNDS = 3
COLD = 100  # sets of rows in turn: those of a step are not in the caches either


class Clock:
    """Time by phase: entering a phase stops the one around it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open, self._since = ["outside"], time.perf_counter()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def timed(self, function: Callable[..., Any], name_of: Callable[..., str | None]) -> Callable[..., Any]:
        """The function, timed under the name that `name_of` gives for its arguments; None: as part of its caller."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            name = name_of(*arguments, **options)
            if name is None:
                return function(*arguments, **options)
            with self.phase(name):
                return function(*arguments, **options)

        return wrapped


class _Numpy:
    """NumPy as the network sees it, with a timed product."""

    def __init__(self, matmul: Callable[..., np.ndarray]):
        self.matmul = matmul

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class Instrumented:
    """A worker whose steps are timed by phase, and the shapes of their products."""

    def __init__(self, own: Worker):
        self.worker, self.clock = own, Clock()
        layers = own.learner.layers
        self.products: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        clock, where = self.clock, {"in": "forward hidden", "products of a backward pass": 3}

        def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> str:
            name = where["in"]
            if where["in"] == "backward":
                # two of the output layer, then the first layer's, if that has one
                first = len(self.products["backward"]) % where["products of a backward pass"] < 2
                self.products["backward"].append((0, 0, 0))
                name = "output products" if first else "backward hidden"
            self.products[name].append((*a.shape, b.shape[1]))
            return name

        def begin(name: str) -> Callable[..., str]:
            def named(*_: Any) -> str:
                where["in"] = name
                return name if name != "backward" else "softmax"

            return named

        def pair_by_pair(*_: Any) -> str:
            where["products of a backward pass"] = 2
            return "forward hidden"

        def updated(w: np.ndarray, *_: Any) -> str | None:
            return "update input rows" if w is layers[0].W else (
                "update output rows" if w is layers[-1].W else None
            )  # fmt: skip

        def chosen(*_: Any) -> str:
            where["in"] = "output products"
            return "retrieve"

        self.patches = {
            (own.learner, "choose_active"): clock.timed(own.learner.choose_active, chosen),
            (worker, "micro_batch"): clock.timed(worker.micro_batch, lambda *_: "batch"),
            (learner, "forward"): clock.timed(learner.forward, begin("forward hidden")),
            (learner, "backward"): clock.timed(learner.backward, begin("backward")),
            (learner, "update"): clock.timed(learner.update, lambda *_: "update output rows"),
            (network, "sparse_product"): clock.timed(network.sparse_product, pair_by_pair),
            (network, "sparse_gradient"): clock.timed(network.sparse_gradient, lambda *_: "backward hidden"),
            (network, "gather"): clock.timed(network.gather, lambda *_: "gather"),
            (network, "np"): _Numpy(clock.timed(np.matmul, product)),
            (optimizers, "adam_rows"): clock.timed(optimizers.adam_rows, updated),
            (optimizers, "adam_multiples"): clock.timed(optimizers.adam_multiples, updated),
        }

    def run(self, n_steps: int, first: int) -> None:
        """Take steps with everything patched."""
        before = {place: getattr(*place) for place in self.patches}
        try:
            for (module, name), replacement in self.patches.items():
                setattr(module, name, replacement)
            with self.clock.phase("rest"):
                self.worker.train(0, first, n_steps)
        finally:
            for (module, name), original in before.items():
                setattr(module, name, original)


def worker_of(data: str, config: Config) -> Worker:
    """A worker in this process, with tables built once."""
    train, _ = tasks.load(data)
    n_features, n_labels = train.features.n_columns, train.labels.n_columns
    arrays = {name: np.zeros(shape, np.float32) for name, shape in array_shapes(config, n_features, n_labels).items()}
    initialise(layers_of(arrays), config.seed)
    arrays |= dataset_arrays("train", train)
    arrays["train_order"] = sample_order(config.seed, 0, train.n_samples).astype(np.int32)
    arrays |= {name: np.zeros(*entry) for name, entry in table_arrays(config, n_labels).items()}
    for array in arrays.values():
        array += 0  # touches the pages: a run's memory is there before it starts
    own = Worker(WorkerConfig(config, n_features, n_labels), arrays)
    for stage in stages(own.learner.parts.values(), 0):
        for task in stage:
            own.run(task)
    return own


def best_time(function: Callable[[], object], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


class Rates:
    """What the machine does, measured on arrays of the sizes in question."""

    def __init__(self, W: np.ndarray, n_rows: int):
        generator = np.random.default_rng(0)
        n_rows = min(n_rows, len(W))
        choices = itertools.cycle([np.sort(generator.choice(len(W), n_rows, replace=False)) for _ in range(COLD)])
        out = np.empty((n_rows, W.shape[1]), W.dtype)
        self.gather = out.nbytes / best_time(lambda: W.take(next(choices), axis=0, out=out, mode="clip"))

        def scatter() -> None:
            W[next(choices)] = out

        self.scatter = out.nbytes / best_time(scatter)
        values = generator.standard_normal((256, 4096), dtype=np.float32)
        exponentials = np.empty_like(values)
        self.exp = values.size / best_time(lambda: np.exp(values, out=exponentials))

    @staticmethod
    def product(shape: tuple[int, int, int]) -> float:
        """Least seconds of a product of this shape."""
        m, k, n = shape
        a, b, out = (np.ones(sizes, np.float32) for sizes in ((m, k), (k, n), (m, n)))
        return best_time(lambda: np.matmul(a, b, out=out), 5)


def floors(step: dict[str, Any], rates: Rates) -> dict[str, float]:
    """Seconds of each phase of a step at the machine's rates."""
    row, moved = 4 * step["hidden"], 1 / rates.gather + 1 / rates.scatter
    floor = {name: sum(rates.product(shape) for shape in shapes) for name, shapes in step["products"].items()}
    if "forward hidden" not in floor:  # pair by pair: as many multiplications at the rate of a product
        n, features, pairs = step["samples"], step["features"], step["nonzeros"]
        floor["forward hidden"] = rates.product((n, pairs // n, step["hidden"]))
        floor["backward hidden"] = rates.product((features, max(1, pairs // features), step["hidden"]))
    floor["forward hidden"] += row * step["features"] / rates.gather
    floor["gather"] = row * step["active"] / rates.gather
    floor["softmax"] = step["samples"] * step["active"] / rates.exp
    floor["retrieve"] = 4 * step["retrieved"] / rates.gather + step["hash_seconds"]
    floor["update output rows"] = step["arrays"] * row * step["active"] * moved
    floor["update input rows"] = step["arrays"] * row * step["features"] * moved
    floor["batch"] = 12 * step["nonzeros"] / rates.gather
    return floor


def sizes_of(own: Worker, products: dict[str, Shapes], n_steps: int, first: int) -> dict[str, Any]:
    """Sizes of the mean step, from the middle one."""
    config, output = own.config, own.learner.layers[-1]
    batch = worker.micro_batch(config, own.train_data, own.arrays["train_order"], 0, first + n_steps // 2)
    n, hidden = len(batch.samples), config.hidden[-1]
    lsh = without_tables(config.lsh) if batch.in_batch else config.lsh
    is_learned = lsh.family == "centroid"
    retrieved = (lsh.budget or lsh.L * lsh.bucket_size) if lsh.L else 0
    middle = {name: _middle(shapes, n_steps) for name, shapes in products.items() if name != "backward"}
    active = next(k for m, h, k in middle["output products"] if h == hidden)
    return {
        "samples": n,
        "hidden": hidden,
        "arrays": 1 + (output.W_m is not None),  # that an update goes over
        "labels": len(output.b),
        "features": len(np.unique(batch.data.features.indices)),
        "nonzeros": batch.data.features.nnz,
        "active": active,
        "retrieved": min(retrieved * n, 64 * active),
        "hash_seconds": Rates.product((n, hidden, lsh.n_centroids if is_learned else lsh.L * lsh.K)) if lsh.L else 0.0,
        "products": middle,
    }


def _middle(shapes: Shapes, n_steps: int) -> Shapes:
    """The products of the middle step."""
    each = len(shapes) // n_steps
    return shapes[each * (n_steps // 2) : each * (n_steps // 2) + each]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--steps", type=int, default=20, help="timed steps a round; half of them to warm up")
    options = parser.parse_args()
    require_agreement()
    with threadpool_limits(1):
        figures = {case: measure(worker_of(options.data, config), options.steps) for case, config in CASES.items()}
    for case, own in figures.items():
        report(case, own)
    name = f"floor_{tasks.name_of(options.data)}"
    write_result(name, figures)
    rows = figures["tables"]["rows"]
    figure(partial(draw, rows), name, xlabel="milliseconds a step", title=f"{tasks.name_of(options.data)}, tables")


def measure(own: Worker, n_steps: int) -> dict[str, Any]:
    """Steps with and without the clocks in turn; milliseconds of each phase, and of the step without them."""
    first = 1 + n_steps // 2
    own.train(0, 1, n_steps // 2)
    measured, plain = Instrumented(own), 0.0
    for _ in range(ROUNDS):
        measured.run(n_steps, first)
        plain += 1e3 * own.train(0, first + n_steps, n_steps).seconds / (ROUNDS * n_steps)
        first += 2 * n_steps
    step = sizes_of(own, measured.products, ROUNDS * n_steps, 1)
    floor = {phase: 1e3 * s for phase, s in floors(step, Rates(own.learner.layers[-1].W, step["active"])).items()}
    took = {phase: 1e3 * measured.clock.seconds[phase] / (ROUNDS * n_steps) for phase in PHASES}
    if "forward hidden" not in measured.products:  # pair by pair: what was done in less than a product is no floor
        floor |= {phase: min(floor[phase], took[phase]) for phase in ("forward hidden", "backward hidden")}
    rows = [{"phase": phase, "milliseconds": took[phase], "floor": floor.get(phase)} for phase in PHASES]
    total = sum(floor.values())
    rows.append({"phase": "step", "milliseconds": plain, "floor": total})
    return {"rows": rows, "step_over_floor": plain / total, "sizes": step}


def report(case: str, figures: dict[str, Any]) -> None:
    cells = [[case, "ms a step", "floor ms", "over floor"]]
    for row in figures["rows"]:
        took, floor = row["milliseconds"], row["floor"]
        least, ratio = ("", "") if not floor else (f"{floor:.2f}", f"{took / floor:.2f}")
        cells.append([row["phase"], f"{took:.2f}", least, ratio])
    table(cells)
    print("{samples} samples a step, {active:,} active, {features:,} features".format(**figures["sizes"]))


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    names = [row["phase"] for row in rows]
    plot.barh(names, [row["milliseconds"] for row in rows], label="measured")
    plot.barh(names, [row["floor"] or 0 for row in rows], height=0.4, label="floor")
    plot.invert_yaxis()


if __name__ == "__main__":
    main()
