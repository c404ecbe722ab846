"""The table of all mirrored entry points. A new one fails here until an agreement test is named for it."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import slide_fast
import slide_ref

TESTS = Path(__file__).parent
FAST, REF = (Path(package.__file__).parent for package in (slide_fast, slide_ref))
SAME_NAME = {
    "correction.inclusion": "test_s30_probabilities_are_equal",
    "data.read_xmc": "test_s17_any_text_gives_the_same_arrays_or_the_same_error",
    "hash_tables.CentroidTable": "test_s35_tables_give_the_same_buckets",
    "hash_tables.CentroidTable.occupancy": "test_s35_tables_give_the_same_buckets",
    "hash_tables.CentroidTable.query": "test_s35_tables_give_the_same_buckets",
    "hash_tables.HashTables": "test_s7_s22_buckets_are_equal",
    "hash_tables.HashTables.occupancy": "test_s6_tables_built_from_dyadic_weights_are_equal",
    "hash_tables.HashTables.query": "test_s7_s22_queries_are_equal",
    "hash_tables.build_tables": "test_s6_tables_built_from_dyadic_weights_are_equal",
    "hash_tables.tables_from_addresses": "test_s7_s22_buckets_are_equal",
    "hashing.addresses_of": "test_s4_addresses_of_dyadic_vectors_are_equal",
    "hashing.fold": "test_s4_folds_are_equal",
    "hashing.hash_constants": "test_s14_constants_are_equal",
    "hashing.centroid.groups_of": "test_s35_buckets_filled_group_by_group_are_equal",
    "hashing.centroid.centroid_codes": "test_s34_codes_are_equal",
    "hashing.centroid.k_means": "test_s34_clusters_of_whole_numbers_far_apart_are_equal",
    "hashing.centroid.means": "test_s34_means_agree",
    "hashing.centroid.nearest": "test_s34_nearest_of_dyadic_vectors_are_equal",
    "hashing.centroid.strongest": "test_s35_buckets_of_dyadic_neurons_are_equal",
    "hashing.doph.doph_codes": "test_s21_codes_are_equal",
    "hashing.doph.top_coordinates": "test_s21_top_coordinates_are_equal",
    "hashing.dwta.densify": "test_s20_empty_bins_are_filled_alike",
    "hashing.dwta.dwta_codes": "test_s20_codes_are_equal",
    "hashing.simhash.simhash_codes": "test_s5_codes_of_dyadic_vectors_are_equal",
    "hashing.wta.pack": "test_s4_packed_digits_are_equal",
    "hashing.wta.wta_codes": "test_s19_codes_are_equal",
    "network.RowGradient": "test_s10_s11_s25_losses_and_gradients_agree",
    "network.backward": "test_s10_s11_s25_losses_and_gradients_agree",
    "network.forward": "test_activations_of_dyadic_networks_are_equal",
    "network.sample_weights": "test_s10_shares_are_equal",
    "network.softmax_loss": "test_s10_s11_s25_losses_and_gradients_agree",
    "optimizers.update": "test_s12_s26_updates_agree",
    "indexing.build_index": "test_s28_indexes_of_real_networks_agree",
    "indexing.places_of_best": "test_s28_places_of_the_best_labels_are_equal",
    "indexing.preview_of": "test_s28_indexes_of_real_networks_agree",
    "indexing.spreads": "test_s28_spreads_agree",
    "prediction.candidates": "test_s28_candidates_are_equal",
    "prediction.hidden_outputs": "test_s28_hidden_outputs_are_equal",
    "prediction.previews": "test_s28_places_of_the_best_labels_are_equal",
    "prediction.predict_topk": "test_s15_answers_of_dyadic_networks_are_equal",
    "prediction.predict_topk_index": "test_s28_answers_of_dyadic_networks_are_equal",
    "sampling.active_sets": "test_s9_active_sets_are_equal",
    "sampling.hard_threshold": "test_s24_hard_threshold_finds_the_same_neurons",
    "sampling.hardest": "test_s36_hardest_finds_the_same_neurons",
    "sampling.pad": "test_s9_padded_sets_are_equal",
    "sampling.retrieve": "test_s8_s23_s24_the_strategy_of_the_settings_is_used",
    "sampling.top_k": "test_s23_top_k_finds_the_same_neurons",
    "sampling.vanilla": "test_s8_vanilla_finds_the_same_neurons",
    "active_sets.choose_in_part": "test_s31_active_sets_in_a_part_are_equal",
    "active_sets.labels_in": "test_s31_labels_in_a_part_are_equal",
    "active_sets.settings_in": "test_s32_settings_in_a_part_are_equal",
    "training.fit": "test_whole_runs_take_the_same_steps_and_have_the_same_losses",
}
# entry point of the reference: (its counterpart, why it has another name, the test)
OTHER_NAME = {
    "hashing.centroid.buckets_of": (
        "hashing.centroid.fill_buckets",
        "some of the buckets, into shared memory",
        "test_s35_buckets_filled_group_by_group_are_equal",
    ),
    "hash_tables.HashTables.insert": (
        "hash_tables.sort_table",
        "all neurons of a table at once",
        "test_s7_s22_buckets_are_equal",
    ),
    "hash_tables.HashTables.insert_by_priority": (
        "hash_tables.sort_table",
        "all neurons of a table at once",
        "test_s7_s22_buckets_are_equal",
    ),
    "network.Activation": (
        "network.LayerPass",
        "all samples at once",
        "test_activations_of_dyadic_networks_are_equal",
    ),
    "network.corrected": (
        "network.softmax_loss",
        "all samples at once, in place",
        "test_s30_losses_and_gradients_of_corrected_logits_agree",
    ),
    "optimizers.adam_row": (
        "optimizers.adam_rows",
        "many rows at once",
        "test_s12_rows_in_blocks_agree",
    ),
    "optimizers.sgd_row": (
        "optimizers.sgd_rows",
        "many rows at once",
        "test_s26_rows_in_blocks_agree",
    ),
    "training.Earlier": (
        "engine.checkpoints.TrainingState",
        "plain arrays",
        "test_s13_further_training_takes_the_same_steps_and_has_the_same_losses",
    ),
    "network.Network": (
        "engine.learner.Learner",
        "state in shared memory",
        "test_free_running_worker_has_the_losses_of_the_reference",
    ),
    "training.StepReport": (
        "engine.tasks.RangeReport",
        "sums over steps",
        "test_free_running_worker_has_the_losses_of_the_reference",
    ),
    "active_sets.choose_active": (
        "engine.learner.Learner.choose_active",
        "a task",
        "test_free_running_worker_has_the_losses_of_the_reference",
    ),
    "hashing.centroid.squared_distances": (
        "hashing.centroid.nearest",
        "many vectors at once",
        "test_s34_nearest_of_dyadic_vectors_are_equal",
    ),
    "training.mean_loss": (
        "engine.progress.Totals.mean_loss",
        "sums over ranges of steps",
        "test_s37_a_run_that_learns_by_heart_queries_no_tables_of_the_output",
    ),
    "training.train_step": (
        "engine.learner.Learner.train_step",
        "a task",
        "test_free_running_worker_has_the_losses_of_the_reference",
    ),
    "training.rebuild": (
        "engine.learner.Learner.sort_table",
        "tasks, in parallel",
        "test_s14_s31_tasks_of_a_rebuild_make_the_tables_of_the_reference",
    ),
    "training.new_network": (
        "engine.local_engine.LocalEngine",
        "shared memory",
        "test_whole_runs_take_the_same_steps_and_have_the_same_losses",
    ),
}
SPEED = re.compile(r"\b(fast|quick|slow|speed|vectori[sz]|performan)\w*", re.IGNORECASE)
MODULES = sorted(
    path.relative_to(REF) for path in REF.rglob("*.py") if "common" not in path.parts and path != REF / "__init__.py"
)


def module_name(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def entry_points(package, path):
    """Public functions, classes and methods that a module defines."""
    name = module_name(path)
    module = importlib.import_module(f"{package}.{name}")
    for key, item in vars(module).items():
        if not key.startswith("_") and getattr(item, "__module__", None) == module.__name__:
            yield f"{name}.{key}"
            if inspect.isclass(item):
                methods = inspect.getmembers(item, inspect.isfunction)
                yield from (f"{name}.{key}.{m}" for m, f in methods if m[0] != "_" and f.__module__ == module.__name__)


def entry_points_of_both_sides():
    theirs = {entry for path in MODULES for entry in entry_points("slide_ref", path)}
    ours = {entry for path in MODULES for entry in entry_points("slide_fast", path)}
    return ours, theirs


def imports(path):
    """Full names of the modules that a file imports, and whether they are named in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_entry_point_of_the_same_name_is_in_the_table():
    ours, theirs = entry_points_of_both_sides()
    assert sorted(ours & theirs) == sorted(SAME_NAME)


