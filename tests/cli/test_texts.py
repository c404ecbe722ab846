"""Texts on the command line: from files of every format to the same model, and from the model to answers in words."""

import dataclasses
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from slide_fast import SlideTextClassifier
from slide_fast.cli.main import main
from slide_fast.cli.texts import _about_labels
from slide_fast.text import reading
from slide_ref.common.sparse_rows import Dataset, rows_from_lists
from slide_ref.common.storage.model_folder import load_model, save_model

NOUNS = {"fruit": ["apple", "pear", "plum"], "sky": ["cloud", "star", "moon"], "sea": ["wave", "fish", "salt"]}
ADJECTIVES = {"red": ["scarlet", "crimson"], "blue": ["azure", "navy"]}
COLUMNS = ["--text-column", "title", "--label-column", "tags", "--label-separator", "|"]
SMALL = ["--workers", "1", "--epochs", "12", "--micro-batch", "16", "--hidden", "16", "--learning-rate", "0.02"]


def make_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        tags = [rng.choice([*NOUNS]), rng.choice([*ADJECTIVES])]
        words = [rng.choice(NOUNS[tags[0]]), rng.choice(ADJECTIVES[tags[1]]), f"w{rng.integers(9)}"]
        rows.append((" ".join(rng.permutation(words)), tags))
    return rows


ROWS, TEST = make_rows(240), make_rows(40, 1)
FORMATS = {
    "train.tsv": lambda rows: "title\ttags\n" + "".join(f"{text}\t{'|'.join(tags)}\n" for text, tags in rows),
    "train.csv": lambda rows: "tags,title\r\n" + "".join(f'{"|".join(tags)},"{text}"\r\n' for text, tags in rows),
    "train.jsonl": lambda rows: "".join(json.dumps({"title": text, "tags": tags}) + "\n" for text, tags in rows),
    "train.txt": lambda rows: "".join(f"__label__{' __label__'.join(tags)} {text}\n" for text, tags in rows),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, written in FORMATS.items():
        (folder / name).write_bytes(written(ROWS).encode())
    (folder / "test.tsv").write_text(FORMATS["train.tsv"](TEST))
    assert main(["train", str(folder / "train.tsv"), *COLUMNS, *SMALL, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def slide(capsys, folder, monkeypatch):
    """Give a command, with bytes on standard input; returns its exit code, output and errors."""

    def run(*arguments, given=None):
        if given is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(given))))
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def content_of(model):
    arrays = {name: array.tobytes() for name, array in (*model.arrays.items(), *model.text.arrays.items())}
    settings = {name: value for name, value in model.text.settings.items() if name != "source"}
    return arrays, settings, model.label_names, model.label_counts.tolist(), model.config


def test_every_format_and_python_train_the_same_network(slide, folder, tmp_path):
    models = []
    for name in FORMATS:
        columns = [] if name == "train.txt" else COLUMNS
        assert slide("train", folder / name, *columns, *SMALL, "--out", tmp_path / name)[0] == 0
        models.append(load_model(tmp_path / name))
    given = (folder / "train.txt").read_bytes()
    assert slide("train", "-", *SMALL, "--out", tmp_path / "piped", given=given)[0] == 0
    models.append(load_model(tmp_path / "piped"))
    own = SlideTextClassifier(hidden=16, epochs=12, micro_batch=16, learning_rate=0.02, n_workers=1)
    own.fit([text for text, _ in ROWS], [tags for _, tags in ROWS]).save(tmp_path / "python")
    models.append(load_model(tmp_path / "python"))
    first = content_of(models[0])
    for model in models[1:]:
        assert content_of(model) == first


def test_processes_that_count_words_change_nothing(slide, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "TEXTS_AT_ONCE", 20)
    settings, texts = reading.TextSettings(), [text for text, _ in ROWS]
    alone, together = (list(reading.counted(reading.batches_of(texts), settings, n)) for n in (1, 2))
    assert len(alone) == len(together) == 12
    for one, other in zip(alone, together, strict=True):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


def test_evaluation_knows_the_columns_of_training(slide, folder):
    code, stdout, stderr = slide("evaluate", folder / "run", folder / "test.tsv", "--json")
    assert code == 0 and json.loads(stdout.splitlines()[-1])["precision_at_1"] == 1.0
    assert stderr.count("\n") > 0 and "left out" not in stderr
    for name in ("train.jsonl", "train.csv"):
        assert slide("evaluate", folder / "run", folder / name)[0] == 0
    other = (folder / "test.tsv").read_text().replace("title", "text", 1)
    (folder / "renamed.tsv").write_text(other)
    assert slide("evaluate", folder / "run", folder / "renamed.tsv", "--text-column", "text")[0] == 0


def test_labels_that_training_had_not_are_counted_and_their_texts_kept(slide, folder, tmp_path):
    (tmp_path / "new.tsv").write_text("title\ttags\napple navy\tfruit|new\nmoon\tnewer\n")
    code, stdout, stderr = slide("evaluate", folder / "run", tmp_path / "new.tsv", "--json")
    figures = json.loads(stdout.splitlines()[-1])
    assert code == 0 and f"{tmp_path}/new.tsv: left out 2 labels that the model does not have" in stderr
    assert figures["n_unlabelled"] == 1 and figures["precision_at_1"] <= 0.5


