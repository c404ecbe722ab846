"""The scripts of the gallery do what their page says, here on fewer samples."""

import importlib.util
from pathlib import Path

import pytest

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
pytestmark = pytest.mark.slow


def script(name):
    specification = importlib.util.spec_from_file_location(name, GALLERY / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tags_of_texts(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    shares = script("tags_of_texts").main(2000, tmp_path / "picture.png")
    assert shares["SLIDE"][0] > shares["the commonest tags"][0] > 0
    assert "texts for testing" in capsys.readouterr().out and (tmp_path / "picture.png").stat().st_size > 0


def test_next_item(monkeypatch):
    pytest.importorskip("scipy")
    module = script("next_item")
    monkeypatch.setattr(module, "N_ITEMS", 500)
    shares = module.main(1500)
    assert shares["SLIDE"][19] > shares["the most popular"][19] > 0


def test_classes_of_embeddings():
    pytest.importorskip("sklearn")
    accuracy = script("classes_of_embeddings").main(60)
    assert all(len(values) == 4 and values[0] > 0.5 for values in accuracy.values())


def test_every_script_is_tried_here():
    assert {path.stem for path in GALLERY.glob("*.py")} == {"tags_of_texts", "next_item", "classes_of_embeddings"}
