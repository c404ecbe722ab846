"""Reading of whole files of texts: what goes on in the main process meanwhile."""

import gc

import pytest

from slide_fast.text import reading
from slide_fast.text.reading import counted, read_training
from slide_fast.text.settings import TextSettings
from slide_fast.text.sources import TextFile
from slide_ref.common.errors import DataError


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("last", ["__label__b green\n", "no label\n"])
def test_the_search_for_cycles_is_as_before(tmp_path, is_enabled, last):
    (tmp_path / "texts").write_text("__label__a red\n" * 5 + last)
    try:
        (gc.enable if is_enabled else gc.disable)()
        try:
            read_training(TextFile(tmp_path / "texts", None), TextSettings.checked(min_df=1), 1)
            assert last.startswith("__label__")
        except DataError:
            assert last == "no label\n"
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()


def test_batches_are_read_ahead(monkeypatch):
    drawn, most, options = [], 0, []
    run = reading.Pool.run

    def noted(pool, tasks, **some):
        options.append(some)
        return run(pool, tasks, **some)

    monkeypatch.setattr(reading.Pool, "run", noted)

    def batches():
        for i in range(40):
            drawn.append(i)
            yield [f"word{i}"]

    for n_done, _ in enumerate(counted(batches(), TextSettings.checked(), 2)):
        most = max(most, len(drawn) - n_done)
    assert len(drawn) == 40 and most > 4
    assert options == [{"ahead": reading.AHEAD}]