def test_labels_without_names_are_known_by_their_ids(slide, tmp_path):
    model = SlideTextClassifier(hidden=8, epochs=20, micro_batch=16, learning_rate=0.02, n_workers=1)
    model.fit(["red", "blue", "green"] * 40, [0, 1, 2] * 40).save(tmp_path / "model")
    (tmp_path / "test.txt").write_text("__label__2 green\n__label__0 red\n")
    code, stdout, _ = slide("evaluate", tmp_path / "model", tmp_path / "test.txt", "--json")
    assert code == 0 and json.loads(stdout.splitlines()[-1])["precision_at_1"] == 1.0
    assert slide("predict", tmp_path / "model", "-", "-k", "1", given=b"green\n")[1].startswith("2:0.")


def test_answers_are_names_with_probabilities(slide, folder):
    code, stdout, _ = slide("predict", folder / "run", "-", "-k", "2", given=b"the azure plum\n\nSCARLET star\n")
    lines = [[pair.rpartition(":") for pair in line.split("\t")] for line in stdout.splitlines()]
    assert code == 0 and len(lines) == 3
    assert [{name for name, _, _ in lines[at]} for at in (0, 2)] == [{"blue", "fruit"}, {"red", "sky"}]
    assert sum(float(value) for _, _, value in lines[0]) == pytest.approx(1, abs=0.1)


def test_answers_do_not_depend_on_how_texts_come(slide, folder, tmp_path):
    texts = "".join(f"{text}\n" for text, _ in TEST)
    (tmp_path / "texts.txt").write_text(texts)
    answers = {slide("predict", folder / "run", tmp_path / "texts.txt")[1]}
    answers.add(slide("predict", folder / "run", "-", given=texts.encode())[1])
    answers.add(slide("predict", folder / "run", folder / "test.tsv", "--text-column", "title")[1])
    assert slide("predict", folder / "run", tmp_path / "texts.txt", "--out", tmp_path / "out")[0] == 0
    answers.add((tmp_path / "out").read_text())
    assert len(answers) == 1


def test_all_labels_are_the_most_that_a_text_gets(slide, folder):
    given = b"azure plum\n"
    whole = slide("predict", folder / "run", "-", "-k", "5", given=given)
    assert whole[1].count("\t") == 4 and slide("predict", folder / "run", "-", "-k", 10**12, given=given) == whole


def test_labels_below_the_threshold_are_left_out(slide, folder):
    given = b"azure plum\nnothing known\n"
    everything = slide("predict", folder / "run", "-", "-k", "5", given=given)[1].splitlines()
    some = slide("predict", folder / "run", "-", "-k", "5", "--threshold", "0.3", given=given)[1].splitlines()
    for line, kept in zip(everything, some, strict=True):
        wanted = [pair for pair in line.split("\t") if float(pair.rpartition(":")[2]) >= 0.3]
        assert kept == "\t".join(wanted)
    assert 0 < len(some[0].split("\t")) < 5


def test_lines_that_are_skipped_have_empty_answers(slide, folder):
    given = b"azure plum\n\xff\nscarlet star\n"
    code, stdout, stderr = slide("predict", folder / "run", "-", given=given)
    assert code == 1 and stderr.endswith("slide: error: -, line 2: not UTF-8 text; convert the file to UTF-8\n")
    code, stdout, stderr = slide("predict", folder / "run", "-", "--on-error", "skip", given=given)
    assert code == 0 and [bool(line) for line in stdout.splitlines()] == [True, False, True]
    assert stderr == "1 line skipped, the first: -, line 2: not UTF-8 text; convert the file to UTF-8\n"
    options = ["--on-error", "skip", "--out", folder / "answers.txt"]
    assert "2 predictions in" in slide("predict", folder / "run", "-", *options, given=given)[1]


def test_one_sample_is_spoken_of_in_the_singular(slide, folder, tmp_path):
    one = tmp_path / "one.tsv"
    one.write_text("".join((folder / "train.tsv").read_text().splitlines(keepends=True)[:2]))
    command = ["train", one, *COLUMNS, *SMALL, "--min-df", "1", "--epochs", "1", "--out", tmp_path / "run"]
    code, _, stderr = slide(*command)
    assert code == 0 and ["train", "data", "1", "sample"] in map(str.split, stderr.splitlines())
    assert "over 1 step, 1 epoch\n" in stderr
    assert "1 test sample\n" in slide("evaluate", tmp_path / "run", one)[1]
    predict = ["predict", folder / "run", "-", "--out", tmp_path / "answer.txt"]
    assert "1 prediction in" in slide(*predict, given=b"azure plum\n")[1]


