"""Settings of the tables of one layer, checked on construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .checks import check_types, known_names, one_of, plain, require
from .errors import ConfigError

FAMILIES = ("simhash", "wta", "dwta", "doph", "centroid")
POLICIES = ("fifo", "reservoir")
STRATEGIES = ("vanilla", "topk", "threshold", "hardest")
MOST_CENTROID_BITS = 16
LARGEST_BUCKET, SMALLEST_BUCKET, NEURONS_A_PLACE = 2048, 64, 50  # of a centroid table whose bucket_size is 0
N_GROUPS, LISTED = 32, 2**15  # of centroids in a large layer, and neurons from which the buckets of a group are filled
CENTROID_TABLES: dict[str, Any] = {
    "family": "centroid",
    "K": 10,
    "L": 1,
    "bucket_size": 0,
    "strategy": "hardest",
    "budget": 32,
}


@dataclass(frozen=True)
class LshConfig:
    """Hash tables over the neurons of one layer, and how active neurons are drawn from them.

    The defaults are those of SimHash tables; for those of a centroid table, the default of the output layer, see
    `Config`. Values are checked on construction, with ConfigError.

    Attributes
    ----------
    family : str
        Hash family (paper, section 3.1 and appendix A): ``"simhash"`` (S5), ``"wta"`` (S19), ``"dwta"`` (S20),
        ``"doph"`` (S21), or ``"centroid"``: one table, whose buckets follow the layer's inputs (S34).
    K : int
        Digits per code; a code has at most 64 bits. A centroid table has 2**K buckets, K at most 16.
    base : int
        Number of values of a digit: for WTA and DWTA the coordinates in a bin. Not used by SimHash and centroid tables.
    top : int
        How many of the largest values DOPH hashes.
    L : int
        Number of tables; for a centroid table, number of buckets that a sample reads. 0 retrieves nothing: the active
        set is then labels and uniform padding (sampled softmax).
    bucket_size : int
        Largest number of neurons in a bucket. 0, for a centroid table only: chosen by the number of neurons, from 64 to
        2,048 (S35).
    bucket_bits : int
        Longer codes are folded to this many bits; 0 means min(16, bits of a code).
    policy : str
        Which neurons a full bucket keeps: ``"fifo"``, the last inserted (S7), or ``"reservoir"``, a uniform subset
        (S22). A centroid table accepts only ``"fifo"``, but keeps those with the largest logits (S35).
    strategy : str
        How neurons are chosen from the L buckets (paper, section 4.1): ``"vanilla"`` (S8), ``"topk"`` (S23),
        ``"threshold"`` (S24), or for a centroid table also ``"hardest"``: the first neurons of each bucket, which there
        have the largest logits (S36).
    budget : int
        β, the largest number of neurons retrieved per sample, labels not counted; 0 means no limit. The strategy
        ``"threshold"`` has no budget.
    threshold : int
        m, the least number of buckets a neuron must be found in; used only by the strategy ``"threshold"``.
    min_active : int
        Active sets are padded with uniform draws to this size; the number of neurons, or more, makes the layer dense.
    """

    family: str = "simhash"
    K: int = 14
    base: int = 8
    top: int = 32
    L: int = 10
    bucket_size: int = 128
    bucket_bits: int = 0
    policy: str = "fifo"
    strategy: str = "vanilla"
    budget: int = 8
    threshold: int = 2
    min_active: int = 2000

    def __post_init__(self) -> None:
        check_types(self, "lsh.")
        for key, names in (("family", FAMILIES), ("policy", POLICIES), ("strategy", STRATEGIES)):
            one_of(f"lsh.{key}", getattr(self, key), names)
        require(2 <= self.base <= 256, "lsh.base", self.base, "from 2 to 256")
        require(self.top >= 1, "lsh.top", self.top, "1 or more")
        digits = "" if self.digit_bits == 1 else f" of {self.digit_bits}-bit digits"
        fitting = 64 // self.digit_bits
        require(1 <= self.K <= fitting, "lsh.K", self.K, f"from 1 to {fitting}, so that a code{digits} fits in 64 bits")
        require(self.L >= 0, "lsh.L", self.L, "0 or more")
        self._check_centroids()
        least = 0 if self.family == "centroid" else 1
        require(least <= self.bucket_size < 2**31, "lsh.bucket_size", self.bucket_size, f"{least} or more, below 2**31")
        require(0 <= self.bucket_bits <= 24, "lsh.bucket_bits", self.bucket_bits, "from 1 to 24, or 0 for the default")
        require(self.budget >= 0, "lsh.budget", self.budget, "1 or more, or 0 for no limit")
        require(self.threshold >= 1, "lsh.threshold", self.threshold, "1 or more")
        if self.strategy == "threshold" and self.L:
            require(self.threshold <= self.L, "lsh.threshold", self.threshold, f"at most lsh.L, which is {self.L}")
        require(self.min_active >= 0, "lsh.min_active", self.min_active, "0 or more")

    def _check_centroids(self) -> None:
        """Check settings that only a centroid table may have, and those that it may not."""
        if self.family != "centroid":
            others = ", ".join(name for name in STRATEGIES if name != "hardest")
            fits = self.strategy != "hardest"
            require(fits, "lsh.strategy", self.strategy, f"one of {others}, unless lsh.family is 'centroid'")
            return
        most = f"from 1 to {MOST_CENTROID_BITS}: a centroid table has 2**K buckets"
        require(self.K <= MOST_CENTROID_BITS, "lsh.K", self.K, most)
        require(self.L <= 1 << self.K, "lsh.L", self.L, f"at most 2**lsh.K, which is {1 << self.K}")
        require(self.policy == "fifo", "lsh.policy", self.policy, "'fifo', since a centroid table has no other policy")
        require(self.bucket_bits == 0, "lsh.bucket_bits", self.bucket_bits, "0: centroids have no codes to fold")

    @property
    def n_centroids(self) -> int:
        """Number of buckets of a centroid table (S34); 0 if no bucket is read."""
        return 1 << self.K if self.L else 0

    def room(self, n_neurons: int) -> int:
        """Return how many neurons a bucket of a centroid table holds, in a layer of `n_neurons`. Implements S35."""
        by_number = min(max(n_neurons // NEURONS_A_PLACE, SMALLEST_BUCKET), LARGEST_BUCKET)
        return min(self.bucket_size or by_number, n_neurons)

    def listed(self, n_neurons: int) -> int:
        """Return how many candidate neurons fill the buckets of a group of centroids; all: no groups (S35)."""
        n_listed = max(LISTED, 4 * self.room(n_neurons))
        return n_listed if self.n_centroids > 2 * N_GROUPS and 4 * n_listed < n_neurons else n_neurons

    @property
    def digit_bits(self) -> int:
        """Bits per digit: 1 in SimHash and centroid tables, else ceil(log2 base) (S4)."""
        return 1 if self.family in ("simhash", "centroid") else (self.base - 1).bit_length()

    @property
    def code_bits(self) -> int:
        """Number of bits of a code (S4)."""
        return self.K * self.digit_bits

    @property
    def address_bits(self) -> int:
        """Number of bits of a bucket's address: a table has 2**address_bits buckets (S4)."""
        return min(self.bucket_bits or 16, self.code_bits)


def lsh_of(table: Any, name: str, family: str, every_name: list[str], **defaults: Any) -> LshConfig:
    """Make a layer's table settings from a dict of plain values; missing ones take the defaults of their hash family.

    `family` is the family of a table that names none, `defaults` replace those of `LshConfig`. Raises ConfigError if a
    name is unknown or a value does not fit; the message calls the table `name`, and suggests one of `every_name`.
    """
    require(isinstance(table, dict), name, table, "a table of settings")
    known_names(table, [f.name for f in dataclasses.fields(LshConfig)], f"{name}.", every_name)
    if plain(table.get("family", family)) == CENTROID_TABLES["family"]:
        defaults = CENTROID_TABLES | defaults
    try:
        return LshConfig(**defaults | table)
    except ConfigError as error:
        raise ConfigError(f"{name}.{str(error).removeprefix('lsh.')}") from None
