"""What tells which network is better: a metric on held-out samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import datasets, layers, random_dataset, real_arrays

import slide_ref.network as ref
from slide_fast.engine import held_out_loss as module
from slide_fast.engine.checkpoints import Checkpoints
from slide_fast.engine.held_out_loss import loss_over_all_labels
from slide_fast.kernels.scratch import Scratch
from slide_fast.prediction import predict_topk
from slide_fast.training import fit
from slide_ref.common.config import EVAL_METRICS, Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.metrics import evaluate, inverse_propensity
from slide_ref.common.parameters import layers_of
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.sparse_rows import Dataset

CONFIG = Config(hidden=(8,), epochs=12, micro_batch=8, learning_rate=0.3, decay="constant")
TRAIN = random_dataset(0, n_samples=60)
TEST = TRAIN.take(np.arange(30))


def run(metric, **options):
    events = []
    model = fit(CONFIG, TRAIN, test=TEST, n_workers=1, eval_metric=metric, callback=events.append, **options)
    return model, [event for event in events if event["kind"] == "evaluation"]


def score(event, metric):
    return -event["held_out_loss"] if metric == "loss" else event[metric]


@pytest.mark.parametrize("metric", ["precision_at_1", "ndcg_at_5", "psp_at_3", "loss"])
def test_the_best_network_by_the_metric_is_kept(metric):
    _, (*on_the_way, last) = run(metric, patience=99)
    scores = [score(event, metric) for event in on_the_way]
    assert score(last, metric) == max(scores) and len(set(scores)) > 2


@pytest.mark.parametrize("metric", ["ndcg_at_5", "loss"])
def test_patience_counts_evaluations_that_found_no_better_network(metric):
    _, events = run(metric, patience=2)
    scores = [score(event, metric) for event in events[:-1]]
    best = int(np.argmax(scores))
    assert len(scores) == best + 3 < 12 and scores[best] > max(scores[best + 1 :])


def test_psp_is_measured_by_the_counts_of_the_training_labels():
    model, events = run("psp_at_1")
    counts = np.bincount(TRAIN.labels.indices, minlength=TRAIN.labels.n_columns)
    ids = np.argsort(-logits_of(model, TEST), axis=1, kind="stable")[:, :5]
    wanted = evaluate(ids, TEST.labels, inverse_propensity(counts, TRAIN.n_samples))
    told = {key: events[-1][key] for key in EVAL_METRICS[:-1]}
    assert told == pytest.approx({key: wanted[key] for key in told})  # sums in another order
    assert model.facts["metrics"] == told


def everyone(network):
    return lambda l, inputs: [np.arange(len(network[l].b))] * len(inputs)


def logits_of(model, data):
    network = layers_of(model.arrays)
    return np.stack([row.values for row in ref.forward(network, data.features, everyone(network))[-1]])


def loss_of_the_reference(network, data):
    logits = ref.forward(network, data.features, everyone(network))[-1]
    rows = [(row, data.labels.row(i)[0]) for i, row in enumerate(logits)]
    losses = [ref.softmax_loss(row, labels)[0] for row, labels in rows if len(labels)]
    return sum(losses), len(losses)


@given(st.data())
def test_s10_the_loss_over_all_labels_is_that_of_the_reference(data):
    samples = data.draw(datasets(real_arrays))
    network = data.draw(layers(Config(hidden=(3,)), samples.features.n_columns, samples.labels.n_columns, real_arrays))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LABELS_AT_ONCE", 3)
        patch.setattr(module, "ROWS_AT_ONCE", 2)
        loss, n = loss_over_all_labels(network, samples, Scratch())
    wanted, n_wanted = loss_of_the_reference(network, samples)
    assert n == n_wanted and loss == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loss_of_a_run_is_that_of_its_network(n_workers):
    events = []
    model = fit(CONFIG.replace(epochs=1), TRAIN, test=TEST, n_workers=n_workers, eval_metric="loss",
                callback=events.append)  # fmt: skip
    loss, n = loss_of_the_reference(layers_of(model.arrays), TEST)
    assert events[-1]["kind"] == "end" and events[-1]["held_out_loss"] == pytest.approx(loss / n, rel=1e-5)


def test_a_run_is_resumed_by_the_metric_that_it_had(tmp_path):
    run("ndcg_at_3", checkpoints=Checkpoints(tmp_path, every=1))
    state = Checkpoints(tmp_path).last()
    assert state.judged_by == "ndcg_at_3"
    with pytest.raises(ConfigError, match="^the run to resume uses eval_metric ndcg_at_3, not loss$"):
        run("loss", state=state)
    run("ndcg_at_3", state=state)


def parts(tmp_path, **options):
    """The first half of a run, and the state that it left."""
    checkpoints = Checkpoints(tmp_path, every=1)
    options = {"n_workers": 1, "checkpoints": checkpoints, **options}
    fit(CONFIG.replace(epochs=6), TRAIN, test=TEST, **options)
    return options | {"state": checkpoints.last()}


@pytest.mark.parametrize("other", [{"test": TRAIN}, {"eval_samples": 9}])
def test_a_score_on_other_samples_is_not_compared_with_that_of_the_run_to_resume(tmp_path, other):
    options = parts(tmp_path, patience=99)
    told = "^the best network of the run to resume was found on other test samples, or with another eval_samples; give"
    with pytest.raises(ConfigError, match=told):
        fit(CONFIG, TRAIN, **{"test": TEST, **options, **other})
    fit(CONFIG, TRAIN, test=TEST, eval_samples=30, **options)  # all of them, as before


def test_without_patience_the_best_network_is_looked_for_on_the_new_samples(tmp_path):
    options = parts(tmp_path)
    best_before = options["state"].progress.best_score
    unlike = Dataset(TEST.features, TRAIN.labels.take(np.arange(30, 60)))  # labels of others
    scores = []

    def note(event):
        scores.append(event["precision_at_1"]) if event["kind"] == "evaluation" else None

    fit(CONFIG, TRAIN, test=unlike, callback=note, **options)
    assert options["checkpoints"].last().progress.best_score == max(scores) < best_before


def test_a_run_without_test_samples_passes_on_what_the_best_network_was_found_on(tmp_path):
    options = parts(tmp_path)
    fit(CONFIG.replace(epochs=7), TRAIN, **options)
    state = options["checkpoints"].last()
    assert state.judged_on == options["state"].judged_on != ""
    fit(CONFIG, TRAIN, test=TEST, **options | {"state": state, "patience": 99})


def test_other_metrics_are_refused():
    with pytest.raises(ConfigError, match="^eval_metric is 'ndcg_at_7'; it must be one of precision_at_1, .*, loss"):
        run("ndcg_at_7")


def test_s2_evaluations_during_a_run_use_the_first_rows_in_keyed_order():
    data, events = random_dataset(0, n_samples=30, n_labels=9), []
    config = Config(hidden=(4,), epochs=2, learning_rate=1e-30, weight_decay=0.0, seed=3)
    model = fit(config, data, test=data, n_workers=1, eval_samples=7, callback=events.append)
    first = next(event for event in events if event["kind"] == "evaluation")
    rows = data.take(permutation(3, Purpose.EVALUATION, n=30)[:7])
    theirs = evaluate(predict_topk(layers_of(model.arrays), rows.features, 5)[0], rows.labels)
    assert {key: first[key] for key in theirs} == theirs