def test_every_other_entry_point_of_the_reference_has_a_counterpart_in_the_table():
    ours, theirs = entry_points_of_both_sides()
    assert sorted(theirs - ours) == sorted(OTHER_NAME)


@pytest.mark.parametrize("counterpart", sorted({counterpart for counterpart, _, _ in OTHER_NAME.values()}))
def test_counterparts_exist(counterpart):
    parts = ["slide_fast", *counterpart.split(".")]
    n = next(i for i, part in enumerate(parts) if part[0].isupper() or i == len(parts) - 1)
    item = importlib.import_module(".".join(parts[:n]))
    for name in parts[n:]:
        item = getattr(item, name)


def test_tests_in_the_table_exist():
    named = set(SAME_NAME.values()) | {test for _, _, test in OTHER_NAME.values()}
    defined = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert named <= defined


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_of_the_reference_has_a_mirror_and_a_test_file(path):
    assert (FAST / path).is_file()
    assert (TESTS / f"test_{module_name(path).split('.')[-1]}.py").is_file()


@pytest.mark.parametrize("path", sorted(FAST.rglob("*.py")), ids=lambda path: str(path.relative_to(FAST)))
def test_fast_path_imports_only_the_common_part_of_the_reference(path):
    foreign = [name for name in imports(path) if name.split(".")[0] == "slide_ref"]
    if path.parent != FAST / "verify":
        assert [name for name in foreign if not name.startswith("slide_ref.common.")] == []


@pytest.mark.parametrize("path", sorted(REF.rglob("*.py")), ids=lambda path: str(path.relative_to(REF)))
def test_reference_imports_nothing_of_the_fast_path(path):
    assert [name for name in imports(path) if name.split(".")[0] == "slide_fast"] == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_reference_never_mentions_speed(path):
    assert SPEED.findall((REF / path).read_text(encoding="utf-8")) == []
