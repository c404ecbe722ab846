"""`slide verify` finds what it should, and says where."""

import json
import re

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import hash_tables, hashing, network, optimizers, prediction, sampling
from slide_fast.cli import verify as verify_command
from slide_fast.cli.verify import cut
from slide_fast.hashing import centroid

QUICK = "--steps 2 --micro-batch 8 --set hidden=[6] --set lsh.min_active=20 --set rebuild_gap=1 --json"
QUICK += " --set lsh.family=simhash --set lsh.K=3"
STAGES = ["codes", "buckets", "active sets", "activations", "loss", "gradients", "weights", "moments", "predictions"]


def enlarge(array):
    array *= 1 + 1e-4


def spoil_neurons(result, *args):
    args[-1][:] ^= 1


def spoil_gradients(result, *args):
    enlarge(result[1][1].W)
    return result


def spoil_activations(passes, *args):
    passes[0].outputs[1, 2] += 1
    return passes


def next_ids(answers, *args):
    return answers[0] + 1, *answers[1:]


FAULTS = [
    (hash_tables, "hash_rows", spoil_neurons, "codes"),
    (hash_tables, "insertion_order", lambda order, *_: order[::-1], "buckets"),
    (hashing, "addresses_of", lambda addresses, *_: addresses ^ 1, "codes"),
    (sampling, "pad", lambda ids, *_: ids[1:], "active sets"),
    (network, "forward", spoil_activations, "activations"),
    (network, "backward", lambda result, *_: (result[0] * (1 + 1e-4), result[1]), "loss"),
    (network, "backward", spoil_gradients, "gradients"),
    (optimizers, "update", lambda result, layers, *_: enlarge(layers[1].W), "weights"),
    (optimizers, "update", lambda result, layers, *_: enlarge(layers[1].b_v), "moments"),
    (prediction, "predict_topk", next_ids, "predictions"),
    (prediction, "predict_topk_index", next_ids, "predictions"),
    (prediction, "candidates", lambda found, *_: [ids[:-1] for ids in found], "predictions"),
]


def last_object(stdout):
    return json.loads(stdout.splitlines()[-1])


def test_both_sides_agree_on_the_users_data(slide):
    code, stdout, stderr = slide(f"verify {{data}}/train.txt {QUICK}")
    figures = last_object(stdout)
    assert code == 0 and figures["agree"] and figures["disagreement"] is None
    assert list(figures["stages"]) == STAGES and figures["steps"] == 2 and figures["rebuilds"] == 3
    assert all(stage["values"] > 0 and 0 <= stage["deviation"] <= 1 for stage in figures["stages"].values())
    assert figures["micro_batch"] == 8 and "16 samples of 300" in stderr
    assert "the two sides agree" in stderr and all(f"\n{stage} " in stderr for stage in STAGES)


def test_values_beyond_float32_are_no_disagreement(slide, tmp_path):
    path = tmp_path / "large.txt"
    path.write_text("4 3 4\n" + "1 0:1e30\n" * 3 + "1,2 1:1\n")
    code, _, stderr = slide(f"verify {path}")
    assert code == 1 and "DISAGREE" not in stderr
    assert re.search("slide: error: .*: the reference has values that are not finite; use a smaller", stderr)


