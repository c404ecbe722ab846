"""Steps, epochs and whole runs: in lockstep, stage by stage, and each side on its own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import configs, datasets, random_dataset, real_arrays, some_weights

import slide_fast.training as fast
import slide_fast.verify.lockstep as verify
import slide_ref.prediction
import slide_ref.training as ref
from slide_fast.engine.checkpoints import PastRuns, TrainingState
from slide_fast.engine.layout import dataset_arrays, table_arrays
from slide_fast.engine.learner import Learner
from slide_fast.engine.local_engine import LocalEngine
from slide_fast.engine.rebuilds import stages
from slide_fast.engine.tasks import PredictRows, TrainRange
from slide_fast.engine.worker import Worker, WorkerConfig
from slide_fast.hashing.centroid import fill_buckets, listed_by_groups
from slide_fast.kernels import sparse_products
from slide_fast.parallel.pool import Pool
from slide_ref.common import lsh_config
from slide_ref.common.config import OPTIMIZERS, SCOPES, Config
from slide_ref.common.lsh_config import FAMILIES, POLICIES, STRATEGIES, LshConfig
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.priors import label_priors
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.schedule import sample_order, steps_per_epoch
from slide_ref.common.sparse_rows import Dataset, rows_from_lists

LSH = {
    "padded": {"K": 4, "L": 3, "bucket_size": 4, "budget": 5, "min_active": 10},
    "unlimited": {"K": 4, "L": 3, "budget": 0, "min_active": 0},
    "sampled softmax": {"L": 0, "min_active": 7},
    "dense": {"min_active": 100},
    "all but one": {"K": 2, "L": 1, "bucket_size": 1, "budget": 1, "min_active": 59},
    "folded": {"K": 20, "L": 5, "bucket_bits": 3, "budget": 7, "min_active": 3},
    "most frequent": {"K": 2, "L": 5, "bucket_size": 9, "policy": "reservoir", "strategy": "topk", "budget": 6}
    | {"min_active": 8},
    "nearest centroid": {"family": "centroid", "K": 3, "L": 1, "bucket_size": 9, "strategy": "hardest", "budget": 4}
    | {"min_active": 10},
    "three nearest centroids": {"family": "centroid", "K": 3, "L": 3, "bucket_size": 9, "strategy": "hardest"}
    | {"budget": 5, "min_active": 0},
    "frequent": {"K": 2, "L": 5, "bucket_size": 9, "policy": "reservoir", "strategy": "threshold", "min_active": 8},
}
FEW = {"K": 3, "L": 2, "bucket_size": 3, "budget": 4}
DEPTHS = {
    "one hidden layer": {},
    "two, dense": {"hidden": (8, 12)},
    "two, the second sampled": {"hidden": (8, 12), "hidden_lsh": {1: FEW}},
    "many samples without hidden neurons": {"hidden": (8, 12), "hidden_lsh": {1: {"K": 8, "L": 1}}},
    "no hidden neurons at all": {"hidden": (8, 12), "hidden_lsh": {1: {"L": 0}}},
    "three, the last sampled": {"hidden": (8, 6, 12), "hidden_lsh": {2: FEW | {"min_active": 5}}},
    "three, the second sampled": {"hidden": (8, 12, 6), "hidden_lsh": {1: FEW}},
    "three, two sampled": {"hidden": (8, 12, 10), "hidden_lsh": {1: FEW, 2: {"K": 2, "L": 1, "min_active": 2}}},
}
MANY = 2000  # samples
KINDS = [
    (family, policy, strategy)
    for family in FAMILIES
    for policy in POLICIES
    for strategy in STRATEGIES
    if (policy == "fifo" if family == "centroid" else strategy != "hardest")
]
RATES = {"learning_rate": 0.02, "warmup_steps": 3, "decay": "cosine"}


def settings_of(lsh, **changes):
    usual = {"hidden": (8,), "micro_batch": 7, "epochs": 2, "rebuild_gap": 4, "learning_rate": 0.02, "in_batch": 0.2}
    return Config.from_dict({**usual, "lsh": {"family": "simhash"} | LSH[lsh], **changes})


def train_in_lockstep(config, train, n_steps=None, weights=None):
    lockstep = verify.new_lockstep(config, train)
    lockstep.rebuild(0)
    per_epoch = steps_per_epoch(train.n_samples, config.micro_batch)
    for step in range(1, (n_steps or per_epoch * config.epochs) + 1):
        epoch = (step - 1) // per_epoch
        order = sample_order(config.seed, epoch, train.n_samples)
        lockstep.step(ref.micro_batch(config, train, order, epoch, step, weights))
        if step % config.rebuild_gap == 0:
            lockstep.rebuild(step // config.rebuild_gap)
    return lockstep.report


@settings(max_examples=25)
@given(st.data())
def test_lockstep_on_any_small_problem(data):
    train = data.draw(datasets(real_arrays))
    weights = some_weights(train.n_samples) if data.draw(st.booleans()) else None
    train_in_lockstep(data.draw(configs(train.labels.n_columns)), train, n_steps=5, weights=weights)


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("lsh", LSH)
def test_lockstep_over_two_epochs(lsh, scope):
    report = train_in_lockstep(settings_of(lsh, scope=scope), random_dataset(0))
    assert {"loss", "W of layer 0", "b_v of layer 1", "touched rows of layer 1"} <= set(report.compared)
    assert lsh == "dense" or report.compared["active sets"] > 0


@pytest.mark.parametrize("lsh", LSH)
def test_s10_lockstep_with_weights(lsh):
    train = random_dataset(0)
    train_in_lockstep(settings_of(lsh), train, weights=some_weights(train.n_samples))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("lsh", ["padded", "dense", "unlimited"])
@pytest.mark.parametrize("depth", [
    pytest.param(name, marks=pytest.mark.slow if "three" in name and "two" not in name else []) for name in DEPTHS
])  # fmt: skip
def test_s25_lockstep_with_sampled_hidden_layers(depth, lsh, scope):
    report = train_in_lockstep(settings_of(lsh, scope=scope, **DEPTHS[depth]), random_dataset(0), n_steps=9)
    hidden_tables = DEPTHS[depth].get("hidden_lsh", ())
    assert ("active sets" in report.compared) == (lsh != "dense" or len(hidden_tables) > 0)
    for l in hidden_tables if scope == "sample" else ():
        assert f"inactive neurons of layer {l}" in report.compared


@pytest.mark.parametrize("shards", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 60))])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("lsh", LSH)
def test_s31_lockstep_with_shards(lsh, scope, shards):
    depth = DEPTHS["two, the second sampled"]
    config, n_steps = settings_of(lsh, scope=scope, shards=shards, **depth), 3 if shards == 60 else 9
    report = train_in_lockstep(config, random_dataset(0), n_steps=n_steps)
    assert report.compared["active sets"] > 0


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_s12_first_moments_are_there_where_beta1_is_above_0(beta1):
    report = train_in_lockstep(settings_of("padded", beta1=beta1), random_dataset(0))
    assert ("W_m of layer 1" in report.compared) == (beta1 > 0) and "W_v of layer 1" in report.compared


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_s26_s27_lockstep_of_sgd_with_schedules(decay, momentum):
    settings = DEPTHS["two, the second sampled"] | {"optimizer": "sgd", "momentum": momentum, "warmup_steps": 3}
    report = train_in_lockstep(settings_of("padded", decay=decay, scope="sample", **settings), random_dataset(0))
    assert ("W_m of layer 1" in report.compared) == (momentum > 0) and "W_v of layer 1" not in report.compared


@pytest.mark.parametrize("depth", [
    "one hidden layer", pytest.param("two, the second sampled", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize(("scope", "optimizer"), [
    pytest.param(scope, optimizer, marks=[] if optimizer == "adam" else pytest.mark.slow)
    for scope in SCOPES for optimizer in OPTIMIZERS
])  # fmt: skip
@pytest.mark.parametrize("family, policy, strategy", KINDS)
def test_lockstep_over_the_whole_product(family, policy, strategy, scope, optimizer, depth):
    kinds = {"family": family, "policy": policy, "strategy": strategy}
    settings = DEPTHS[depth] | {"scope": scope, "optimizer": optimizer, "momentum": 0.5 * (optimizer == "sgd")}
    settings["hidden_lsh"] = {l: tables | kinds for l, tables in settings.get("hidden_lsh", {}).items()}
    config = settings_of("padded", **settings | RATES).replace(lsh=LSH["padded"] | kinds)
    train_in_lockstep(config, random_dataset(0), n_steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("lsh", LSH)
@pytest.mark.parametrize("hidden", [(1,), (32,), (16, 8)])
@pytest.mark.parametrize("micro_batch", [1, 16, 500])
def test_lockstep_over_many_epochs(lsh, scope, hidden, micro_batch):
    config = settings_of(lsh, scope=scope, hidden=hidden, micro_batch=micro_batch, seed=3)
    train = random_dataset(1, n_samples=150, n_features=80, n_labels=60)
    train_in_lockstep(config, train, n_steps=40 if micro_batch == 1 else None)


def new_worker(config, train, test=None, weights=None):
    """A worker in this process with arrays of its own, and tables built by its own tasks."""
    n_features, n_labels = train.features.n_columns, train.labels.n_columns
    layout = {name: (shape, np.float32) for name, shape in array_shapes(config, n_features, n_labels).items()}
    layout |= table_arrays(config, n_labels)
    arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}
    initialise(layers_of(arrays), config)
    arrays |= dataset_arrays("train", train) | {"train_order": sample_order(config.seed, 0, train.n_samples)}
    if weights is not None:
        arrays["train_weights"] = weights
    if test is not None:
        arrays |= dataset_arrays("test", test)
        arrays["test_order"] = permutation(config.seed, Purpose.EVALUATION, n=test.n_samples).astype(np.int32)
    worker = Worker(WorkerConfig(config, n_features, n_labels), arrays)
    rebuild(worker, 0)
    return worker


def rebuild(worker, number):
    """All tasks of a rebuild, the neurons in two parts."""
    for stage in stages(worker.learner.parts.values(), number):
        for task in reversed(stage):
            for part in halves(task):
                worker.run(part)


def halves(task):
    """A task on a range as two, the second first."""
    if not hasattr(task, "last"):
        return [task]
    middle = (task.first + task.last) // 2
    return [dataclasses.replace(task, first=middle), dataclasses.replace(task, last=middle)]


def parameters_of(layers):
    arrays = {f"{name}{l}": array for l, layer in enumerate(layers) for name, array in vars(layer).items()}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("lsh", LSH)
@pytest.mark.parametrize("depth", [
    pytest.param(name, marks=pytest.mark.slow if "three" in name else []) for name in DEPTHS
])  # fmt: skip
def test_free_running_worker_has_the_losses_of_the_reference(depth, lsh, scope):
    """No projection comes near 0 on these data, so all active sets are equal to the end.

    Hardly any of so many samples is drawn twice for the centroids: of copies, whose hidden outputs a product rounds by
    their place, rounding would say which is nearer.
    """
    train = random_dataset(4, n_samples=MANY, min_features=1)
    check_free_running_worker(settings_of(lsh, scope=scope, **DEPTHS[depth]), train)


@pytest.mark.parametrize("settings", [{}, {"beta1": 0.9}, {"optimizer": "sgd", "momentum": 0.5}, {"weight_decay": 3.0}])
def test_s11_free_running_worker_has_the_losses_of_the_reference_on_sparse_samples(monkeypatch, settings):
    """Features of one sample, of a few and of many are updated by what the backward pass leaves in the buffers."""
    monkeypatch.setattr(sparse_products, "DENSITY", 2)
    train = random_dataset(4, n_samples=MANY, n_features=300, min_features=1)
    check_free_running_worker(settings_of("padded", **settings), train)


def check_free_running_worker(config, train):
    ref32, ref64 = networks_of(config, train)
    worker = new_worker(config, train)
    ours, choose = {}, worker.learner.choose_active

    def choose_and_note(l, inputs, batch):
        active = choose(l, inputs, batch)
        if active is not None:
            ours[l] = [ids.tolist() for ids in verify.one_by_one(active, len(inputs))]
        return active

    worker.learner.choose_active = choose_and_note
    ref.rebuild(ref32, 0, train.features)
    losses = []
    for step in range(1, 7):
        batch = ref.micro_batch(config, train, worker.arrays["train_order"], 0, step)
        report = worker.run(TrainRange(0, step, 1))
        theirs = ref.train_step(ref32, batch)
        exact = ref.train_step(ref64, batch, theirs.active, theirs.inclusion)
        assert ours == {l: [ids.tolist() for ids in theirs.active[l]] for l in worker.learner.tables}
        assert report.n_labelled == theirs.n_labelled and report.n_samples == theirs.n_labelled + batch.n_unlabelled
        assert report.active == sum(len(ids) for ids in theirs.active[len(config.hidden)])
        losses.append((report.loss / report.n_labelled, theirs.loss, exact.loss))
        if step % config.rebuild_gap == 0:
            rebuild(worker, step // config.rebuild_gap)
            ref.rebuild(ref32, step // config.rebuild_gap, train.features)
    check_losses(*np.array(losses).T)


def test_s10_free_running_worker_with_weights_has_the_losses_of_the_reference():
    config, train = settings_of("dense"), random_dataset(2, min_features=1)
    weights = some_weights(train.n_samples)
    ref32, ref64 = networks_of(config, train)
    worker = new_worker(config, train, weights=weights)
    losses = []
    for step in range(1, 7):
        batch = ref.micro_batch(config, train, worker.arrays["train_order"], 0, step, weights)
        report = worker.run(TrainRange(0, step, 1))
        theirs, exact = (ref.train_step(network, batch) for network in (ref32, ref64))
        assert report.n_labelled == theirs.n_labelled == len(batch.samples)
        if report.n_labelled:
            losses.append((report.loss / report.n_labelled, theirs.loss, exact.loss))
    assert len(losses) >= 4
    check_losses(*np.array(losses).T)


def networks_of(config, train):
    """The reference in float32 and float64, to be trained on these samples."""
    networks = [ref.new_network(config, *shape_of(train), dtype) for dtype in (np.float32, np.float64)]
    for network in networks:
        network.priors = label_priors(train.labels) if config.correction else None
    return networks


def shape_of(train):
    return train.features.n_columns, train.labels.n_columns


@pytest.mark.parametrize("lsh", LSH)
@pytest.mark.parametrize("shards", [1, 7])
@pytest.mark.parametrize("depth", ["one hidden layer", "three, two sampled"])
def test_s14_s31_tasks_of_a_rebuild_make_the_tables_of_the_reference(depth, lsh, shards):
    config, train = settings_of(lsh, shards=shards, **DEPTHS[depth]), random_dataset(3, n_samples=MANY, min_features=1)
    worker, network = new_worker(config, train), ref.new_network(config, *shape_of(train))
    for number in (0, 1, 2):
        rebuild(worker, number)
        ref.rebuild(network, number, train.features)
        assert worker.learner.tables.keys() == network.tables.keys()
        for l, tables in worker.learner.tables.items():
            verify.check_buckets(verify.Report(), tables, network.tables[l])


@pytest.mark.parametrize("shards", [1, 2])
def test_s35_tasks_of_a_rebuild_fill_the_buckets_of_all_groups(monkeypatch, shards):
    monkeypatch.setattr(lsh_config, "LISTED", 7)
    lsh = {"family": "centroid", "K": 7, "L": 1, "bucket_size": 1, "strategy": "hardest", "min_active": 8}
    worker = new_worker(Config(hidden=(8,), shards=shards, lsh=LshConfig(**lsh)), random_dataset(3))
    rebuild(worker, 0)
    for word, part in worker.learner.parts.items():
        W, b = worker.learner.neurons_of(part)
        assert part.lsh.listed(len(b)) == 7 < len(b)
        expected = np.full((128, 1), -1, dtype=np.int32)
        centroids = worker.arrays[f"centroids{part.name}"]
        fill_buckets(expected, centroids, W, b, listed_by_groups(centroids, W, b, 7, slice(None)), slice(None))
        assert np.array_equal(worker.learner.tables[word].ids, expected)


def check_losses(ours, theirs, exact):
    """Losses of both sides and of the reference in float64, each trained on its own."""
    ours, theirs, exact = (np.array(losses) for losses in (ours, theirs, exact))
    verify.check_floats(verify.Report(), "losses", ours, theirs, exact, size=1 + exact)


def test_s10_micro_batch_without_labelled_rows_uses_up_its_step_and_changes_nothing():
    config = settings_of("padded", micro_batch=2, in_batch=0.0)
    features = random_dataset(4, n_samples=6, min_features=1).features
    train = Dataset(features, rows_from_lists([[1, 2], [], [], [], [11], []], 12))
    worker, order, losses = new_worker(config, train), np.arange(6), []
    worker.arrays["train_order"] = order
    networks = networks_of(config, train)
    for network in networks:
        ref.rebuild(network, 0, train.features)
    for step in (1, 2, 3, 4):
        before = {name: array.copy() for name, array in parameters_of(worker.learner.layers).items()}
        batch = ref.micro_batch(config, train, order, 0, step)
        theirs = [ref.train_step(network, batch) for network in networks]
        report = worker.run(TrainRange(0, step, 1))
        after = parameters_of(worker.learner.layers)
        changed = [name for name, array in after.items() if (array != before[name]).any()]
        assert changed == ([] if step == 2 else list(before))
        assert report.n_samples == 2 and report.n_labelled == theirs[0].n_labelled == (0 if step == 2 else 1)
        if step != 2:
            losses.append((report.loss, *(side.loss for side in theirs)))
    check_losses(*np.array(losses).T)


def test_s18_a_range_of_steps_is_its_steps_one_by_one():
    config, train = settings_of("padded"), random_dataset(5)
    whole, single = new_worker(config, train), new_worker(config, train)
    report = whole.run(TrainRange(0, 1, 6))
    reports = [single.run(TrainRange(0, step, 1)) for step in range(1, 7)]
    for name, array in parameters_of(whole.learner.layers).items():
        assert np.array_equal(array, parameters_of(single.learner.layers)[name])
    for field in ("n_samples", "n_labelled", "loss", "active"):
        assert getattr(report, field) == pytest.approx(sum(getattr(one, field) for one in reports))
    assert report.n_samples == train.n_samples


def test_s15_worker_predicts_what_the_reference_predicts():
    config, train, test = settings_of("padded"), random_dataset(6), random_dataset(7)
    worker = new_worker(config, train, test)
    worker.run(TrainRange(0, 1, 6))
    order = worker.arrays["test_order"]
    expected, _ = slide_ref.prediction.predict_topk(worker.learner.layers, test.features.take(order[3:20]), 5)
    assert np.array_equal(worker.run(PredictRows(3, 20)), expected)


def journal_of_the_fast_path(monkeypatch, config, train, **options):
    journal = []
    step, build, order = Learner.train_step, LocalEngine.rebuild, Learner.order_insertion

    def train_step(self, batch):
        journal.append((batch.epoch, batch.step, batch.rate, batch.samples.tolist()))
        return step(self, batch)

    def rebuild_tables(self, words, number):
        journal.append(("rebuild", number))
        build(self, words, number)

    monkeypatch.setattr(Learner, "train_step", train_step)

    def order_insertion(self, word, number):
        assert journal[-1] == ("rebuild", number)
        order(self, word, number)

    monkeypatch.setattr(LocalEngine, "rebuild", rebuild_tables)
    monkeypatch.setattr(Learner, "order_insertion", order_insertion)
    events = []
    fast.fit(config, train, n_workers=1, callback=events.append, **options)
    return journal, events


def journal_of_the_reference(monkeypatch, config, train, dtype=np.float32, **options):
    journal = []
    step, rebuild = ref.train_step, ref.rebuild

    def train_step(network, batch):
        journal.append((batch.epoch, batch.step, batch.rate, batch.samples.tolist()))
        return step(network, batch)

    def logged_rebuild(network, number, features):
        journal.append(("rebuild", number))
        rebuild(network, number, features)

    with monkeypatch.context() as patch:
        patch.setattr(ref, "train_step", train_step)
        patch.setattr(ref, "rebuild", logged_rebuild)
        _, losses = ref.fit(config, train, dtype, **options)
    return journal, losses


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize(
    ("lsh", "settings"),
    [
        ("padded", {"rebuild_growth": 0.0}),
        ("padded", {"input_scale": 0.5}),
        ("folded", {"rebuild_growth": 0.3, **RATES}),
        ("sampled softmax", {"rebuild_growth": 0.1, "optimizer": "sgd", "decay": "linear"}),
        ("padded", DEPTHS["three, two sampled"]),
        ("padded", {"shards": 6}),
        ("nearest centroid", {"in_batch": 0.5}),
        ("padded", {"in_batch": 0.6, "overfit_limit": 0.0}),
        ("three nearest centroids", {"in_batch": 0.6, "overfit_limit": 0.0, "shards": 3}),
        ("padded", {"initial_weights": "mirrored", "input_scale": 0.5}),
    ],
)
def test_whole_runs_take_the_same_steps_and_have_the_same_losses(monkeypatch, lsh, settings, scope):
    n_samples = MANY if "centroid" in lsh else 40  # of few, some would be drawn twice
    config = settings_of(lsh, scope=scope, micro_batch=n_samples // 6, **settings, epochs=3)
    train = random_dataset(8, n_samples=n_samples, min_features=1)
    expected, losses = journal_of_the_reference(monkeypatch, config, train)
    _, losses64 = journal_of_the_reference(monkeypatch, config, train, np.float64)
    journal, events = journal_of_the_fast_path(monkeypatch, config, train)
    assert journal == expected
    epochs = [event for event in events if event["kind"] == "epoch"]
    assert len(epochs) == len(losses) == 3
    check_losses([event["loss"] for event in epochs], losses, losses64)
    assert epochs[-1]["rebuilds"] == sum(entry[0] == "rebuild" for entry in journal)


def test_s13_the_default_number_of_epochs_is_that_of_few_samples(monkeypatch):
    config, train = settings_of("padded", epochs=0), random_dataset(8, min_features=1)
    expected, losses = journal_of_the_reference(monkeypatch, config, train)
    journal, _ = journal_of_the_fast_path(monkeypatch, config, train)
    assert journal == expected and len(losses) == 10


@pytest.mark.parametrize("lsh", ["padded", "sampled softmax"])
def test_s13_further_training_takes_the_same_steps_and_has_the_same_losses(monkeypatch, lsh):
    config, train = settings_of(lsh, rebuild_growth=0.3), random_dataset(8, min_features=1)
    options = {"weights": some_weights(train.n_samples)}
    counts, losses = (10, 2, 3), {}
    again = config.replace(weight_decay=2.0, lsh={"budget": 2})  # not as it was before
    network, _ = ref.fit(config, train, **options)
    sides = {
        dtype: dataclasses.replace(network, layers=verify.as_dtype(network.layers, dtype))
        for dtype in (np.float32, np.float64)
    }
    arrays = {name: array.copy() for name, array in parameters_of(network.layers).items()}
    for dtype, side in sides.items():
        earlier = ref.Earlier(side, *counts)
        expected, losses[dtype] = journal_of_the_reference(monkeypatch, again, train, dtype, earlier=earlier, **options)
    state = TrainingState(config, *shape_of(train), arrays, PastRuns(*counts))
    journal, events = journal_of_the_fast_path(monkeypatch, again, train, state=state, **options)
    assert journal == expected and ("rebuild", 3) in journal and max(entry[1] for entry in journal) == 10 + 12
    epochs = [event["loss"] for event in events if event["kind"] == "epoch"]
    check_losses(epochs, losses[np.float32], losses[np.float64])


def most_under_way(monkeypatch, config, train, **options):
    """Of a run of five workers: how many ranges of steps at most were under way, by hundreds of steps begun before."""
    run, most = Pool.run, {}

    def watched(pool, tasks, *rest):
        def drawn():
            for task in tasks:
                if isinstance(task, TrainRange):
                    hundreds = (task.first_step - 1) // 100
                    most[hundreds] = max(most.get(hundreds, 0), len(pool._busy()) + 1)
                yield task

        return run(pool, drawn(), *rest)

    monkeypatch.setattr(Pool, "run", watched)
    fast.fit(config, train, n_workers=5, **options)
    return most


def test_s33_workers_join_as_steps_are_done(monkeypatch):
    config, train = settings_of("padded", micro_batch=1, epochs=5), random_dataset(9, n_samples=100)
    assert most_under_way(monkeypatch, config, train) == {0: 2, 1: 3, 2: 4, 3: 5, 4: 5}


def test_s33_no_more_workers_are_started_than_come_to_train(monkeypatch):
    monkeypatch.setattr(fast, "available_cpus", lambda: 64)
    assert [fast.default_workers(Config(), n) for n in (100, 92_499, 2_266_259)] == [1, 20, 64]
    # a step of a wide network takes longer, so fewer samples are enough
    widths = (4,), (128,), (1024,), (128, 1024)
    assert [fast.default_workers(Config(hidden=hidden, epochs=6), 4_880) for hidden in widths] == [1, 1, 3, 3]


def test_s33_steps_of_earlier_runs_count(monkeypatch):
    config, train = settings_of("padded", micro_batch=1, epochs=2), random_dataset(9, n_samples=100)
    arrays = fast.fit(config.replace(epochs=1), train, n_workers=1).arrays
    state = TrainingState(config, *shape_of(train), arrays, PastRuns(130, 2, 3))
    assert most_under_way(monkeypatch, config, train, state=state) == {0: 4, 1: 5}


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_s18_one_worker_twice_gives_the_same_bytes(scope):
    config, train = settings_of("padded", scope=scope), random_dataset(9)
    first, second = (fast.fit(config, train, n_workers=1).arrays for _ in range(2))
    assert first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)
    other = fast.fit(config.replace(seed=1), train, n_workers=1).arrays
    assert first["W0"].tobytes() != other["W0"].tobytes()


@pytest.mark.parametrize("lsh", ["padded", "nearest centroid"])
def test_s37_a_run_that_learns_by_heart_queries_no_tables_of_the_output(lsh):
    """It is, to the bit, the run without tables; and the limit decides."""
    train = random_dataset(8, min_features=1)
    usual = settings_of(lsh, in_batch=0.5, epochs=4, learning_rate=0.1, overfit_limit=0.0)
    without = usual.replace(lsh={"L": 0})
    for side in (fit_reference, fit_fast):
        by_heart, uniform, queried = (
            side(config, train) for config in (usual, without, usual.replace(overfit_limit=1.0))
        )
        assert all(np.array_equal(*pair) for pair in zip(by_heart, uniform, strict=True))
        assert not all(np.array_equal(*pair) for pair in zip(by_heart, queried, strict=True))


def fit_reference(config, train):
    return [array for layer in ref.fit(config, train)[0].layers for array in (layer.W, layer.b)]


def fit_fast(config, train):
    return [np.asarray(array) for array in fast.fit(config, train, n_workers=1).arrays.values()]
