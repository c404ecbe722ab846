"""The training behind an estimator's `fit` and `partial_fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.index import IndexSamples, samples_for_index
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.model_folder import Model
from slide_ref.common.validation import kept_aside, split

from ..display.console import Console
from ..display.training_table import TrainingDisplay
from ..engine.auto_settings import OF_INPUTS, decides_width, suited
from ..engine.checkpoints import TrainingState
from ..engine.handover import Handover
from ..engine.progress import Event, tell_all
from ..engine.training_info import KEPT_EVENTS
from ..training import TrainingInterrupted, fit_with_state
from . import validation
from .class_weights import weights_of_samples
from .parameters import names_given
from .validation import Labels

if TYPE_CHECKING:
    from .classifier import SlideClassifier


SHOWN = ("max_seconds", "eval_every", "eval_samples", "patience", "eval_metric")  # options that the display follows
OF_FIT = "settings_of_fit"  # key of facts
FORCED = ("epochs", "decay", "in_batch", "warmup_steps")  # settings that `partial_fit` does not take from the user


class Part(NamedTuple):
    """A part of a stream: the settings that `fit` would have, and the model of the parts before."""

    wanted: Config
    before: Model | None

    def noted(self, model: Model) -> Model:
        """Return the model of all parts so far: samples and labels counted add up, settings of `fit` are kept."""
        settings = self.wanted.to_dict()
        facts = model.facts | {OF_FIT: {key: settings[key] for key in FORCED}}
        model, before = dataclasses.replace(model, facts=facts), self.before
        if before is None or before.label_counts is None or model.label_counts is None:
            return model
        n_labels, n_labelled = 0.0, 0.0
        for part in (before, model):
            n = int(part.label_counts.sum())  # type: ignore[union-attr]
            n_labels += n
            n_labelled += n / (part.facts.get("labels_per_sample") or 1)
        facts["labels_per_sample"] = n_labels / max(n_labelled, 1)
        facts["n_train_samples"] += before.facts.get("n_train_samples", 0)
        return dataclasses.replace(model, facts=facts, label_counts=before.label_counts + model.label_counts)

    def cut_short(self, model: Model) -> Model:
        """Return a model whose last part was interrupted: that does not count, as it will be given again."""
        model, before = self.noted(model), self.before
        if before is None:
            return dataclasses.replace(model, label_counts=None, facts=model.facts | {"n_train_samples": 0})
        kept = {key: before.facts[key] for key in ("labels_per_sample", "n_train_samples") if key in before.facts}
        return dataclasses.replace(model, facts=model.facts | kept, label_counts=before.label_counts)


class Given(NamedTuple):
    """Arguments of `SlideClassifier.fit` other than the samples, and related parameters; `part` in `partial_fit`."""

    sample_weight: Any = None
    eval_set: tuple[Any, Any] | str | Path | None = None
    callback: Callable[[Event], None] | None = None
    validation_fraction: float | None = None
    class_weight: Any = None
    part: Part | None = None


def train(
    estimator: SlideClassifier,
    config: Config,
    options: dict[str, Any],
    samples: Handover[tuple[SparseRows, Labels]],
    given: Given,
    goes_on: bool,
    keeps_state: bool,
) -> None:
    """Train a new network for an estimator, or its current one if it `goes_on`, and set the fitted attributes.

    On Ctrl-C the estimator keeps what had been learned, if anything.
    """
    features, labels = samples.take()
    weights = validation.as_weights(given.sample_weight, features.n_rows)
    held_out = None if given.eval_set is None else _held_out(estimator, given.eval_set)
    estimator.labels_per_sample_, estimator.history_ = labels.per_sample, [*estimator.history_]
    data = Dataset(features, labels.rows)
    if given.validation_fraction is not None:
        aside = kept_aside(config.seed, data.n_samples, given.validation_fraction)
        data, held_out = split(data, aside)
        weights = None if weights is None else weights[~aside]
    config, part = _chosen(estimator, config, given.part, data, goes_on)
    state = TrainingState.of(estimator.model_, getattr(estimator, "_state", None)) if goes_on else None
    begun = 0 if state is None else state.past.all_steps
    weights = weights_of_samples(given.class_weight, data.labels, estimator.classes_, weights)
    estimator._index_samples = _samples_for_index(estimator, config.seed, data.features, goes_on)
    n_test = 0 if held_out is None else held_out.n_samples
    samples_to_train, samples_to_test = Handover(data), None if held_out is None else Handover(held_out)
    weights_to_train = Handover(weights)
    del features, labels, data, held_out, weights  # none of these is to lie beside the copy that is trained on
    text = estimator.model_.text if goes_on else estimator._text_columns()

    def note(event: Event) -> None:
        if event["kind"] in KEPT_EVENTS:
            estimator.history_.append(dict(event))

    with Console() as console:
        listeners: list[Callable[[Event], None]] = [note]
        if given.callback is not None:
            callback = given.callback
            listeners.append(lambda event: callback(dict(event)))  # what it does to the event concerns nobody else
        if estimator.verbose:
            shown = {key: options[key] for key in SHOWN}
            listeners.append(TrainingDisplay(console, config, n_labels=len(estimator.classes_), n_test=n_test, **shown))
        try:
            model, end = fit_with_state(
                config, samples_to_train, test=samples_to_test, weights=weights_to_train, state=state,
                callback=tell_all(listeners), text=text, **options,
            )  # fmt: skip
        except TrainingInterrupted as interrupted:
            if interrupted.model.facts["steps"] > begun:
                _set_model(estimator, None, part.cut_short(interrupted.model) if part else interrupted.model)
            raise
    if part is not None:
        model = part.noted(model) if model.facts["steps"] > begun else part.cut_short(model)
    _set_model(estimator, end if keeps_state else None, model)


def _set_model(estimator: SlideClassifier, state: TrainingState | None, model: Model) -> None:
    estimator._state, estimator.model_ = state, model
    estimator.labels_per_sample_ = model.facts["labels_per_sample"]


def _chosen(
    estimator: SlideClassifier, config: Config, part: Part | None, data: Dataset, goes_on: bool
) -> tuple[Config, Part | None]:
    """Return settings, and those that `fit` would have, chosen for the data or the network's if training goes on."""
    given = names_given(estimator)
    if part is None:
        return _completed(estimator, config, data, goes_on, given), None
    part = part._replace(wanted=_completed(estimator, part.wanted, data, goes_on, given))
    return _completed(estimator, config, data, goes_on, given.union(FORCED)), part


