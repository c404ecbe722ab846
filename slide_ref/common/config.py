"""Settings of a network and its training, checked when they are made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError

FAMILIES = ("simhash",)
POLICIES = ("fifo",)
STRATEGIES = ("vanilla",)
SCOPES = ("batch", "sample")
OPTIMIZERS = ("adam",)


def _require(condition: bool, key: str, value: Any, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{key} is {value!r}; it must be {wanted}")


def _check_types(config: Any, prefix: str) -> None:
    for f in dataclasses.fields(config):
        value, wanted = getattr(config, f.name), f.type
        if wanted == "int":
            _require(isinstance(value, int) and not isinstance(value, bool), prefix + f.name, value, "a whole number")
        elif wanted == "float":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _require(number and abs(value) <= 1e300, prefix + f.name, value, "a finite number")


@dataclass(frozen=True)
class LshConfig:
    """Hash tables over the neurons of one layer, and how active neurons are drawn from them.

    Attributes
    ----------
    family : str
        Hash family (paper, section 3.1 and appendix A). One of `FAMILIES`.
    K : int
        Digits in a code.
    L : int
        Tables. 0 retrieves nothing: the active set is then labels and uniform padding (sampled softmax).
    bucket_size : int
        Most neurons a bucket holds.
    bucket_bits : int
        Codes of more bits are folded to this many; 0 means min(16, bits of a code).
    policy : str
        Which neurons a full bucket keeps. One of `POLICIES`.
    strategy : str
        How ids are chosen from the L buckets (paper, section 4.1). One of `STRATEGIES`.
    budget : int
        β, the most neurons retrieved for a sample, labels not counted; 0 means all that is found.
    min_active : int
        Active sets are padded with uniform draws to this size; at least the number of neurons makes the layer dense.
    """

    family: str = "simhash"
    K: int = 14
    L: int = 10
    bucket_size: int = 128
    bucket_bits: int = 0
    policy: str = "fifo"
    strategy: str = "vanilla"
    budget: int = 0
    min_active: int = 2000

    def __post_init__(self) -> None:
        _check_types(self, "lsh.")
        for key, names in (("family", FAMILIES), ("policy", POLICIES), ("strategy", STRATEGIES)):
            _require(getattr(self, key) in names, f"lsh.{key}", getattr(self, key), "one of " + ", ".join(names))
        _require(1 <= self.K <= 64, "lsh.K", self.K, "from 1 to 64, so that a code fits 64 bits")
        _require(self.L >= 0, "lsh.L", self.L, "0 or more")
        _require(self.bucket_size >= 1, "lsh.bucket_size", self.bucket_size, "1 or more")
        _require(0 <= self.bucket_bits <= 24, "lsh.bucket_bits", self.bucket_bits, "from 1 to 24, or 0 for the default")
        _require(self.budget >= 0, "lsh.budget", self.budget, "1 or more, or 0 for no limit")
        _require(self.min_active >= 0, "lsh.min_active", self.min_active, "0 or more")

    @property
    def code_bits(self) -> int:
        """Bits of a code: K digits of ceil(log2 r) bits each (S4)."""
        return self.K

    @property
    def address_bits(self) -> int:
        """Bits of a bucket's address: a table has 2**address_bits buckets (S4)."""
        return min(self.bucket_bits or 16, self.code_bits)


@dataclass(frozen=True)
class Config:
    """Everything that defines a training run besides the data.

    Attributes
    ----------
    hidden : tuple of int
        Neurons of each hidden layer, first to last.
    scope : str
        ``"sample"``: each sample has its own active set, as in the paper; ``"batch"``: the samples of a
        micro-batch share the union of theirs.
    micro_batch : int
        Samples that one worker processes at once.
    epochs : int
        Passes over the training samples.
    optimizer : str
        One of `OPTIMIZERS`.
    learning_rate, beta1, beta2, epsilon : float
        Adam's settings.
    rebuild_gap : int
        Steps before the first rebuild of the tables (N0).
    rebuild_growth : float
        Growth of the gaps between rebuilds (λ).
    seed : int
        Source of all randomness, 0 <= seed < 2**63.
    lsh : LshConfig
        Tables of the output layer.
    """

    hidden: tuple[int, ...] = (128,)
    scope: str = "batch"
    micro_batch: int = 256
    epochs: int = 5
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    rebuild_gap: int = 50
    rebuild_growth: float = 0.1
    seed: int = 0
    lsh: LshConfig = field(default_factory=LshConfig)

    def __post_init__(self) -> None:
        _check_types(self, "")
        _require(isinstance(self.lsh, LshConfig), "lsh", self.lsh, "an LshConfig")
        _require(isinstance(self.hidden, (list, tuple)), "hidden", self.hidden, "a list of layer sizes")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in self.hidden)
        _require(len(self.hidden) >= 1 and whole, "hidden", self.hidden, "one or more layer sizes of at least 1")
        _require(self.scope in SCOPES, "scope", self.scope, "one of " + ", ".join(SCOPES))
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, "one of " + ", ".join(OPTIMIZERS))
        for key in ("micro_batch", "epochs", "rebuild_gap"):
            _require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("learning_rate", "epsilon"):
            _require(getattr(self, key) > 0, key, getattr(self, key), "above 0")
        for key in ("beta1", "beta2"):
            _require(0 <= getattr(self, key) < 1, key, getattr(self, key), "at least 0 and below 1")
        _require(self.rebuild_growth >= 0, "rebuild_growth", self.rebuild_growth, "0 or more")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2**63 - 1")

    @property
    def adam_limit(self) -> float:
        """The largest |m| / sqrt(v) that any sequence of gradients can lead to (S12), with room for rounding."""
        decay = self.beta1**2 / self.beta2 if self.beta2 else math.inf
        if decay >= 1:
            return math.inf
        return 1.001 * (1 - self.beta1) / math.sqrt((1 - self.beta2) * (1 - decay))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as they stand in config.toml and config.json."""
        plain = dataclasses.asdict(self)
        plain["hidden"] = list(self.hidden)
        return plain

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Config:
        """The inverse of `to_dict`; keys left out take their defaults.

        Raises
        ------
        ConfigError
            If a key is unknown or a value does not fit.
        """
        settings = dict(settings)
        lsh = settings.pop("lsh", {})
        _require(isinstance(lsh, dict), "lsh", lsh, "a table of settings")
        for keys, known, prefix in ((settings, cls, ""), (lsh, LshConfig, "lsh.")):
            names = [f.name for f in dataclasses.fields(known) if f.name != "lsh"]
            for key in keys:
                if key not in names:
                    known_names = ", ".join(prefix + name for name in names)
                    raise ConfigError(f"unknown setting {prefix}{key}; known are {known_names}")
        return cls(**settings, lsh=LshConfig(**lsh))

    def replace(self, **settings: Any) -> Config:
        """A copy with some settings changed; settings of `lsh` are given as ``lsh={"K": 12}``."""
        plain = self.to_dict()
        plain["lsh"].update(settings.pop("lsh", {}))
        return Config.from_dict({**plain, **settings})