def test_bad_lines_of_training_are_named_or_counted(slide, folder, tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_text((folder / "train.tsv").read_text() + "no tab\nno label\t\n")
    command = ["train", path, *COLUMNS, *SMALL, "--out", tmp_path / "run"]
    code, _, stderr = slide(*command)
    assert code == 1 and len(stderr.splitlines()) == 1
    assert stderr.startswith(
        f"slide: error: {path}, line 242: 1 field, but the first line names 2 columns; separate them"
    )
    assert not (tmp_path / "run").exists()
    code, _, stderr = slide(*command, "--on-error", "skip")
    assert code == 0 and f"2 lines skipped, the first: {path}, line 242: 1 field" in stderr
    assert content_of(load_model(tmp_path / "run")) == content_of(load_model(folder / "run"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--text-column title", 2, "texts to train on need labels; name their column with --label-column"),
        ("--text-column title --label-column tags --label-names x", 2, "--label-names cannot be used with texts"),
        ("--text-column titel --label-column tags", 1, "did you mean title?"),
        ("--text-column title --label-column tags --token-pattern (", 2, "token_pattern is '('; it must be a regular"),
        ("--text-column title --label-column tags --word-ngrams 0", 2, "word_ngrams is 0; it must be 1 or more"),
        ("--text-column title --label-column tags --token-pattern zzz", 1, "no words; check them and token_pattern"),
        ("", 1, "the file looks like tab-separated values (TSV)"),
    ],
)
def test_what_training_on_texts_needs_is_said(slide, folder, tmp_path, options, code, message):
    (tmp_path / "x").write_text("")
    options = options.replace(" x", f" {tmp_path}/x").split()
    found, _, stderr = slide("train", folder / "train.tsv", *options, "--out", tmp_path / "run")
    assert found == code and message in stderr.splitlines()[-1]


def test_options_about_texts_are_refused_where_there_are_none(slide, tmp_path):
    (tmp_path / "train.txt").write_text("4 3 2\n0 0:1\n1 1:1\n0 2:1\n1 0:1\n")
    assert slide("train", tmp_path / "train.txt", "--workers", "1", "--out", tmp_path / "run")[0] == 0
    for command in ("evaluate", "predict", "index"):
        code, _, stderr = slide(command, tmp_path / "run", tmp_path / "train.txt", "--text-column", "title")
        assert code == 2 and "--text-column: the model" in stderr
        assert "was trained on numbers, not on texts; give such samples, and leave it out" in stderr
    command = ["train", tmp_path / "train.txt", "--out", tmp_path / "other"]
    for option in (["--label-column", "tags"], ["--word-ngrams", "2"]):
        code, _, stderr = slide(*command, *option)
        assert code == 2 and f"{option[0]}: {tmp_path}/train.txt holds no texts; name their column with" in stderr
    code, _, stderr = slide("explain", tmp_path / "run", "a text")
    assert code == 1 and "this model was not trained on texts; explain needs one that was" in stderr


def test_what_would_be_ignored_is_refused(slide, folder, tmp_path):
    train = ["train", folder / "train.txt", "--out", tmp_path / "run"]
    for option in ("--label-column", "--label-separator"):
        code, _, stderr = slide(*train, option, "tags")
        assert code == 2 and f"{option} is for tables and JSON; name their texts with --text-column" in stderr
    code, _, stderr = slide("train", folder / "train.tsv", *COLUMNS[:-1], "", "--out", tmp_path / "run")
    assert code == 2 and "--label-separator is empty" in stderr
    code, _, stderr = slide("evaluate", folder / "run", folder / "test.tsv", "--labels", folder / "test.tsv")
    assert code == 2 and "--labels cannot be used with texts" in stderr


def test_answers_replace_neither_their_texts_nor_the_model(slide, folder, tmp_path):
    texts, model = tmp_path / "texts.tsv", folder / "run" / "model"
    texts.write_text("title\nred apple\n")
    (tmp_path / "link").symlink_to(texts)
    for out, message in ((texts, "is the file of the samples"), (tmp_path / "link", "is the file of the samples"),
                         (model / "labels.txt", "lies in a model folder")):  # fmt: skip
        code, _, stderr = slide("predict", folder / "run", texts, "--text-column", "title", "--out", out)
        assert code == 2 and f"--out {out}: {message}" in stderr
    assert texts.read_text() == "title\nred apple\n" and load_model(model).label_names is not None


@pytest.mark.parametrize("name", ["texts.tsv", "link", "other.tsv"])
def test_answers_do_not_replace_the_file_on_standard_input(slide, folder, tmp_path, monkeypatch, name):
    (tmp_path / "texts.tsv").write_text("title\nred apple\n")
    (tmp_path / "other.tsv").touch()
    (tmp_path / "link").symlink_to(tmp_path / "texts.tsv")
    with open(tmp_path / "texts.tsv") as file:
        monkeypatch.setattr(sys, "stdin", file)
        code, _, stderr = slide("predict", folder / "run", "-", "--text-column", "title", "--out", tmp_path / name)
    assert code == (0 if name == "other.tsv" else 2) and (not code or "is the file of the samples" in stderr)
    assert (tmp_path / "texts.tsv").read_text() == "title\nred apple\n"


def test_a_run_is_not_resumed_with_labels_of_other_names(slide, folder, tmp_path):
    command = [*COLUMNS, *SMALL[:2], "--hidden", "16", "--checkpoint-every", "1", "--out", tmp_path / "run"]
    assert slide("train", folder / "train.tsv", *command, "--epochs", "2")[0] == 0
    other = tmp_path / "other.tsv"
    other.write_text((folder / "train.tsv").read_text().replace("sky", "skyline"))
    code, _, stderr = slide("train", other, *command, "--epochs", "3", "--resume")
    assert code == 1 and "the names of labels differ from those of the run to resume" in stderr
    assert slide("train", folder / "train.tsv", *command, "--epochs", "3", "--resume")[0] == 0


def test_tables_without_a_row_are_named(slide, folder, tmp_path):
    (tmp_path / "header.tsv").write_text("title\ttags\n")
    header, to_run = tmp_path / "header.tsv", [*COLUMNS, "--out", tmp_path / "run"]
    for command in (
        ["train", header, *to_run],
        ["train", folder / "train.tsv", "--test", header, *to_run],
        ["evaluate", folder / "run", header],
    ):
        code, _, stderr = slide(*command)
        assert code == 1 and f"{tmp_path}/header.tsv: there are no texts" in stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_not_looked_into(slide, folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=fill, args=(tmp_path / "pipe",), daemon=True).start()
    code, _, stderr = slide("train", tmp_path / "pipe", *SMALL, "--out", tmp_path / "run")
    assert code == 1 and f"{tmp_path}/pipe: a pipe, whose beginning cannot be read twice; give a file, or -" in stderr
    with open(tmp_path / "pipe", "rb") as left:
        assert left.read() == b"0 0:1\n"


def fill(path):
    path.write_bytes(b"0 0:1\n")


def test_words_are_shown_that_speak_for_a_label(slide, folder):
    code, stdout, _ = slide("explain", folder / "run", "Azure plum zzz", "-k", "2", "--json")
    told = json.loads(stdout.splitlines()[-1])
    assert code == 0 and told["unknown"] == ["zzz"]
    by_label = {label["label"]: label for label in told["labels"]}
    assert by_label.keys() == {"blue", "fruit"}
    assert by_label["blue"]["features"][0][0] == "azure" and by_label["fruit"]["features"][0][0] == "plum"
    for label in told["labels"]:
        whole = sum(value for _, value in label["features"]) + label["rest"]
        assert whole == pytest.approx(label["logit"], rel=1e-4)
        assert len(label["similar"]) == 3 and label["label"] not in dict(label["similar"])


def test_a_model_of_texts_gets_a_new_index(slide, folder, tmp_path):
    many, plain = tmp_path / "many.tsv", tmp_path / "many.txt"
    many.write_text("title\n" + "".join(f"{text}\n" for text, _ in make_rows(400)))
    plain.write_text("".join(f"{text}\n" for text, _ in make_rows(400)))
    assert slide("train", folder / "train.tsv", *COLUMNS, *SMALL, "--out", tmp_path / "run")[0] == 0
    code, stdout, _ = slide("index", tmp_path / "run", many)
    assert code == 0 and "buckets" in stdout
    first = load_model(tmp_path / "run").index
    (tmp_path / "labelled.tsv").write_text(FORMATS["train.tsv"](make_rows(400)))
    assert slide("index", tmp_path / "run", tmp_path / "labelled.tsv")[0] == 0
    np.testing.assert_array_equal(load_model(tmp_path / "run").index.centroids, first.centroids)  # labels are no words
    assert "there is no column 'title'" in slide("index", tmp_path / "run", plain)[2]
    exact, indexed = (slide("predict", tmp_path / "run", plain, "--mode", mode)[1] for mode in ("exact", "index"))
    assert exact.count("\n") == indexed.count("\n") == 400
    assert load_model(tmp_path / "run").text is not None


@pytest.mark.slow
def test_the_best_model_of_a_run_knows_its_texts_too(slide, folder, tmp_path):
    command = [
        "train",
        folder / "train.tsv",
        *COLUMNS,
        *SMALL,
        "--test",
        folder / "test.tsv",
        "--out",
        tmp_path / "run",
    ]
    assert slide(*command, "--checkpoint-every", "4")[0] == 0
    best, last = (load_model(tmp_path / "run" / name) for name in ("checkpoints/best", "model"))
    assert best.text.settings == last.text.settings and best.label_names == last.label_names
    assert slide(*command, "--resume", "--epochs", "13")[0] == 0
    assert load_model(tmp_path / "run").text.settings == last.text.settings


def test_info_tells_what_features_are_made_of(slide, folder):
    code, stdout, _ = slide("info", folder / "run")
    assert code == 0 and "words" in stdout and "columns title" in stdout


def test_a_table_taken_for_plain_lines_is_told(slide, folder):
    for name in ("test.tsv", "train.csv", "train.jsonl"):
        code, _, stderr = slide("predict", folder / "run", folder / name)
        assert code == 0 and f"{name}: the first line looks like a table" in stderr and "--text-column title" in stderr
        assert "table" not in slide("predict", folder / "run", folder / name, "--text-column", "title")[2]
    assert "table" not in slide("predict", folder / "run", "-", given=b"a title\n")[2]


def answers_of(slide, folder, name, content, *options, **given):
    (folder / name).write_bytes(content)
    code, stdout, stderr = slide("predict", folder / "run", folder / name, "-k", 1, *options, **given)
    return code, stdout.splitlines(), stderr


def test_the_ending_of_a_csv_file_may_be_in_capitals(slide, folder):
    content = b'title\n"apple, navy"\n"red\nmoon"\n'
    code, answers, _ = answers_of(slide, folder, "one.CSV", content, "--text-column", "title")
    assert code == 0 and len(answers) == 2


@pytest.mark.parametrize("header", [b'"title","tags"\n', b"title , tags\n", b"\ntitle,tags\n"])
def test_the_header_of_a_table_is_known_as_tables_are_read(slide, folder, header):
    code, answers, stderr = answers_of(slide, folder, "q.csv", header + b'"apple","fruit"\n')
    assert code == 0 and (header[:1] == b"\n" or "the first line looks like a table" in stderr)
    code, answers, stderr = answers_of(slide, folder, "q.csv", header + b'"apple","fruit"\n', "--text-column", "title")
    assert code == 0 and len(answers) == 1 and "table" not in stderr
    code, _, stderr = answers_of(slide, folder, "q.csv", header + b'"apple\n', "--text-column", "title")
    assert code == 1 and f"q.csv, line {header.count(10) + 1}: " in stderr


def test_named_columns_go_before_labels_in_the_first_line(slide, folder, tmp_path):
    code, answers, _ = answers_of(slide, folder, "hl.tsv", b"title\t__label__\napple\tx\n", "--text-column", "title")
    assert code == 0 and len(answers) == 1
    lines = b'{"title": "red __label__x", "tags": "a"}\n{"title": "blue", "tags": "b"}\n' * 20
    (tmp_path / "train.jsonl").write_bytes(lines)
    code, stdout, stderr = slide("train", tmp_path / "train.jsonl", *COLUMNS, *SMALL, "--out", tmp_path / "run")
    assert code == 0 and load_model(tmp_path / "run").label_names == ["a", "b"]


def test_a_label_far_into_the_first_line_tells_fasttexts_format(slide, tmp_path):
    long = "apple pear violin " * 200
    lines = [f"{long}{word} __label__{label}\n" for word, label in (("x", "a"), ("y", "b"))]
    (tmp_path / "long.ft").write_text("".join(lines * 20))
    assert slide("train", tmp_path / "long.ft", *SMALL, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "long.ft.gz").write_bytes(gzip.compress((tmp_path / "long.ft").read_bytes()))
    assert slide("train", tmp_path / "long.ft.gz", *SMALL, "--out", tmp_path / "run2")[0] == 0


def test_text_in_utf_16_is_refused_as_plain_lines_too(slide, folder):
    code, answers, stderr = answers_of(slide, folder, "u16", "apple\npear\n".encode("utf-16-le"))
    assert code == 1 and not answers and "the first line contains NUL bytes" in stderr


def test_a_separator_that_occurs_nowhere_is_told(slide, folder, tmp_path):
    columns = ["--text-column", "title", "--label-column", "tags", "--label-separator"]
    for separator, told in ((";", True), ("|", False)):
        code, _, stderr = slide(
            "train", folder / "train.tsv", *columns, separator, *SMALL, "--out", tmp_path / separator
        )
        assert code == 0 and ("no text has more than one label with --label-separator ';'" in stderr) == told


def test_a_separator_that_lists_of_labels_do_not_need_is_told(slide, tmp_path):
    for name, tags, is_told in (
        ("one", ['["sour"]', '["sweet"]'], True),
        ("several", ['["sour"]', '["sweet", "red"]'], True),
        ("mixed", ['["sour"]', '"sweet|red"'], False),
    ):
        file, run = tmp_path / f"{name}.jsonl", tmp_path / name
        lines = [f'{{"title": "apple tree", "tags": {value}}}\n' for value in tags]
        file.write_text("".join(lines * 20), encoding="utf-8")
        code, _, stderr = slide("train", file, *COLUMNS, *SMALL, "--out", run)
        told = f"{file}: labels are in lists, so --label-separator '|' is not used\n"
        assert code == 0 and (told in stderr) == is_told and "no text has more than one label" not in stderr
        code, _, stderr = slide("evaluate", run, file, "--label-separator", "|")
        assert code == 0 and (told in stderr) == is_told
        code, _, stderr = slide("evaluate", run, file)  # as in training
        assert code == 0 and told not in stderr


def test_a_separator_that_seems_to_be_missing_is_told(slide, folder, tmp_path):
    columns = ["--text-column", "title", "--label-column", "tags"]
    code, _, stderr = slide("train", folder / "train.tsv", *columns, *SMALL, "--out", tmp_path / "run")
    assert code == 0 and "contain '|'; if a cell holds several labels, give --label-separator '|'" in stderr


@pytest.mark.parametrize(
    ("names", "mark"),
    [
        (["a,b", "a,c", "b,c", "a,b,c"], ","),
        (["a;b", "a;c", "b;c", "c;a", "d,e"], ";"),
        (["Poe, Edgar", "Woolf, Virginia"], None),  # as many parts as names
        (["a", "b", "c", "a,b"], None),
        (["a|b", "c|d", "e"], "|"),  # which names hardly ever contain
        (["['a'", "'b']", "['c']"], "lists written as text"),
        (['"a', 'b"', "c"], "in quotes"),
    ],
)
def test_a_separator_is_known_by_parts_that_come_again(names, mark):
    labels = rows_from_lists([[0], [1]], 4)
    told = _about_labels(None, Dataset(labels, labels), names)
    assert (told is None) if mark is None else (mark in told and "labels such as" in told)


def test_without_an_index_all_labels_are_scored(slide, folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    model = load_model(tmp_path / "run")
    save_model(tmp_path / "run" / "model", dataclasses.replace(model, index=None))
    exact = slide("predict", tmp_path / "run", "-", given=b"apple\nnavy\n")[1]
    code, stdout, stderr = slide("predict", tmp_path / "run", "-", "--mode", "index", given=b"apple\nnavy\n")
    assert code == 0 and stdout == exact and "has no index (slide index builds one), so all labels are scored" in stderr


def test_texts_none_of_whose_labels_is_known_are_refused(slide, folder, tmp_path):
    (tmp_path / "new.tsv").write_text("title\ttags\nred apple\tzzz\n")
    code, _, stderr = slide("evaluate", folder / "run", tmp_path / "new.tsv")
    assert code == 1 and stderr.endswith("new.tsv: the model has none of the labels of these texts\n")
    assert "left out 1 label that the model does not have" in stderr
    code, _, stderr = slide(
        "train", folder / "train.tsv", *COLUMNS, *SMALL, "--test", tmp_path / "new.tsv", "--out", tmp_path / "run"
    )
    assert code == 1 and "new.tsv: the training data has none of the labels of these texts" in stderr


def test_columns_of_labels_are_checked_where_the_model_knows_none(slide, folder, tmp_path):
    texts, tags = [text for text, _ in ROWS], [tags for _, tags in ROWS]
    SlideTextClassifier(hidden=4, epochs=1, n_workers=1, min_df=1).fit(texts, tags).save(tmp_path / "model")
    code, _, stderr = slide("evaluate", tmp_path / "model", folder / "test.tsv", "--text-column", "title")
    assert code == 2 and "texts to evaluate on need labels; name their column with --label-column" in stderr
    code, _, stderr = slide("evaluate", tmp_path / "model", folder / "train.txt", "--label-column", "tags")
    assert code == 2 and "--label-column is for tables and JSON; name their texts with --text-column" in stderr


@pytest.mark.parametrize("text", ["MATLAB or Python", "PAR1 binds apples", "GIF8 is no picture", "ARROW1 and FEA1"])
def test_texts_that_begin_like_a_format_are_texts(slide, folder, text):
    code, answers, _ = answers_of(slide, folder, "like", f"{text}\nred\n".encode())
    assert code == 0 and len(answers) == 2


def test_skipped_lines_are_told_where_none_is_left(slide, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"title": "a b", "tags": "x"}\n')
    columns = ["--text-column", "titel", "--label-column", "tags"]
    code, _, stderr = slide("train", tmp_path / "t.jsonl", *columns, "--on-error", "skip", "--out", tmp_path / "run")
    assert code == 1 and "1 line skipped, the first: " in stderr and "titel" in stderr


def test_a_label_may_come_late_in_the_first_line_of_standard_input(slide, tmp_path):
    content = "apple " * 3000 + "__label__a\npear __label__b\n"
    code, _, stderr = slide("train", "-", *SMALL, "--min-df", "1", "--out", tmp_path / "run", given=content.encode())
    assert code == 0, stderr


@pytest.mark.parametrize("first", ["a line without a label\n", "\n", "__lab"])
def test_labels_may_arrive_after_the_beginning_of_standard_input(slide, tmp_path, monkeypatch, first):
    class Slow(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(buffer if self.tell() else memoryview(buffer)[: len(first)])

    content = "".join([first, "el__a apple\n" if first == "__lab" else "", FORMATS["train.txt"](ROWS)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Slow(content.encode()))))
    code, _, stderr = slide("train", "-", *SMALL, "--on-error", "skip", "--out", tmp_path / "run")
    assert code == 0 and ("1 line skipped" in stderr) == ("without" in first)


def test_words_that_are_too_rare_are_told_with_the_file_and_the_option(slide, tmp_path):
    (tmp_path / "t.ft").write_text("__label__a red\n")
    code, _, stderr = slide("train", tmp_path / "t.ft", "--out", tmp_path / "run")
    assert code == 1 and "t.ft: no feature occurs in 2 of the 1 texts; lower min_df (--min-df)" in stderr


def test_a_pattern_that_is_too_large_is_told(slide, folder, tmp_path):
    code, _, stderr = slide(
        "train", folder / "train.tsv", *COLUMNS, "--token-pattern", "a{99999999999}", "--out", tmp_path
    )
    assert code == 2 and "token_pattern" in stderr and "a regular expression" in stderr


def test_a_column_of_texts_is_no_column_of_labels(slide, folder, tmp_path):
    columns = ["--text-column", "title", "--label-column", "title"]
    code, _, stderr = slide("train", folder / "train.tsv", *columns, "--out", tmp_path / "run")
    assert code == 2 and "--label-column: 'title' is also a column of the texts" in stderr


def test_columns_are_not_for_fasttext(slide, folder, tmp_path):
    code, _, stderr = slide("train", folder / "train.txt", *COLUMNS, "--out", tmp_path / "run")
    assert code == 2 and "train.txt is in fastText's format, which has no columns; leave out --text-column" in stderr


@pytest.mark.parametrize(
    ("command", "option", "code"),
    [
        ("predict", ["--text-column", "nosuch"], 2),
        ("evaluate", ["--text-column", "nosuch"], 2),
        ("evaluate", ["--label-column", "nosuch"], 2),
        ("evaluate", ["--label-separator", ";"], 2),
        ("evaluate", [], 0),
    ],
)
def test_columns_are_not_for_fasttext_that_a_model_of_tables_reads(slide, folder, command, option, code):
    found, _, stderr = slide(command, folder / "run", folder / "train.txt", *option)
    told = f"train.txt is in fastText's format, which has no columns; leave out {option[0]}" if code else ""
    assert found == code and told in stderr


def test_a_first_line_without_a_label_is_skipped_in_fasttexts_format(slide, folder, tmp_path):
    lines = ["no label\n", *["__label__a red apple\n", "__label__b blue sky\n"] * 20]
    (tmp_path / "t.ft").write_text("".join(lines))
    code, _, stderr = slide("train", tmp_path / "t.ft", *SMALL, "--out", tmp_path / "run")
    assert code == 1 and "t.ft, line 1: the label is missing; add one, or remove the line" in stderr
    skip = ["--on-error", "skip"]
    assert slide("train", tmp_path / "t.ft", *SMALL, *skip, "--out", tmp_path / "run")[0] == 0
    code, _, stderr = slide("evaluate", tmp_path / "run", tmp_path / "t.ft", *skip)
    assert code == 0 and "1 line skipped, the first: " in stderr


def test_names_of_columns_are_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "t.tsv").write_text("tïtle\ttägs\nred apple\tå\nred pear\tb\n", encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = ["train", tmp_path / "t.tsv", "--text-column", "tïtle", "--label-column", "tägs", "--out", tmp_path / "r"]
    command = [os.fsencode(part) for part in (sys.executable, "-m", "slide_fast", *command)]
    done = subprocess.run(command, env=os.environ | locale, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "r").label_names == ["b", "å"]


def test_the_same_samples_for_training_and_test_are_told(slide, folder, tmp_path):
    train = folder / "train.tsv"
    code, _, stderr = slide("train", train, "--test", train, *COLUMNS, *SMALL, "--out", tmp_path / "run")
    assert code == 0 and "is the file of the training samples" in stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"title": "a", "tags": "x"}]\n', "looks like a JSON array; write one object per line, without [ ]"),
        (b'"title"\t"tags"\n"a"\t"x"\n', "the first line has quotes around names"),
        (b'title, "tags"\na,x\n', "line 1: the first line has a space between ',' and a quote; remove it"),
        (b"title,tags\na, b,x\n", "3 fields, but the first line names 2 columns; put a field that holds ',' between"),
        (b'{"title": "a", "Tags": "x"}\n', "line 1: the label is missing in 'tags'"),
        (b'{"title": "a"\n', "line 1: not valid JSON (Expecting ',' delimiter, column 14)"),
        (
            b"PK\x03\x04" + b"." * 26 + b"xl/",
            "is an Excel workbook; texts are expected: save them as CSV in UTF-8, or as JSON lines",
        ),
        (
            b"PK\x03\x04" + b"." * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
            "is an OpenDocument file; texts are expected: save them as CSV",
        ),
    ],
)
def test_tables_that_are_none_are_told_with_what_to_do(slide, tmp_path, content, told):
    (tmp_path / "bad").write_bytes(content)
    code, _, stderr = slide("train", tmp_path / "bad", *COLUMNS, "--out", tmp_path / "run")
    assert code == 1 and told in stderr and len(stderr.splitlines()) == 1


