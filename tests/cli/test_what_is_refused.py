"""Options that would have no effect, files that would be lost, labels that would be mistaken: told, not passed over."""

import errno
import io
import json
import shutil

import numpy as np
import pytest
from scipy import sparse

from slide_fast import SlideClassifier
from slide_fast.cli.main import main
from slide_fast.data import write_npz
from slide_fast.parallel.streams import print_result
from slide_fast.text.ngrams import NgramCounter
from slide_fast.text.settings import TextSettings
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.model_folder import save_model

X = np.eye(3).repeat(40, axis=0)


def refused(slide, capsys, command):
    """The message with which arguments are refused."""
    with pytest.raises(SystemExit) as error:
        slide(command)
    assert error.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("values", [[1, 2, 3], [10, 0, 7], [1.0, 2.0, 5.0]])
def test_labels_of_a_file_are_values_of_the_classes(slide, tmp_path, values):
    model = SlideClassifier(hidden=(16,), epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    model.fit(X, np.array(values).repeat(40)).save(tmp_path / "model")
    lines = [f"{int(values[i])} {i}:1" for i in range(3)]
    (tmp_path / "new.svm").write_text("\n".join([*lines, "99 0:1", ""]))
    code, stdout, stderr = slide(f"evaluate {tmp_path}/model {tmp_path}/new.svm --json")
    figures = json.loads(stdout.splitlines()[-1])
    assert code == 0 and figures["n_unlabelled"] == 1 and figures["precision_at_1"] == pytest.approx(0.75)
    assert "new.svm: left out 1 label that the model does not have" in stderr
    (tmp_path / "known.svm").write_text("\n".join([*lines, ""]))
    assert "left out" not in slide(f"evaluate {tmp_path}/model {tmp_path}/known.svm")[2]


@pytest.mark.parametrize("values", ["abc", [10, 20, 30], [0.0, 5.0, 7.0]])
def test_labels_of_a_file_with_sizes_are_columns(slide, tmp_path, values):
    model = SlideClassifier(hidden=(16,), epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    model.fit(X, np.array(list(values)).repeat(40)).save(tmp_path / "model")
    sparse.save_npz(tmp_path / "X.npz", sparse.csr_matrix(np.eye(3)))
    (tmp_path / "xmc.txt").write_text("3 3 3\n0 0:1\n1 1:1\n2 2:1\n")
    for file in ("xmc.txt", "X.npz --labels {tmp_path}/X.npz"):
        command = f"evaluate {tmp_path}/model {tmp_path}/{file.format(tmp_path=tmp_path)} --json"
        code, stdout, stderr = slide(command)
        assert code == 0 and json.loads(stdout.splitlines()[-1])["precision_at_1"] == 1 and "left out" not in stderr
    (tmp_path / "xmc.txt").write_text("1 3 4\n3 0:1\n")
    code, _, stderr = slide(f"evaluate {tmp_path}/model {tmp_path}/xmc.txt")
    assert code == 1 and "xmc.txt, line 1: 4 labels, but the model has 3" in stderr


def test_samples_none_of_whose_labels_is_known_are_refused(slide, tmp_path):
    SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, np.repeat([1, 2, 3], 40)).save(tmp_path / "model")
    (tmp_path / "new.svm").write_text("7 0:1\n8 1:1\n")
    code, _, stderr = slide(f"evaluate {tmp_path}/model {tmp_path}/new.svm")
    assert code == 1 and stderr.endswith("new.svm: the model has none of the labels of these samples\n")


def test_test_samples_have_labels(slide, tmp_path, data):
    features = sparse.csr_matrix(np.eye(3))
    sparse.save_npz(tmp_path / "X.npz", features)
    sparse.save_npz(tmp_path / "Y.npz", features)
    train = f"train {tmp_path}/X.npz --labels {tmp_path}/Y.npz --out {tmp_path}/run --workers 1"
    code, _, stderr = slide(f"{train} --test {tmp_path}/X.npz")
    assert code == 1 and stderr.endswith(f"{tmp_path}/X.npz: no sample has a label; give them with --test-labels\n")
    assert slide(train)[0] == 0
    code, _, stderr = slide(f"evaluate {tmp_path}/run {tmp_path}/X.npz")
    assert code == 1 and stderr.endswith(f"{tmp_path}/X.npz: no sample has a label; give them with --labels\n")
    rows = SparseRows(np.arange(4), np.arange(3, dtype=np.int32), None, 3)
    none = SparseRows(np.zeros(4, dtype=np.int64), np.zeros(0, dtype=np.int32), None, 3)
    write_npz(tmp_path / "own.npz", Dataset(rows, none))
    code, _, stderr = slide(f"evaluate {tmp_path}/run {tmp_path}/own.npz")
    assert code == 1 and stderr.endswith(f"{tmp_path}/own.npz: no sample has a label; give them with --labels\n")
    assert slide(f"evaluate {tmp_path}/run {tmp_path}/own.npz --labels {tmp_path}/Y.npz")[0] == 0  # as it was told
    assert slide(f"{train.replace('X.npz', 'own.npz')} --overwrite")[0] == 0
    sparse.save_npz(tmp_path / "empty.npz", sparse.csr_matrix((3, 3)))
    code, _, stderr = slide(f"evaluate {tmp_path}/run {tmp_path}/own.npz --labels {tmp_path}/empty.npz")
    assert code == 1 and stderr.endswith(f"{tmp_path}/empty.npz: no sample has a label\n")
    sparse.save_npz(tmp_path / "wide.npz", sparse.csr_matrix(np.eye(3, 4)))
    wide = f"{tmp_path}/wide.npz: 4 labels, but"
    assert (
        f"{wide} the model has 3; "
        in slide(f"evaluate {tmp_path}/run {tmp_path}/X.npz --labels {tmp_path}/wide.npz")[2]
    )
    code, _, stderr = slide(f"{train} --overwrite --test {tmp_path}/X.npz --test-labels {tmp_path}/wide.npz")
    assert code == 1 and f"{wide} the training data has 3; " in stderr
    (tmp_path / "bad.npz").write_text("")
    code, _, stderr = slide(f"evaluate {tmp_path}/run {tmp_path}/bad.npz --labels {tmp_path}/absent.npz")
    assert code == 1 and "absent.npz: cannot be read (No such file or directory)" in stderr  # before any is read
    (tmp_path / "none.txt").write_text("1 150 60\n 0:1\n")
    assert "none.txt: no sample has a label" in slide(f"evaluate {{run}} {tmp_path}/none.txt")[2]


@pytest.mark.parametrize("name", ["W0.npy", "a.pdf", "-", "data.tsv", "png"])
def test_curves_are_png(slide, tmp_path, name):
    (tmp_path / name).write_text("kept")
    code, _, stderr = slide(f"plot {{run}} --out {tmp_path}/{name}")
    assert code == 2 and "curves are saved as PNG; give a name that ends in .png" in stderr
    assert (tmp_path / name).read_text() == "kept"
    assert slide(f"plot {{run}} --out {tmp_path}/A.PNG")[0] == 0


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.toml", "curves.png", "checkpoints/step-1/W0.npy", "model/new"]
)
def test_answers_replace_no_file_of_the_run(slide, trained, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = sorted((path, path.stat().st_size) for path in run.rglob("*"))
    code, _, stderr = slide(f"predict {run} {{data}}/test.txt --out {run}/{name}")
    assert code == 2 and len(stderr.splitlines()) == 1 and "--out" in stderr
    assert sorted((path, path.stat().st_size) for path in run.rglob("*")) == before
    assert slide(f"predict {run} {{data}}/test.txt --out {run}/answers.txt")[0] == 0


def test_answers_of_one_model_replace_no_file_of_another(slide, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copytree(trained / "model", run / "checkpoints" / "best")
    files = "model/config.json", "metrics.jsonl", "checkpoints/best/new"
    for model in (run / "checkpoints" / "best", trained):
        for name in files:
            code, _, stderr = slide(f"predict {model} {{data}}/test.txt --out {run}/{name}")
            assert code == 2 and "choose another" in stderr
    assert slide(f"evaluate {run} {{data}}/test.txt")[0] == 0


def dtype_of(slide, run):
    return json.loads(slide(f"info {run} --json")[1].splitlines()[-1])["dtype"]


def test_a_resumed_run_keeps_the_dtype_of_its_model(slide, tmp_path):
    run = tmp_path / "run"
    first = f"train {{data}}/train.txt --out {run} --workers 1 --hidden 8 --checkpoint-every 1"
    assert slide(f"{first} --epochs 2 --dtype float16")[0] == 0
    shutil.rmtree(run / "model")  # as if the run had been killed
    for more, dtype in ((" --epochs 3", "float16"), (" --epochs 4 --dtype float32", "float32")):
        assert slide(f"{first} --resume{more}")[0] == 0
        assert dtype_of(slide, run) == dtype
    assert slide(f"{first} --epochs 2 --dtype float16 --overwrite")[0] == 0
    assert slide(f"{first} --epochs 2 --overwrite")[0] == 0 and dtype_of(slide, run) == "float32"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train {data}/train.txt --out x --test-labels {data}/test.txt", "--test-labels needs --test"),
        ("train {data}/train.txt --out x --eval-metric ndcg_at_5", "--eval-metric needs samples to evaluate on"),
        ("train {data}/train.txt --out x --eval-every 0.5", "--eval-every needs samples to evaluate on"),
        ("train {data}/train.txt --out x --eval-samples 9", "--eval-samples needs samples to evaluate on"),
        ("bench {data}/train.txt --shape amazon-670k", "bench takes DATA or --shape, not both"),
        ("bench --test {data}/test.txt", "bench --test needs DATA"),
        ("bench {data}/train.txt --seconds inf", "'inf' is not a finite number above 0"),
    ],
)
def test_options_without_effect_are_refused(slide, capsys, command, message):
    assert message in refused(slide, capsys, command)