def _completed(estimator: SlideClassifier, config: Config, data: Dataset, goes_on: bool, given: set[str]) -> Config:
    """Return settings with those that are not given chosen for the data, or taken from the network."""
    if not goes_on:
        return suited(config, data, given)[0]
    model, of_fit = estimator.model_, estimator.model_.facts.get(OF_FIT)
    trained = model.config.to_dict() | (of_fit if isinstance(of_fit, dict) else {})
    names = {name for name in OF_INPUTS if name not in given}
    if not decides_width(given):
        names |= {"hidden", "lsh", *({"in_batch"} - given), *(() if config.epochs else ("epochs",))}
    return config.replace(**{name: trained[name] for name in names})


def _samples_for_index(
    estimator: SlideClassifier, seed: int, features: SparseRows, goes_on: bool
) -> IndexSamples | None:
    """Draw samples to build an index from; if further training has fewer than before, keep the earlier ones."""
    before = getattr(estimator, "_index_samples", None) if goes_on else None
    if features.n_rows < 2:
        return before
    samples = samples_for_index(seed, features)
    return before if before is not None and before.clustered.n_rows > samples.clustered.n_rows else samples


def _held_out(estimator: SlideClassifier, eval_set: Any) -> Dataset:
    """Return samples to evaluate on, from (X, y) or a path."""
    X, y = (eval_set, None) if validation.is_path(eval_set) else eval_set
    try:
        features, labels = estimator._samples_of(estimator._rows_of(X), y, True, name="y of eval_set")
    except DataError as error:
        if "eval_set" in str(error):
            raise
        raise DataError(f"eval_set: {error}") from error
    return Dataset(features, labels.rows)