def test_texts_without_options_are_told(slide, tmp_path):
    (tmp_path / "texts").write_text("the particular sadness of cakes\n")
    code, _, stderr = slide("train", tmp_path / "texts", "--out", tmp_path / "run")
    assert code == 1 and "looks like plain text; if it holds texts, train a model of texts" in stderr


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_commands_that_read_no_texts_say_so(slide, folder, capsys, command):
    code, _, stderr = slide(command, folder / "train.tsv")
    told = f"; slide {command} reads samples of numbers, not texts: save its samples as XMC text"
    assert code == 1 and told in stderr and "train a model of texts" not in stderr
    with pytest.raises(SystemExit):
        slide(command, folder / "train.tsv", "--text-column", "title")
    assert "--text-column title; this command reads samples of numbers, not texts; see" in capsys.readouterr().err


def test_a_text_to_explain_is_quoted(slide, folder, capsys):
    with pytest.raises(SystemExit):
        slide("explain", folder / "run", "red", "apple")
    assert "put the text between quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("2 5 3\n0,1 0:1 3:0.5\n 2:-1e-3\n", "XMC"),
        ("0,1 0:1 3:0.5\n2 1:1 2:1\n", "svmlight"),
        ("1:1 2:1\n1:1 4:1\n", "svmlight"),
        ("4 3 2\n0 0:1\n1 1:1\n", "XMC"),
        ("3 50 10\n\n1 1:1\n2 2:1\n", "XMC"),
        ("# made by hand\n2 qid:1 1:0.5 2:1 # first\n\n1 qid:1 1:0.2\n", "svmlight"),
    ],
)
def test_numbers_for_a_model_of_texts_are_told(slide, folder, tmp_path, content, kind):
    (tmp_path / "numbers").write_text(content)
    for command in ("evaluate", "index"):
        code, stdout, stderr = slide(command, folder / "run", tmp_path / "numbers")
        assert code == 1 and stdout == "" and len(stderr.splitlines()) == 1
        assert f"numbers, line 1: the file is {kind} text, which holds numbers; texts are expected: save" in stderr
    code, stdout, stderr = slide("predict", folder / "run", tmp_path / "numbers")  # lines of any kind may be texts
    assert code == 0 and len(stdout.splitlines()) == content.count("\n")
    assert f"numbers: looks like {kind} text, which holds numbers, but the model was trained on texts" in stderr