@pytest.mark.parametrize(
    "command",
    ["train - --out x --test -", "train - --out x --mpi --test -", "bench - --test -", "index x - --kept-aside -"],
)
def test_standard_input_is_not_read_twice(slide, capsys, command):
    option = command.split()[-2]
    assert f"{option}: standard input holds the other samples; give a file" in refused(slide, capsys, command)


def test_options_of_texts_do_not_go_with_numbers(slide, tmp_path):
    for command in (f"train {{data}}/train.txt --out {tmp_path}/run", "predict {run} {data}/test.txt"):
        code, _, stderr = slide(f"{command} --on-error skip")
        assert code == 2 and "--on-error: " in stderr
    (tmp_path / "texts").write_text("__label__a one\n__label__b two\n")
    code, _, stderr = slide(f"train {tmp_path}/texts --out {tmp_path}/run --buckets 16 --min-df 1")
    assert code == 2 and "--min-df has no effect with --buckets" in stderr


def test_label_names_that_repeat_are_told(slide, tmp_path):
    (tmp_path / "names").write_text("same\n" * 3 + "".join(f"{i}\n" for i in range(57)))
    code, _, stderr = slide(f"train {{data}}/train.txt --label-names {tmp_path}/names --out {tmp_path}/run {{small}}")
    assert code == 0 and "names: 2 of 60 names repeat earlier ones" in stderr


