"""How far a mean may be from its expectation."""

import math


def hoeffding(trials, chance=1e-9):
    """A mean of `trials` independent numbers in [0, 1] misses its expectation by more with less than this chance."""
    return math.sqrt(math.log(2 / chance) / (2 * trials))