OF_CENTROIDS = [
    (centroid, "nearest", lambda found, *_: found ^ 1, "centroids"),
    (centroid, "means", lambda moved, *_: moved * (1 + 1e-4), "centroids"),
    (centroid, "strongest", lambda buckets, *_: buckets[:, ::-1], "buckets"),
    (sampling, "hardest", lambda found, *_: found._replace(ids=found.ids // 2), "active sets"),
]


def test_centroid_tables_agree_too(slide):
    code, stdout, stderr = slide(f"verify {{data}}/train.txt {QUICK} --set lsh.family=centroid")
    stages = list(last_object(stdout)["stages"])
    assert code == 0 and stages == ["centroids", *STAGES[1:]] and "the two sides agree" in stderr


@pytest.mark.parametrize(("module", "name", "change", "stage"), OF_CENTROIDS)
def test_a_planted_fault_of_centroid_tables_is_found(slide, monkeypatch, module, name, change, stage):
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: change(original(*args), *args))
    code, _, stderr = slide(f"verify {{data}}/train.txt {QUICK} --set lsh.family=centroid")
    assert code == 1 and re.search(rf"^{stage} +[\d,]+ +WRONG$", stderr, re.MULTILINE)


@pytest.mark.parametrize(("module", "name", "change", "stage"), FAULTS)
def test_a_planted_fault_is_found_and_its_stage_named(slide, monkeypatch, module, name, change, stage):
    """A function of the fast path does its work, then its result or its arguments are changed."""
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: change(original(*args), *args))
    code, stdout, stderr = slide(f"verify {{data}}/train.txt {QUICK}")
    figures = last_object(stdout)
    assert code == 1 and figures["agree"] is False
    assert re.search(rf"^{stage} +[\d,]+ +WRONG$", stderr, re.MULTILINE)
    at = figures["disagreement"]["at"]
    assert f"{figures['disagreement']['when']}: {at}\n" in stderr and ": at (" in at or " has shape " in at


def test_without_data_there_is_a_synthetic_task(slide):
    code, stdout, _ = slide("verify --steps 1 --set hidden=[8] --set lsh.K=4")
    assert code == 0 and "1 step and 1 build of the tables: the two sides agree." in stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "first"),
    [("", 2), ("--steps 8 --micro-batch 300 --set in_batch=1 --set epochs=1", 2), ("--set in_batch=0", 1)],
)
def test_s32_some_steps_query_no_tables_and_most_do(slide, settings, first):
    code, stdout, stderr = slide(
        f"verify {{data}}/train.txt --steps 4 --micro-batch 8 --set lsh.min_active=20 --set lsh.K=4 {settings}"
    )
    assert code == 0 and "the two sides agree" in stdout
    assert (f"the output's tables are queried from step {first} on" in stderr) == (first > 1)


def test_settings_come_from_a_file_too(slide, tmp_path):
    (tmp_path / "x.toml").write_text("hidden = [5]\nseed = 3\n[lsh]\nmin_active = 10\nK = 4\nL = 2\n")
    code, _, stderr = slide(f"verify {{data}}/train.txt --steps 1 --labels 30 --config {tmp_path}/x.toml")
    assert code == 0 and "150 → 5 → " in stderr and "the 2 nearest of 16 centroids, at least 10 active" in stderr


def test_a_network_without_tables_is_told(slide):
    code, stdout, stderr = slide("verify {data}/train.txt --steps 1 --set hidden=[4] --set lsh.min_active=all")
    assert code == 0 and "no layer has tables" in stderr and "buckets" not in stdout and "predictions" in stdout


@pytest.mark.parametrize(("least", "steps"), [("all", 1), ("20", 4)])  # that tables are queried is always seen
def test_no_step_begins_when_time_is_up(slide, monkeypatch, least, steps):
    monkeypatch.setattr(verify_command, "SECONDS", 0.0)
    options = f"--set hidden=[4] --set lsh.min_active={least} --set lsh.K=3 --json"
    assert last_object(slide(f"verify {{data}}/train.txt {options}")[1])["steps"] == steps


@pytest.mark.parametrize("n_labels", [1, 30, 59, 60, 61])
def test_cut_data_keep_the_labels_of_their_samples(n_labels):
    data = random_dataset(0)
    part = cut(data, 5, n_labels)
    assert part.n_samples == 5 and part.features.shape == (5, 30)
    used = np.unique(data.labels.indices[: data.labels.indptr[5]])
    assert part.labels.n_columns == min(max(n_labels, len(used)), 60)
    assert len(np.unique(part.labels.indices)) == len(used)
    order = np.argsort(data.labels.indices[: part.labels.nnz], kind="stable")
    assert np.array_equal(order, np.argsort(part.labels.indices, kind="stable"))