@pytest.mark.parametrize("command", ["verify --json --steps 1", "verify", "train --print-config"])
def test_a_result_that_cannot_be_printed_is_told_before_the_work(data, tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr("sys.stdout", None)
    assert main(command.format(data=data, out=tmp_path / "run").split()) == 1
    assert "standard output is closed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "like"),
    [({"word_ngrams": 10**9}, {"word_ngrams": 3}), ({"char_ngrams": (1, 10**9)}, {"char_ngrams": (1, 7)}),
     ({"char_ngrams": (9, 10**9)}, {})],
)  # fmt: skip
def test_n_grams_end_where_the_texts_do(settings, like):
    texts = ["red apple", "a green apple", ""]
    long, short = (NgramCounter(TextSettings.checked(**given)) for given in (settings, like))
    for mine, other in zip(long.count(texts), short.count(texts), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert long.named(texts[1]) == short.named(texts[1])


def test_answers_may_lie_beside_a_file_that_is_called_config(slide, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert slide(f"predict {{run}} {{data}}/test.txt --out {tmp_path}/sub/answers.txt")[0] == 0


def test_a_checkpoint_that_knows_no_dtype_goes_on_in_that_of_the_model(slide, tmp_path):
    run = tmp_path / "run"
    first = f"train {{data}}/train.txt --out {run} --workers 1 --hidden 8 --checkpoint-every 1"
    assert slide(f"{first} --epochs 2 --dtype float16")[0] == 0
    for path in run.glob("checkpoints/*/config.json"):
        content = json.loads(path.read_text())
        del content["dtype"]
        path.write_text(json.dumps(content))
    assert slide(f"{first} --resume --epochs 3")[0] == 0 and dtype_of(slide, run) == "float16"


def test_sizes_to_generate_are_named_as_options(slide, tmp_path):
    code, _, stderr = slide(f"generate {tmp_path}/new --labels 3")
    assert code == 2 and "--labels-per-sample is 5; it must be a whole number from 1 to 3" in stderr
    assert not (tmp_path / "new").exists()


def test_few_samples_make_no_index(slide, tmp_path):
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(np.eye(3), range(3)).model_  # has no index yet
    save_model(tmp_path / "model", model)
    (tmp_path / "new.txt").write_text("2 3 3\n0 0:1\n1 1:1\n")
    code, stdout, stderr = slide(f"evaluate {tmp_path}/model {tmp_path}/new.txt --mode index --json")
    assert code == 0 and "too few to build one, so all labels are scored" in stderr
    assert json.loads(stdout.splitlines()[-1])["mode"] == "exact"


def test_a_file_is_named_where_its_scores_overflow(slide, tmp_path):
    model = SlideClassifier(hidden=8, epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    model.fit(X, np.arange(3).repeat(40)).save(tmp_path / "model")
    (tmp_path / "new.txt").write_text("2 3 3\n0 0:1\n1 0:3e38 1:3e38 2:3e38\n")
    for command in ("predict", "evaluate"):
        code, _, stderr = slide(f"{command} {tmp_path}/model {tmp_path}/new.txt")
        assert code == 1 and f"{tmp_path}/new.txt: row 1: the values are too large" in stderr


def test_an_empty_path_is_no_folder(slide, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments in (["generate", ""], ["train", "x.txt", "--out", ""]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2 and "is an empty path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_standard_output_is_named(slide, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(OSError, match="standard output"):
        print_result("figures")