@pytest.mark.parametrize(
    "content",
    [
        b"3 5 7\nmoon and star\n",
        b"10:30 moon\n11:00 star\n",
        b"7 5 3\n",
        b"10:30 11:45\n12:00\nword\n",
        b"3 5 7\n10:30\n",
    ],
)
def test_texts_with_numbers_in_them_are_texts(slide, folder, content):
    code, stdout, _ = slide("predict", folder / "run", "-", given=content)
    assert code == 0 and len(stdout.splitlines()) == content.count(b"\n")


@pytest.mark.parametrize("command", ["predict", "evaluate", "index"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_model_of_numbers_refuses_texts(slide, folder, tmp_path, command, name):
    (tmp_path / "xmc").write_text("3 3 2\n0 0:1\n1 1:1\n0 2:1\n")
    assert slide("train", tmp_path / "xmc", *SMALL, "--out", tmp_path / "run")[0] == 0
    code, stdout, stderr = slide(command, tmp_path / "run", folder / name)
    assert code == 1 and stdout == "" and len(stderr.splitlines()) == 1
    assert f"{name}, line 1: " in stderr and f"; the model {tmp_path}/run expects numbers, not texts: save " in stderr


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["CARS", "Cars", "boats", "cars"],
            "2 pairs of labels that differ only in upper and lower case, such as 'CARS' and",
        ),
        (
            ["STRASSE", "straße"],
            "1 pair of labels that differ only in upper and lower case, such as 'STRASSE' and 'straße'",
        ),
        (["boats", "boat", "cars"], None),
    ],
)
def test_labels_that_differ_in_case_are_told(slide, tmp_path, names, told):
    lines = [f"red {name}\t{name}\n" for name in names * 2]
    (tmp_path / "t.tsv").write_text("".join(["title\ttags\n", *lines]), encoding="utf-8")
    code, _, stderr = slide("train", tmp_path / "t.tsv", *COLUMNS[:4], *SMALL, "--out", tmp_path / "run")
    notes = [line for line in stderr.splitlines() if "upper and lower case" in line]
    assert code == 0 and len(notes) == (told is not None)
    assert told is None or notes[0].startswith(f"{tmp_path}/t.tsv: {told}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            "--text-column t --label-column l --token-pattern x*",
            "token_pattern is 'x*'; it must be a regular expression that matches no empty word",
        ),
        (
            "--text-column t --label-column l --token-pattern (",
            "token_pattern is '('; it must be a regular expression (",
        ),
        ("--text-column t --char-ngrams 2,3 --min-df 2 --buckets 9", "--min-df has no effect with --buckets"),
        ("--text-column t --label-column l --labels y", "--labels cannot be used with texts"),
        ("--text-column t", "texts to train on need labels; name their column with --label-column"),
        ("--text-column t --label-separator=", "--label-separator is empty"),
        ("--text-column t --text-column u --text-column t", "--text-column: 't' is given twice; leave one out"),
    ],
)
def test_options_about_texts_are_checked_before_the_texts_are_read(slide, monkeypatch, tmp_path, options, told):
    def read(path):
        raise AssertionError("read")

    (tmp_path / "y").touch()
    monkeypatch.setattr("slide_fast.cli.texts.first_bytes", read)
    options = options.replace(" y", f" {tmp_path}/y").split(" ")
    code, stdout, stderr = slide("train", "-", *options, "--out", tmp_path / "run")
    assert code == 2 and told in stderr and len(stderr.splitlines()) == 1 and not (tmp_path / "run").exists()
