"""``slide train`` judged by a metric, on test samples or on some of the training samples."""

import json

import pytest

from slide_ref.common.storage.model_folder import load_model

TRAIN = "train {data}/train.txt --json {small} --out"


def test_s38_training_samples_are_kept_aside(slide, tmp_path):
    stop = ["--eval-metric", "loss", "--patience", "1", "--epochs", "30", "--learning-rate", "0.3"]
    code, out, err = slide(TRAIN, tmp_path / "run", "--validation-fraction", "0.2", *stop)
    figures, model = json.loads(out.splitlines()[-1]), load_model(tmp_path / "run/model")
    assert code == 0 and model.facts["n_train_samples"] == 240 and figures["epochs"] < 30
    assert figures["n_train_samples"] == 240 and figures["n_test_samples"] == 60
    assert "60 of the training samples" in err and "test loss" in err
    events = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [event["held_out_loss"] for event in events if event["kind"] == "evaluation"]
    assert figures["held_out_loss"] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize(("n_samples", "chosen"), [(2_100, False), (2_300, True)])
def test_samples_that_are_kept_aside_choose_no_settings(slide, tmp_path, n_samples, chosen):
    path = tmp_path / "dense.txt"
    path.write_text(f"{n_samples} 2 5\n" + "".join(f"{i % 5} 0:1.5 1:{1 + i % 5}\n" for i in range(n_samples)))
    code, _, err = slide(f"train {path} --validation-fraction 0.1 --epochs 1 --workers 1 --out", tmp_path / "run")
    assert code == 0 and ("inputs are dense" in err) == chosen and "of the training samples" in err


def test_psp_is_shown_and_a_metric_has_a_column(slide, tmp_path):
    code, out, err = slide("train {data}/train.txt --test {data}/test.txt --json {small} --eval-metric psp_at_5 --out",
                           tmp_path / "run")  # fmt: skip
    figures = json.loads(out.splitlines()[-1])
    rows = [line.replace(" %", "").split() for line in err.splitlines()]
    head, row = (next(row for row in rows if row[:1] == [first]) for first in ("epoch", "2.00"))
    assert code == 0 and f"{100 * figures['psp_at_5']:.2f}" == row[head.index("PSP@5")]
    assert figures["held_out_loss"] is None and "PSP" in err


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("train x --out y --validation-fraction 1", "'1' is not a number above 0 and below 1"),
        ("train x --out y --test z --validation-fraction 0.1", "--test or --validation-fraction, not both"),
        ("train x --out y --patience 3", "--patience needs samples to evaluate on"),
        ("train x --out y --mpi --validation-fraction 0.1", "--mpi does not support --validation-fraction"),
        ("train x --out y --mpi --test z --eval-metric loss", "--mpi does not support --eval-metric loss"),
        ("train x --out y --eval-metric ndcg_at_4", "'ndcg_at_4' is none of precision_at_1"),
    ],
)
def test_what_does_not_go_together_is_bad_use(slide, capsys, command, wanted):
    with pytest.raises(SystemExit, match="2"):
        slide(command)
    assert wanted in capsys.readouterr().err
