"""Settings of a network and its training, checked on construction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .checks import check_types, is_whole, known_names, layer_sizes, one_of, plain, require
from .errors import ConfigError
from .lsh_config import CENTROID_TABLES, LshConfig, lsh_of

SCOPES = ("batch", "sample")
OPTIMIZERS = ("adam", "sgd")
INITIAL_WEIGHTS = ("gaussian", "mirrored")
CHOICES = {
    "scope": SCOPES,
    "optimizer": OPTIMIZERS,
    "decay": ("constant", "linear", "cosine"),
    "initial_weights": INITIAL_WEIGHTS,
}
RECALL = 0.95  # that an index for prediction is to have, unless the user says otherwise
EVAL_METRICS = (*(f"{measure}_at_{k}" for measure in ("precision", "ndcg", "psp") for k in (1, 3, 5)), "loss")
WEIGHT_DTYPES = ("float32", "float16")  # of the weights in a model folder
LARGEST_STEP = 10.0  # of Adam, in units of the learning rate
WIDE: dict[str, Any] = {"hidden": [1024], "epochs": 6, "lsh": {"L": 0, "min_active": 0}}
"""Settings of a wide network, trained only against the labels of the micro-batch."""


@dataclass(frozen=True)
class Config:
    """All settings that define a training run, apart from the data.

    They are checked on construction: ConfigError names the first that is out of range or of a wrong type. NumPy numbers
    are accepted.

    Attributes
    ----------
    hidden : tuple of int
        Neurons of each hidden layer, first to last; a list, an array or a single number is accepted too.
    scope : str
        ``"sample"``: each sample has its own active set, as in the paper; ``"batch"``: the samples of a micro-batch
        share the union of their active sets.
    micro_batch : int
        Samples that one worker processes at once.
    epochs : int
        Passes over the training samples. 0: 5, or up to 10 for fewer than 30,000 samples (S13).
    in_batch : float
        Fraction of the steps, at the start of a run, in which a sampled output layer queries no tables: its negatives
        are the labels of the micro-batch and a quarter of the padding (S32). Only in scope ``"batch"``.
    overfit_limit : float
        From 0 to 1. A run memorises its samples if the loss of samples seen a second time has fallen by more than this
        fraction; the output's tables are then not queried (S37). 1: they always are.
    correction : bool
        Whether training corrects the logits of a sampled output layer for the neurons left out (S30).
    optimizer : str
        ``"adam"`` (S12) or ``"sgd"`` (S26).
    learning_rate : float
        Largest learning rate of the run; `warmup_steps` and `decay` set how it changes. 0: chosen by the number of
        steps, 1e-2 in short runs and 4e-3 in long ones, less in wide layers (S27).
    warmup_steps : int
        Steps over which the learning rate rises to its largest value.
    decay : str
        How the learning rate falls after warm-up: ``"constant"`` (not at all), ``"linear"`` or ``"cosine"`` (S27).
    beta1, beta2, epsilon : float
        Adam's settings (S12): beta1 and beta2 at least 0 and below 1, epsilon at least 2^-126. With beta1 = 0 there
        are no first moments: this saves memory, and rare rows take larger steps.
    weight_decay : float
        Only for Adam: decay of the weights of a touched feature at each update, in units of the learning rate (S12).
    input_scale : float
        Above 0; about 1 / the length of a sample. The weights of the first layer are initialised and updated at this
        scale (S39), so that training does not depend on the units of the inputs. Unless it is set, the estimators and
        ``slide train`` on one machine choose it if the typical length of a sample is below 1/4 or above 16, or the
        inputs are dense.
    initial_weights : str
        ``"gaussian"`` (S1), or ``"mirrored"`` for dense inputs such as embeddings: the first layer passes all of its
        input on, and the output layer begins with zeros (S40). Unless it is set, it is chosen as `input_scale` is, by
        whether the inputs are dense.
    momentum : float
        Momentum of SGD (S26), at least 0 and below 1; with Adam it must be 0.
    rebuild_gap : int
        Steps before the first rebuild of the tables (N0 of S14).
    rebuild_growth : float
        Growth of the gaps between rebuilds (λ of S14), 0 or more: each is exp(rebuild_growth) times the one before.
    shards : int
        Number of label ranges into which the output layer is split, each with its own tables (S31). At most the number
        of labels.
    seed : int
        Seed of all randomness, 0 <= seed < 2**63.
    lsh : LshConfig
        Tables of the output layer; by default a centroid table (S34) with ``K=10``, ``L=1``, ``bucket_size=0``,
        ``strategy="hardest"`` and ``budget=32``. `from_dict` and `replace` take a dict.
    hidden_lsh : tuple of (int, LshConfig)
        Tables of hidden layers by layer number, ascending; a mapping is accepted too. Layers are numbered from 0, and
        layer 0 has none. A hidden layer not listed here is dense.

    Examples
    --------
    >>> from slide_ref.common.config import Config
    >>> config = Config(hidden=256, micro_batch=128)
    >>> config.hidden, config.optimizer, config.lsh.family
    ((256,), 'adam', 'centroid')
    >>> config.replace(lsh={"family": "simhash", "K": 9, "L": 50}).lsh.L
    50
    >>> Config(micro_batch=0)
    Traceback (most recent call last):
    slide_ref.common.errors.ConfigError: micro_batch is 0; it must be 1 or more
    """

    hidden: tuple[int, ...] = (128,)
    scope: str = "batch"
    micro_batch: int = 256
    epochs: int = 0
    in_batch: float = 0.6
    overfit_limit: float = 0.25
    correction: bool = True
    optimizer: str = "adam"
    learning_rate: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.25
    input_scale: float = 1.0
    initial_weights: str = "gaussian"
    momentum: float = 0.0
    warmup_steps: int = 0
    decay: str = "linear"
    rebuild_gap: int = 200
    rebuild_growth: float = 0.1
    shards: int = 1
    seed: int = 0
    lsh: LshConfig = field(default_factory=lambda: LshConfig(**CENTROID_TABLES))
    hidden_lsh: tuple[tuple[int, LshConfig], ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "")
        require(isinstance(self.lsh, LshConfig), "lsh", self.lsh, "an LshConfig")
        object.__setattr__(self, "hidden", layer_sizes("hidden", self.hidden))
        for key, names in CHOICES.items():
            one_of(key, getattr(self, key), names)
        for key in ("micro_batch", "rebuild_gap", "shards"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        require(self.input_scale > 0, "input_scale", self.input_scale, "above 0")
        require(self.epsilon >= 2**-126, "epsilon", self.epsilon, "1.2e-38, the least of float32 in full, or more")
        require(self.epochs >= 0, "epochs", self.epochs, "1 or more, or 0 for the default")
        for key in ("in_batch", "overfit_limit"):
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "from 0 to 1")
        require(self.learning_rate >= 0, "learning_rate", self.learning_rate, "above 0, or 0 for the default")
        for key in ("beta1", "beta2", "momentum"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "at least 0 and below 1")
        unused = self.optimizer != "sgd" and self.momentum != 0
        require(not unused, "momentum", self.momentum, "0 unless the optimizer is sgd")
        for key in ("warmup_steps", "rebuild_growth", "weight_decay"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        require(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2**63 - 1")
        self._check_hidden_lsh()

    def _check_hidden_lsh(self) -> None:
        try:
            tables = {plain(layer): lsh for layer, lsh in dict(self.hidden_lsh).items()}
        except (TypeError, ValueError):
            raise ConfigError(
                f"hidden_lsh is {self.hidden_lsh!r}; it must contain tables of settings per layer"
            ) from None
        for layer, lsh in tables.items():
            if not (is_whole(layer) and 1 <= layer < len(self.hidden)):
                last = len(self.hidden) - 1
                known = f"hidden layers that can be hashed are 1 to {last}" if last else "there is one hidden layer"
                raise ConfigError(f"hidden_lsh.{layer}: {known}; layer 0 is dense, the settings of the output are lsh")
            require(isinstance(lsh, LshConfig), f"hidden_lsh.{layer}", lsh, "an LshConfig")
        object.__setattr__(self, "hidden_lsh", tuple(sorted(tables.items())))

    def sampled_layers(self, n_labels: int) -> dict[int, LshConfig]:
        """Return the settings of layers with tables, by layer number; ``min_active`` >= n means no tables (S9)."""
        sizes = (*self.hidden, n_labels)
        tables = dict(self.hidden_lsh) | {len(self.hidden): self.lsh}
        return {l: lsh for l, lsh in tables.items() if lsh.min_active < sizes[l]}

    @property
    def adam_limit(self) -> float:
        """Upper bound of |m| / sqrt(v) over all sequences of gradients (S12), with some margin for rounding."""
        decay = self.beta1**2 / self.beta2 if self.beta2 else math.inf
        if decay >= 1:
            return math.inf
        return 1.001 * (1 - self.beta1) / math.sqrt((1 - self.beta2) * (1 - decay))

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, as stored in config.toml and config.json."""
        plain = dataclasses.asdict(self)
        plain["hidden"] = list(self.hidden)
        plain["hidden_lsh"] = {str(layer): dataclasses.asdict(lsh) for layer, lsh in self.hidden_lsh}
        return plain

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Config:
        """Make settings from the output of `to_dict`; missing keys take their defaults.

        If the output layer's tables name a hash family, that family's defaults apply: those of `LshConfig`, or for a
        centroid table those of `Config`. Hidden layers have ``min_active`` 0.

        Raises
        ------
        ConfigError
            If a key is unknown or a value does not fit.
        """
        require(isinstance(settings, Mapping), "settings", settings, "a dict of settings")
        settings = dict(settings)
        lsh = lsh_of(settings.pop("lsh", {}), "lsh", CENTROID_TABLES["family"], _every_name())
        tables = settings.pop("hidden_lsh", {})
        require(isinstance(tables, dict), "hidden_lsh", tables, "tables of settings per layer, such as hidden_lsh.1.K")
        own = [f.name for f in dataclasses.fields(cls) if f.name not in ("lsh", "hidden_lsh")]
        known_names(settings, own, "", _every_name())
        hidden_lsh = {}
        for key, table in tables.items():
            layer = int(key) if str(key).isdecimal() else key
            name = f"hidden_lsh.{key}"
            hidden_lsh[layer] = lsh_of(table, name, LshConfig.family, _every_name(), min_active=0)
        return cls(**settings, lsh=lsh, hidden_lsh=tuple(hidden_lsh.items()))

    def replace(self, **settings: Any) -> Config:
        """Return a copy with some settings changed; settings of `lsh` are given as ``lsh={"K": 12}``.

        A new hash family starts from its own defaults, except for ``min_active``. `hidden_lsh`, such as
        ``{1: {"K": 6}}``, replaces all tables of hidden layers.
        """
        plain = self.to_dict()
        lsh = settings.pop("lsh", {})
        require(isinstance(lsh, Mapping), "lsh", lsh, "a table of settings")
        if plain["lsh"]["family"] != lsh.get("family", plain["lsh"]["family"]):
            plain["lsh"] = {"min_active": plain["lsh"]["min_active"]}
        plain["lsh"].update(lsh)
        return Config.from_dict({**plain, **settings})


def _every_name() -> list[str]:
    """Return the names of all settings."""
    return [prefix + f.name for prefix, of in (("", Config), ("lsh.", LshConfig)) for f in dataclasses.fields(of)]
