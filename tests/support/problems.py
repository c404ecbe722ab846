"""Small problems for reference and fast path, made by hypothesis.

Numbers are multiples of 1/16 (`dyadic_arrays`) where results are asked to be equal: their sums are exact in float32 in
any order. `real_arrays` are for results that are compared as floats are.
"""

import json

import numpy as np
from hypothesis import strategies as st

import slide_ref.sampling
from slide_fast.hash_tables import build_tables
from slide_fast.hashing import addresses_of, hash_constants
from slide_ref.common.config import Config
from slide_ref.common.index import Index, Preview
from slide_ref.common.lsh_config import FAMILIES, POLICIES, STRATEGIES, LshConfig
from slide_ref.common.parameters import array_shapes, layers_of
from slide_ref.common.rng import Key
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

SEEDS = st.one_of(st.sampled_from([0, 1, 2**63 - 1]), st.integers(0, 2**63 - 1))


@st.composite
def generators(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def without_clock(facts):
    """What a model tells about its training, but for the clock: a run that is repeated tells the same."""
    clock = ("seconds", "date", "samples_per_second", "loss")  # it is added up in parts that go by the clock
    history = [{key: value for key, value in event.items() if key not in clock} for event in facts["history"]]
    return {key: value for key, value in facts.items() if key not in clock} | {"history": history}


def content_without_clock(folder):
    """The bytes of a model folder's files by name; for config.json what it says, but for the clock."""
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    described = json.loads(content["config.json"])
    return content | {"config.json": described | {"facts": without_clock(described["facts"])}}


def counted(facts):
    """Of what a model tells about its training, that which no sum of floats went into."""
    return {key: value for key, value in without_clock(facts).items() if key not in ("history", "metrics")}


def assert_same(ours, theirs):
    """The same numbers, of the same dtype, in the same shape."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and np.array_equal(ours, theirs)


@st.composite
def dyadic_arrays(draw, *shape, largest=2):
    """float32, multiples of 1/16: all different, with rows that are equal, all equal, or all zero."""
    kind = draw(st.sampled_from(["mixed", "mixed", "few rows", "one value", "zero"]))
    rng, steps = draw(generators()), int(16 * largest)
    array = rng.integers(-steps, steps + 1, shape)
    if kind == "few rows" and shape[0]:
        array = array[rng.integers(0, min(3, shape[0]), shape[0])]
    elif kind == "one value":
        array = np.full(shape, rng.integers(-steps, steps + 1))
    elif kind == "zero":
        array = np.zeros(shape)
    return (array / 16).astype(np.float32)


@st.composite
def sparse_arrays(draw, *shape):
    """As `dyadic_arrays`, with many zeros, some of them negative, and many equal values."""
    array = draw(dyadic_arrays(*shape, largest=draw(st.sampled_from([1 / 8, 2]))))
    return array * (draw(generators()).random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9])))


@st.composite
def real_arrays(draw, *shape):
    return draw(generators()).standard_normal(shape, dtype=np.float32)


def id_lists(n_columns, min_size=0, max_size=6):
    """Distinct ids in [0, n_columns), ascending; the first and the last often among them."""
    ids = st.one_of(st.sampled_from([0, n_columns - 1]), st.integers(0, n_columns - 1))
    sizes = {"min_size": min(min_size, n_columns), "max_size": min(max_size, n_columns)}
    return st.lists(ids, unique=True, **sizes).map(sorted)


@st.composite
def label_rows(draw, n_rows, n_labels, min_size=0, max_size=3):
    lists = st.lists(id_lists(n_labels, min_size, max_size), min_size=n_rows, max_size=n_rows)
    return rows_from_lists(draw(lists), n_labels)


@st.composite
def feature_rows(draw, n_rows, n_features, values=dyadic_arrays):
    """Sparse rows without stored zeros; some are empty."""
    rows = draw(label_rows(n_rows, n_features, max_size=6))
    data = draw(values(rows.nnz))
    data[data == 0] = 1
    return SparseRows(rows.indptr, rows.indices, data, n_features)


HASHED = [name for name in FAMILIES if name != "centroid"]  # whose addresses come from codes


@st.composite
def lsh_configs(draw, n, bits=8, families=HASHED):
    """Settings of the tables of a layer of n neurons; addresses of at most about `bits` bits."""
    family, base = draw(st.sampled_from(families)), draw(st.sampled_from([2, 3, 8, 256]))
    if family == "centroid":
        K = draw(st.integers(1, 3))
        L = draw(st.integers(0, min(1 << K, 3)))
        return LshConfig(
            family=family,
            K=K,
            L=L,
            bucket_size=draw(st.sampled_from([1, 2, 5, 128])),
            strategy=draw(st.sampled_from(STRATEGIES)),
            budget=draw(st.sampled_from([0, 1, 2, 3, 7, n, 2 * n + 1])),
            threshold=draw(st.integers(1, max(L, 1))),
            min_active=draw(st.sampled_from([0, 0, 1, n // 2, n])),
        )
    digit_bits = LshConfig(family=family, K=1, base=base).digit_bits
    K = min(draw(st.one_of(st.sampled_from([1, 24, 25, 63, 64]), st.integers(1, 8))), 64 // digit_bits)
    bucket_bits = draw(st.integers(1, bits)) if bits < K * digit_bits else draw(st.integers(0, bits))
    L = draw(st.sampled_from([0, 1, 1, 2, 3, 5]))
    return LshConfig(
        family=family,
        K=K,
        base=base,
        top=draw(st.sampled_from([1, 2, 3, 32])),
        L=L,
        bucket_size=draw(st.sampled_from([1, 2, 3, 5, 128])),
        bucket_bits=bucket_bits,
        policy=draw(st.sampled_from(POLICIES)),
        strategy=draw(st.sampled_from([name for name in STRATEGIES if name != "hardest"])),
        budget=draw(st.sampled_from([0, 1, 2, 3, 7, n, 2 * n + 1])),
        threshold=draw(st.integers(1, max(L, 1))),
        min_active=draw(st.sampled_from([0, 0, 1, n // 2, max(n - 1, 0), n, n + 3])),
    )


@st.composite
def hash_problems(draw, family):
    """Vectors, settings of tables and a seed, for a family whose codes do not depend on rounding."""
    base = draw(st.sampled_from([2, 3, 5, 8, 129, 256]))
    K = draw(st.one_of(st.integers(1, 4), st.just(64 // (base - 1).bit_length())))
    lsh = LshConfig(family, K, base, top=draw(st.sampled_from([1, 2, 5, 32])), L=draw(st.integers(0, 3)))
    shape = draw(st.integers(0, 8)), draw(st.one_of(st.integers(1, 40), st.just(300)))
    return draw(draw(st.sampled_from([sparse_arrays, real_arrays]))(*shape)), lsh, draw(SEEDS)


@st.composite
def configs(draw, n_labels):
    hidden = draw(st.sampled_from([(1,), (3,), (8,), (5, 4), (3, 9), (4, 7, 6)]))
    optimizer = draw(st.sampled_from(["adam", "sgd"]))
    return Config(
        hidden=hidden,
        hidden_lsh={
            l: draw(lsh_configs(n, families=FAMILIES)) for l, n in enumerate(hidden) if l > 0 and draw(st.booleans())
        },
        optimizer=optimizer,
        momentum=draw(st.sampled_from([0.0, 0.9])) if optimizer == "sgd" else 0.0,
        beta1=draw(st.sampled_from([0.0, 0.0, 0.9])),
        correction=draw(st.sampled_from([True, True, False])),
        weight_decay=draw(st.sampled_from([0.25, 0.0, 2.0])),
        input_scale=draw(st.sampled_from([1.0, 1.0, 0.25, 3.0])),
        initial_weights=draw(st.sampled_from(["gaussian", "gaussian", "mirrored"])),
        warmup_steps=draw(st.sampled_from([0, 0, 1, 3, 100])),
        decay=draw(st.sampled_from(["constant", "linear", "cosine"])),
        scope=draw(st.sampled_from(["batch", "sample"])),
        micro_batch=draw(st.sampled_from([1, 2, 3, 5])),
        learning_rate=draw(st.sampled_from([2e-3, 0.5])),
        rebuild_gap=draw(st.sampled_from([1, 2, 50])),
        in_batch=draw(st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0])),
        shards=min(draw(st.sampled_from([1, 1, 2, 3, 30])), n_labels),
        seed=draw(SEEDS),
        lsh=draw(lsh_configs(n_labels, families=FAMILIES)),
    )


@st.composite
def datasets(draw, values=dyadic_arrays, max_samples=12, min_labels=0):
    n_samples, n_features, n_labels = (draw(st.integers(1, most)) for most in (max_samples, 20, 30))
    features = draw(feature_rows(n_samples, n_features, values))
    return Dataset(features, draw(label_rows(n_samples, n_labels, min_size=min_labels)))


@st.composite
def layers(draw, config, n_features, n_labels, values=dyadic_arrays):
    """A network with the given sizes; moments like those after some steps."""
    arrays = {}
    for name, shape in array_shapes(config, n_features, n_labels).items():
        arrays[name] = draw(values(*shape))
        if "_v" in name:
            arrays[name] = np.square(arrays[name])
    return layers_of(arrays)


@st.composite
def indexes(draw, n_labels, n_inputs):
    """Indexes of a layer, some with a preview; all numbers are dyadic, so that the preview is exact too."""
    rng, n, n_dimensions, room = draw(generators()), draw(st.integers(1, 4)), 2, draw(st.integers(1, n_labels))
    buckets = np.array([rng.permutation(n_labels)[:room] for _ in range(n)], dtype=np.int32)
    preview = None
    if draw(st.booleans()):
        shapes = (n_inputs, n_dimensions), (n_labels, n_dimensions), buckets.shape
        preview = Preview(*(rng.integers(-2, 3, shape).astype(np.float32) for shape in shapes))
    return Index(draw(dyadic_arrays(n, n_inputs)), buckets, np.zeros((0, 0), dtype=np.int32), preview)


def random_dataset(seed, n_samples=40, n_features=30, n_labels=60, min_features=0):
    """A fixed data set of real values; some rows have no labels, and some no features unless `min_features` is 1."""
    rng = np.random.default_rng(seed)
    features, labels = (
        rows_from_lists([rng.choice(n, rng.integers(*sizes), replace=False).tolist() for _ in range(n_samples)], n)
        for n, sizes in ((n_features, (min_features, 8)), (n_labels, (0, 4)))
    )
    values = rng.standard_normal(features.nnz, dtype=np.float32)
    return Dataset(SparseRows(features.indptr, features.indices, values, n_features), labels)


SIZES = st.one_of(st.sampled_from([1, 2]), st.integers(1, 40))
EPOCHS = st.integers(0, 3)
STEPS = st.integers(1, 1000)


@st.composite
def queries(draw):
    """Tables of dyadic weights, and vectors that look into them."""
    n, seed = draw(SIZES), draw(SEEDS)
    lsh = draw(lsh_configs(n, bits=4))
    constants = hash_constants(lsh, seed, 1, 4)
    tables = build_tables(draw(dyadic_arrays(n, 4)), constants, lsh, seed, 1, 0)
    vectors = draw(dyadic_arrays(draw(st.integers(1, 5)), 4))
    addresses = addresses_of(vectors, constants, lsh, seed, 1)
    samples = draw(st.lists(st.integers(0, 10**6), min_size=len(vectors), max_size=len(vectors), unique=True))
    return lsh, tables, addresses, seed, draw(EPOCHS), np.array(samples)


def found_by_the_reference(lsh, tables, addresses, seed, epoch, samples):
    """What the reference retrieves for each sample of such a problem."""
    return [
        slide_ref.sampling.retrieve(tables.query(own), lsh, Key(seed, 1, epoch), int(i))
        for own, i in zip(addresses, samples, strict=True)
    ]


def some_weights(n, seed=0):
    """Weights of samples, a third of them 0."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n) * (rng.random(n) > 1 / 3)
