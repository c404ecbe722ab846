"""Where commands and functions write to: files appear whole, and what is no regular file is written as it is."""

import os
import subprocess
import sys
import threading

import pytest
from problems import random_dataset

from slide_fast.data import read_dataset, write_npz, write_xmc
from slide_ref.common.storage.complete_file import complete_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and links of POSIX")
DATA = random_dataset(0)


def slide(place, command):
    return subprocess.run(["bash", "-c", f'slide() {{ "{sys.executable}" -m slide_fast "$@"; }}; {command}'],
                          cwd=place, capture_output=True, text=True, timeout=100)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with samples, a run, and what `slide predict` answers."""
    folder = tmp_path_factory.mktemp("place")
    write_xmc(folder / "new.txt", DATA)
    options = "--hidden 4 --epochs 1 --workers 1"
    assert (
        slide(folder, f"slide train new.txt --out run {options} && slide predict run new.txt --out wanted").returncode
        == 0
    )
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "slide predict run new.txt --out /dev/stdout",
        pytest.param("slide predict run new.txt --out - | cat", marks=pytest.mark.slow),
        "slide predict run new.txt --out /dev/fd/3 3>&1 >/dev/null",
        pytest.param("{ slide predict run new.txt --out >(cat >&3) >/dev/null; } 3>&1 | cat", marks=pytest.mark.slow),
        "mkfifo pipe; slide predict run new.txt --out pipe >/dev/null & cat pipe; wait",
        "echo > file; slide predict run new.txt --out /dev/stdout >> file; test -z $(head -1 file) && tail -n +2 file",
        pytest.param(
            "ln -s aim link; slide predict run new.txt --out link > /dev/null; test -L link && cat aim",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_predictions_go_where_the_shell_says(place, command):
    done = slide(place, command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "wanted").read_text()


def test_predictions_beside_json_need_a_file(place):
    done = slide(place, "slide predict run new.txt --out /dev/stdout --json")
    assert done.returncode == 2 and "--json needs --out" in done.stderr


def test_a_reader_that_has_enough_ends_predict_quietly(place):
    done = slide(place, "mkfifo short; exec 3<>short 4>short 3>&-; slide predict run new.txt --out /dev/fd/4")
    assert (done.returncode, done.stderr) == (141, "")


def test_output_into_no_folder_is_one_line(place):
    for command in ("predict run new.txt --out no/file", "plot run --out no/file.png"):
        done = slide(place, f"slide {command}")
        if "matplotlib" not in done.stderr and "no evaluation" not in done.stderr:
            assert done.returncode == 1
            assert done.stderr.splitlines() == [
                f"slide: error: {command.split()[-1]}: cannot be written (there is no folder no); choose another file"
            ]


@pytest.mark.parametrize("write", [write_xmc, write_npz])
def test_data_go_through_pipes_and_links(tmp_path, write):
    name = "data.npz" if write is write_npz else "data.txt"
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=write, args=(tmp_path / "pipe", DATA))
    thread.start()
    (tmp_path / name).write_bytes((tmp_path / "pipe").read_bytes())
    thread.join()
    assert read_dataset(tmp_path / name).n_samples == DATA.n_samples
    (tmp_path / f"link-{name}").symlink_to(tmp_path / name)
    before = (tmp_path / name).stat().st_ino
    write(tmp_path / f"link-{name}", DATA)
    assert (tmp_path / f"link-{name}").is_symlink() and (tmp_path / name).stat().st_ino != before
    write("/dev/null", DATA)
    assert not os.path.isfile("/dev/null")


def test_a_file_that_may_not_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("mine")
    path.chmod(0o400)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everything
    with pytest.raises(PermissionError), complete_file(path):
        pass
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
