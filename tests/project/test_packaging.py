"""What is built, installed and imported: wheel and sdist, an environment without extras, types."""

import email
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
BARE = """
import importlib.metadata, importlib.util
import numpy as np
from slide_fast import SlideClassifier
assert not any(importlib.util.find_spec(name) for name in ("sklearn", "scipy", "matplotlib", "pandas"))
X, y = np.eye(4).repeat(50, axis=0), np.array(list("abcd")).repeat(50)
model = SlideClassifier(hidden=(8,), epochs=30, micro_batch=20, learning_rate=0.05, n_workers=2).fit(X, y)
print(model.score(X, y), importlib.metadata.version("slide-numpy"))
"""
DEMO = """
import sys
from functools import partial
from pathlib import Path
from slide_fast.cli import demo
from slide_fast.cli.main import main
demo.build_task = partial(demo.build_task, Path(sys.argv[1]))
sys.exit(main(["demo", "--out", "demo"]))
"""


def run(*arguments, folder):
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(arguments, cwd=folder, env=clean, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_packages_say_that_they_have_types():
    for package in ("slide_ref", "slide_fast"):
        assert (ROOT / package / "py.typed").is_file()


@pytest.mark.slow
def test_wheel_and_sdist_install_alone_and_run_the_demo(tmp_path):
    """The wheel is made from the sdist, so that both are whole; the demo reads two packages of the standard library."""
    copy = tmp_path / "source"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "site", "*.egg-info", "__pycache__")
    )
    run(sys.executable, "-m", "venv", str(tmp_path / "tools"), folder=tmp_path)
    tools, bare = tmp_path / "tools" / "bin" / "python", tmp_path / "bare" / "bin"
    run(str(tools), "-m", "pip", "install", "-q", "build", folder=tmp_path)
    run(str(tools), "-m", "build", "-q", "--outdir", str(tmp_path / "dist"), str(copy), folder=tmp_path)
    (wheel,), (sdist,) = (list((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    assert wheel.name.endswith("-py3-none-any.whl") and sdist.stat().st_size > 0
    names = zipfile.ZipFile(wheel).namelist()
    assert {"slide_fast/py.typed", "slide_ref/py.typed", "slide_ref/common/config.py"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".pyd", ".c"))]
    venv.create(tmp_path / "bare", with_pip=True)
    run(str(bare / "python"), "-m", "pip", "install", "-q", str(wheel), folder=tmp_path)
    assert run(str(bare / "python"), "-c", BARE, folder=tmp_path).split() == ["1.0", VERSION]
    for package in (json, email):
        shutil.copytree(Path(package.__file__).parent, tmp_path / "library" / package.__name__)
    run(str(bare / "python"), "-c", DEMO, "library", folder=tmp_path)
    assert "slide" in run(str(bare / "slide"), "--version", folder=tmp_path)
    assert (tmp_path / "demo" / "model" / "config.json").is_file()
