"""What commands say of files that are not what they take them for, and of folders that hold a run already."""

import bz2
import gzip
import io
import lzma
import pickle
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest


@pytest.mark.parametrize(
    "command",
    ["train {data}/train.txt --out {run}/model/sub {small}", "train {data}/train.txt --out {run}/model/a/b {small}",
     "plot {run} --out {run}/model/a.png", "generate {run}/model/data", "generate {run}/model"],
)  # fmt: skip
def test_nothing_is_written_into_a_model_folder(slide, trained, command):
    """The next that replaces the model would remove it."""
    before = sorted(trained.rglob("*"))
    code, _, stderr = slide(command)
    assert code == 2 and stderr.endswith(": lies in a model folder; choose another place\n")
    assert sorted(trained.rglob("*")) == before


def archive(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(zipfile.ZipInfo(name), content)  # of 1980: a time of today may hold a line feed
    return file.getvalue()


def tar(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as target:
        entry = tarfile.TarInfo("train.txt")
        entry.size = len(content)
        target.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def saved(save, *arguments):
    file = io.BytesIO()
    save(file, *arguments)
    return file.getvalue()


SAMPLES = b"2 4 5\n0,1 0:1\n4 1:1\n"
KINDS = {
    "bzip2": bz2.compress(SAMPLES),
    "xz": lzma.compress(SAMPLES),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x58",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "Unix compress": b"\x1f\x9d\x90",
    "zip archive": archive("train.txt", SAMPLES),
    "Excel": archive("[Content_Types].xml", b""),
    ".npz archive": saved(np.savez, np.ones(3)),
    "tar archive": tar(SAMPLES),
    "NumPy array": saved(np.save, np.ones(3)),
    "Parquet": b"PAR1\x15\x04",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "Arrow": b"ARROW1\0\0",
    "pickle": pickle.dumps([SAMPLES]),
    "SQLite": b"SQLite format 3\0",
    "PDF": b"%PDF-1.7\n",
    "picture": b"\x89PNG\r\n\x1a\n",
    "begins with a byte order mark;": b"\xef\xbb\xbf0 1:1\n",
    "byte order mark of UTF-16": SAMPLES.decode().encode("utf-16"),
    "NUL bytes": SAMPLES.decode().encode("utf-16-le"),
    "CR alone": b"2 4 5\r0 0:1\r4 1:1\r",
    "(CSV)": b"label,text\n1,a b\n",
    "looks like comma": b"5.1,3.5,1.4,0.2,0\n",
    "(TSV)": b"label\ttext\n1\ta b\n",
    "JSON": b'{"labels": [0, 1], "features": {"0": 1}}\n',
    "HTML": b"<!DOCTYPE html>\n",
    "fastText": b"__label__a some text\n",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "file is empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", ["file", "file.svm"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_another_kind_is_named(slide, tmp_path, name, kind, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(KINDS[kind]) if packed else KINDS[kind])
    code, stdout, stderr = slide("predict {run}", path)
    assert (code, stdout) == (1, "") and stderr.startswith(f"slide: error: {path}, line 1: the file ")
    assert kind in stderr and "; " in stderr and "header" not in stderr and len(stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["evaluate {run}", "verify", "bench", "train --out {data}/new", "predict {run}"])
def test_every_command_names_it(slide, tmp_path, command):
    (tmp_path / "file").write_bytes(KINDS["bzip2"])
    code, _, stderr = slide(command, tmp_path / "file")
    assert (
        code == 1
        and stderr == f"slide: error: {tmp_path}/file, line 1: the file is compressed with bzip2; unpack it first\n"
    )


def test_one_format_under_the_name_of_another_is_told(slide, tmp_path):
    for name, content, wanted in (
        ("a.svm", SAMPLES, "the file begins with the header of XMC text; give it a name that ends in .txt"),
        ("a.txt", b"0 1:1\n", "the file begins with a sample; put the header"),
    ):
        (tmp_path / name).write_bytes(content)
        assert f"{name}, line 1: {wanted}" in slide("predict {run}", tmp_path / name)[2]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("0, 1 1:1", "label '' is not a whole number of 0 or more; labels are separated by ',' without spaces"),
        ("0;1 1:1", "label '0;1' is not a whole number of 0 or more; labels are separated by ',' without spaces"),
        ("0 1 1:1", "'1' is not of the form feature:value; labels are separated by ',' without spaces"),
        ("0 1:0,5", "finite in float32; write a decimal point instead of the comma"),
        ("0 1:1,2:1", "finite in float32; features are separated by spaces only"),
        ("0 -1:1", "feature id '-1' is not a whole number below 2147483648\n"),
        (" 1:1\r 2:1", "it contains a carriage return: end all lines in LF or CR LF"),
        ("99999999999 1:1", "label id '99999999999' is not a whole number below 2147483648\n"),
    ],
)
def test_usual_mistakes_in_svmlight_text_are_named(slide, tmp_path, line, wanted):
    (tmp_path / "a.svm").write_text(f"0 1:1\n{line}\n0 2:1\n", newline="")
    code, _, stderr = slide("predict {run}", tmp_path / "a.svm")
    assert code == 1 and "a.svm, line 2, column " in stderr and wanted in stderr and "header" not in stderr


def test_models_and_samples_that_changed_places_are_told(slide, data):
    assert "run: the file cannot be read: it is the folder of a model; give samples" in slide("predict {run} {run}")[2]
    assert "test.txt: is a file; give the folder of a model" in slide("predict {data}/test.txt {run}")[2]
    assert f"{data}: the file cannot be read: it is a folder; give a file" in slide("predict {run} {data}")[2]


@pytest.mark.parametrize("option", ["--config", "--label-names"])
def test_other_kinds_of_settings_and_names_are_named(slide, tmp_path, option):
    for kind in ("bzip2", "byte order mark of UTF-16", "NumPy array"):
        (tmp_path / "file").write_bytes(KINDS[kind])
        code, _, stderr = slide("train {data}/tiny", option, tmp_path / "file", "--out", tmp_path / "run")
        assert code == 1 and stderr.startswith(f"slide: error: {tmp_path}/file, line ") and kind in stderr


def test_a_byte_order_mark_of_settings_is_named(slide, tmp_path):
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfepochs = 1\n")
    stderr = slide("train {data}/tiny --config", tmp_path / "file", "--out", tmp_path / "run")[2]
    assert "file, line 1: the file begins with a byte order mark; save it as UTF-8 without one" in stderr


def test_a_finished_run_is_told_of_before_data_are_read(slide, tmp_path):
    run = tmp_path / "run"
    assert slide("train {data}/tiny {small} --out", run)[0] == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in ("train {data}/missing", "demo"):
        code, stdout, stderr = slide(f"{command} --out", run)
        line = f"slide: error: {run}: holds a trained model; --overwrite replaces it, or choose another folder"
        assert (code, stdout, stderr.splitlines()) == (2, "", [line])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert slide("train {data}/tiny {small} --seed 5 --overwrite --out", run)[0] == 0
    assert (run / "config.toml").read_bytes() != before[run / "config.toml"]


def test_resuming_needs_no_overwrite(slide, tmp_path):
    run = tmp_path / "run"
    assert slide("train {data}/train.txt {small} --checkpoint-every 1 --out", run)[0] == 0
    assert "--resume continues from its last checkpoint, --overwrite" in slide("train {data}/train.txt --out", run)[2]
    assert slide("train {data}/train.txt --workers 1 --epochs 3 --resume --out", run)[0] == 0
    with pytest.raises(SystemExit, match="2"):
        slide("train {data}/train.txt --resume --overwrite --out", run)


def test_a_run_at_work_keeps_others_out(slide, tmp_path):
    code = (
        "import sys; from slide_fast.cli.run_folder import RunFolder as Folder\n"
        "with Folder(sys.argv[1]): print(); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "run"], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        for options in ("", "--overwrite"):
            code, _, stderr = slide(f"train {{data}}/missing {options} --out", tmp_path / "run")
            assert code == 1 and "run: another run is training there; " in stderr
        other.communicate("\n")
