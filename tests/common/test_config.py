"""Settings are checked when they are made, and travel through plain dictionaries unchanged."""

import dataclasses
import json
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.config import SCOPES, Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.lsh_config import LshConfig

NUMBERS = st.integers(0, 100)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "hidden": st.lists(st.integers(1, 512), min_size=1, max_size=3),
        "scope": st.sampled_from(SCOPES),
        "micro_batch": st.integers(1, 4096),
        "learning_rate": st.floats(1e-6, 1),
        "beta1": st.floats(0, 1, exclude_max=True),
        "rebuild_growth": st.floats(0, 10),
        "seed": st.integers(0, 2**63 - 1),
        "lsh": st.one_of(
            st.fixed_dictionaries({"family": st.just("simhash")}, optional={"K": st.integers(1, 64), "L": NUMBERS}),
            st.fixed_dictionaries({}, optional={"K": st.integers(7, 16), "L": NUMBERS, "bucket_size": NUMBERS}),
        ),
    },
)


def test_defaults_are_those_of_the_documentation():
    config = Config()
    assert (config.scope, config.micro_batch, config.hidden, config.learning_rate) == ("batch", 256, (128,), 0)
    assert (config.decay, config.warmup_steps, config.weight_decay) == ("linear", 0, 0.25)
    lsh = config.lsh
    assert (lsh.family, lsh.K, lsh.L, lsh.min_active, config.rebuild_gap) == ("centroid", 10, 1, 2000, 200)
    assert (lsh.strategy, lsh.budget, lsh.bucket_size) == ("hardest", 32, 0)


def test_settings_of_tables_that_are_left_out_are_those_of_the_family():
    assert Config.from_dict({"lsh": {"family": "dwta", "K": 4}}).lsh == LshConfig(family="dwta", K=4)
    assert Config.from_dict({"lsh": {"family": "centroid", "K": 4}}) == Config().replace(lsh={"K": 4})
    assert Config().replace(lsh={"min_active": 7}).replace(lsh={"family": "wta"}).lsh == LshConfig("wta", min_active=7)
    hidden = Config.from_dict({"hidden": [8, 8], "hidden_lsh": {1: {"family": "centroid"}}}).hidden_lsh[0][1]
    assert hidden == dataclasses.replace(Config().lsh, min_active=0)


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (63, 63), (3199, 64), (3250, 65), (51200, 1024), (670_091, 2048)])
def test_s35_buckets_of_centroids_grow_with_the_neurons(n, wanted):
    assert Config().lsh.room(n) == wanted
    assert dataclasses.replace(Config().lsh, bucket_size=7).room(n) == min(7, n)


@given(SETTINGS)
def test_plain_values_round_trip(settings):
    config = Config.from_dict(settings)
    assert Config.from_dict(config.to_dict()) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert all(config.to_dict()[key] == value for key, value in settings.items() if key != "lsh")
    assert all(config.to_dict()["lsh"][key] == value for key, value in settings.get("lsh", {}).items())
    hash(config)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"lsh": {"k": 8}}, "unknown setting lsh.k; known are .*; did you mean lsh.K?"),
        ({"k": 8}, "unknown setting k; known are .*; did you mean lsh.K?"),
        ({"lr": 3}, "unknown setting lr; known are [^;]*$"),
        ({"lsh": {"Micro_Batch": 8}}, "unknown setting lsh.Micro_Batch; known are .*; did you mean micro_batch?"),
        ({"hidden_lsh": {1: {"l": 8}}}, "unknown setting hidden_lsh.1.l; known are .*; did you mean hidden_lsh.1.L?"),
        ({"optimizer": "adamw"}, "one of adam, sgd; did you mean adam?"),
        ({"lsh": {"policy": "FIFO"}}, "one of fifo, reservoir; did you mean fifo?"),
        ({"scope": "rows"}, "one of batch, sample$"),
        ({3: 8}, "unknown setting 3; known are hidden, "),
    ],
)
def test_what_is_misspelt_is_told_what_was_meant(settings, wanted):
    with pytest.raises(ConfigError, match=wanted.replace("?", r"\?")):
        Config.from_dict(settings)


def test_settings_read_from_toml():
    config = Config.from_dict(tomllib.loads("hidden = [64, 32]\nmicro_batch = 16\n[lsh]\nK = 4\n"))
    assert config == Config(hidden=(64, 32), micro_batch=16).replace(lsh={"K": 4})


def test_a_config_is_immutable_and_replace_makes_another():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    changed = config.replace(seed=3, lsh={"K": 6})
    assert (changed.seed, changed.lsh.K, changed.lsh.L) == (3, 6, config.lsh.L)
    assert config == Config()


def test_from_dict_leaves_its_argument_alone():
    settings = {"lsh": {"K": 3}, "hidden": [8]}
    Config.from_dict(settings)
    assert settings == {"lsh": {"K": 3}, "hidden": [8]}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"micro_batch": 2.0}, "micro_batch is 2.0; it must be a whole number"),
        ({"micro_batch": True}, "micro_batch is True"),
        ({"micro_batch": "8"}, "micro_batch is '8'"),
        ({"micro_batch": None}, "micro_batch is None"),
        ({"epochs": -1}, "epochs is -1"),
        ({"rebuild_gap": 0}, "rebuild_gap is 0"),
        ({"rebuild_growth": -0.1}, "rebuild_growth is -0.1"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"learning_rate": False}, "learning_rate is False"),
        ({"epsilon": -1e-8}, "epsilon is -1e-08"),
        ({"epsilon": 1e-42}, "epsilon is 1e-42"),
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"beta2": -0.5}, "beta2 is -0.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"hidden": []}, r"hidden is \(\)"),
        ({"hidden": [0]}, r"hidden is \(0,\)"),
        ({"hidden": [8.0]}, r"hidden is \(8.0,\)"),
        ({"hidden": [True]}, r"hidden is \(True,\)"),
        ({"hidden": 128.0}, "hidden is 128.0; it must be a list of layer sizes, or one size"),
        ({"hidden": 0}, r"hidden is \(0,\)"),
        ({"hidden": None}, "hidden is None"),
        ({"hidden": np.ones((2, 2), int)}, r"hidden is \(\[1, 1\], \[1, 1\]\)"),
        ({"micro_batch": np.int64(0)}, "micro_batch is 0"),
        ({"micro_batch": np.float64(2)}, "micro_batch is 2.0; it must be a whole number"),
        ({"micro_batch": 2**64}, "micro_batch is 18446744073709551616; it must be a whole number below"),
        ({"micro_batch": np.array([8])}, r"micro_batch is array\(\[8\]\)"),
        ({"learning_rate": np.float32("nan")}, "learning_rate is nan"),
        ({"correction": np.int64(1)}, "correction is 1; it must be true or false"),
        ({"scope": np.array(["batch", "batch"])}, r"scope is array\("),
        ({"scope": np.arange(10**4)}, r"scope is array\("),
        ({"hidden": "128"}, "hidden is '128'"),
        ({"scope": "worker"}, "scope is 'worker'; it must be one of batch, sample"),
        ({"scope": []}, r"scope is \[\]"),
        ({"optimizer": "adagrad"}, "optimizer is 'adagrad'; it must be one of adam, sgd"),
        ({"momentum": 0.9}, "momentum is 0.9; it must be 0 unless the optimizer is sgd"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum is 1.0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"input_scale": 0.0}, "input_scale is 0.0; it must be above 0"),
        ({"weight_decay": -0.5}, "weight_decay is -0.5; it must be 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"warmup_steps": 0.5}, "warmup_steps is 0.5"),
        ({"decay": "step"}, "decay is 'step'; it must be one of constant, linear, cosine"),
        ({"hidden_lsh": 3}, "hidden_lsh is 3"),
        ({"hidden_lsh": {"1": {}}}, "hidden_lsh.1: "),
        ({"hidden": [8, 8], "hidden_lsh": {"0": {}}}, "hidden_lsh.0: "),
        ({"hidden": [8, 8], "hidden_lsh": {"2": {}}}, "hidden_lsh.2: "),
        ({"hidden": [8, 8], "hidden_lsh": {"first": {}}}, "hidden_lsh.first: "),
        ({"hidden": [8, 8], "hidden_lsh": {True: {}}}, "hidden_lsh.True: "),
        ({"hidden": [8, 8], "hidden_lsh": {"1": 3}}, "hidden_lsh.1 is 3; it must be a table of settings"),
        ({"hidden": [8, 8], "hidden_lsh": {"1": {"K": 0}}}, "hidden_lsh.1.K is 0"),
        ({"hidden": [8, 8], "hidden_lsh": {"1": {"k": 1}}}, "unknown setting hidden_lsh.1.k; known are hidden_lsh.1.f"),
        ({"lsh": 3}, "lsh is 3"),
        ({"lsh": {"K": 0}}, "lsh.K is 0"),
        ({"lsh": {"K": 17}}, "lsh.K is 17; it must be from 1 to 16: a centroid table has 2"),
        ({"lsh": {"family": "simhash", "K": 65}}, "lsh.K is 65"),
        ({"lsh": {"K": 3, "L": 9}}, "lsh.L is 9; it must be at most 2"),
        ({"lsh": {"policy": "reservoir"}}, "lsh.policy is 'reservoir'; it must be 'fifo', since a centroid table"),
        ({"lsh": {"bucket_bits": 3}}, "lsh.bucket_bits is 3; it must be 0: centroids have no codes to fold"),
        (
            {"lsh": {"family": "simhash", "strategy": "hardest"}},
            "lsh.strategy is 'hardest'; it must be one of vanilla, topk, threshold, unless lsh.family is",
        ),
        ({"lsh": {"L": -1}}, "lsh.L is -1"),
        ({"lsh": {"family": "wta", "bucket_size": 0}}, "lsh.bucket_size is 0; it must be 1 or more"),
        ({"lsh": {"bucket_size": -1}}, "lsh.bucket_size is -1; it must be 0 or more"),
        ({"lsh": {"bucket_size": 2**31}}, "lsh.bucket_size is 2147483648; it must be 0 or more, below 2"),
        ({"lsh": {"bucket_bits": 25}}, "lsh.bucket_bits is 25"),
        ({"lsh": {"budget": -1}}, "lsh.budget is -1"),
        ({"lsh": {"min_active": -1}}, "lsh.min_active is -1"),
        ({"lsh": {"family": "md5"}}, "lsh.family is 'md5'; it must be one of simhash, wta, dwta, doph, centroid"),
        ({"lsh": {"base": 1}}, "lsh.base is 1; it must be from 2 to 256"),
        ({"lsh": {"base": 257}}, "lsh.base is 257"),
        ({"lsh": {"base": 8.0}}, "lsh.base is 8.0; it must be a whole number"),
        ({"lsh": {"top": 0}}, "lsh.top is 0; it must be 1 or more"),
        (
            {"lsh": {"family": "dwta", "K": 22}},
            "lsh.K is 22; it must be from 1 to 21, so that a code of 3-bit digits fits in 64 bits",
        ),
        ({"lsh": {"family": "doph", "base": 5, "K": 22}}, "lsh.K is 22; it must be from 1 to 21"),
        ({"lsh": {"family": "wta", "base": 256, "K": 9}}, "lsh.K is 9; it must be from 1 to 8"),
        ({"lsh": {"family": "wta", "K": 0}}, "lsh.K is 0; it must be from 1 to 21"),
        ({"lsh": {"policy": "lifo"}}, "lsh.policy is 'lifo'; it must be one of fifo, reservoir"),
        ({"lsh": {"strategy": "all"}}, "lsh.strategy is 'all'; it must be one of vanilla, topk, threshold"),
        ({"lsh": {"threshold": 0}}, "lsh.threshold is 0; it must be 1 or more"),
        ({"lsh": {"threshold": 1.5}}, "lsh.threshold is 1.5; it must be a whole number"),
        ({"lsh": {"strategy": "threshold", "threshold": 4, "L": 3}}, "lsh.threshold is 4; it must be at most lsh.L"),
        ({"lsh": {"k": 3}}, "unknown setting lsh.k; known are lsh.family, lsh.K"),
        ({"microbatch": 3}, "unknown setting microbatch; known are hidden, scope, micro_batch"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(settings, named):
    with pytest.raises(ConfigError, match="^" + named) as caught:
        Config.from_dict(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, [("epochs", 3)], "epochs"])
def test_settings_are_a_dict(wrong):
    with pytest.raises(ConfigError, match="^settings is .* a dict of settings"):
        Config.from_dict(wrong)
    with pytest.raises(ConfigError, match="^lsh is .* a table of settings"):
        Config().replace(lsh=wrong)


@pytest.mark.parametrize("boxed", [lambda value: value, np.array])
@pytest.mark.parametrize("whole", [np.int8, np.uint8, np.int32, np.int64, np.uint64, int])
@pytest.mark.parametrize("fraction", [np.float16, np.float32, np.float64, np.longdouble, float])
def test_numbers_of_numpy_are_numbers_and_become_plain(whole, fraction, boxed):
    def numbers(whole, fraction, truth, text):
        lsh = {"K": whole(7), "L": whole(3), "family": text("wta")}
        return {"epochs": whole(2), "hidden": [whole(8), whole(4)], "learning_rate": fraction(0.5), "beta1": whole(0),
                "correction": truth(False), "scope": text("sample"), "lsh": lsh,
                "hidden_lsh": {1: {"K": whole(5)}}}  # fmt: skip

    taken = numbers(*(lambda value, kind=kind: boxed(kind(value)) for kind in (whole, fraction, np.bool_, np.str_)))
    config, same = Config.from_dict(taken), Config.from_dict(numbers(int, float, bool, str))
    assert config == same and repr(config) == repr(same)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    direct = Config(hidden=(whole(8), whole(4)), hidden_lsh={whole(1): LshConfig(K=whole(5))}, seed=whole(3))
    assert repr(direct) == repr(Config(hidden=(8, 4), hidden_lsh={1: LshConfig(K=5)}, seed=3))


@pytest.mark.parametrize("hidden", [8, np.int64(8), np.array(8), [8], range(8, 9), np.array([8]), (np.int32(8),)])
def test_layer_sizes_are_a_sequence_or_one_number(hidden):
    assert Config(hidden=hidden).hidden == (8,) == Config.from_dict({"hidden": hidden}).hidden
    assert type(Config(hidden=hidden).hidden[0]) is int


def test_s25_tables_of_hidden_layers():
    config = Config.from_dict({"hidden": [8, 8, 8], "hidden_lsh": {"2": {"K": 3}, 1: {"min_active": 8}}})
    assert config.hidden_lsh == ((1, LshConfig(min_active=8)), (2, LshConfig(K=3, min_active=0)))
    assert config == Config(hidden=(8, 8, 8), hidden_lsh=dict(config.hidden_lsh))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config and hash(config)
    assert config.sampled_layers(2001) == {2: LshConfig(K=3, min_active=0), 3: Config().lsh}
    assert list(config.sampled_layers(2000)) == [2]
    assert config.replace(seed=1).hidden_lsh == config.hidden_lsh and not config.replace(hidden_lsh={}).hidden_lsh


@pytest.mark.parametrize("wrong", [3, [1], {1: {"K": 3}}, "ab"])
def test_s25_what_is_no_table_of_a_hidden_layer_is_refused(wrong):
    with pytest.raises(ConfigError, match="^hidden_lsh"):
        Config(hidden=(8, 8), hidden_lsh=wrong)


def test_ends_of_the_ranges_are_accepted():
    Config(seed=2**63 - 1, rebuild_growth=0, beta1=0, learning_rate=1, micro_batch=1, epochs=1)
    LshConfig(K=64, L=0, bucket_bits=24, bucket_size=1, min_active=0)
    LshConfig(strategy="threshold", L=3, threshold=3)
    LshConfig(strategy="threshold", L=0, threshold=3)
    LshConfig(strategy="topk", L=1, threshold=2)


@pytest.mark.parametrize(
    ("K", "bucket_bits", "address_bits"), [(14, 0, 14), (20, 0, 16), (20, 18, 18), (4, 8, 4), (64, 24, 24), (9, 9, 9)]
)
def test_s4_buckets_of_a_table(K, bucket_bits, address_bits):
    assert LshConfig(K=K, bucket_bits=bucket_bits).address_bits == address_bits


@pytest.mark.parametrize(
    ("family", "base", "digit_bits", "most"),
    [("simhash", 256, 1, 64), ("wta", 2, 1, 64), ("wta", 3, 2, 32), ("dwta", 8, 3, 21), ("doph", 9, 4, 16)],
)
def test_s4_bits_of_a_code(family, base, digit_bits, most):
    lsh = LshConfig(family=family, base=base, K=most)
    assert lsh.digit_bits == digit_bits and lsh.code_bits == digit_bits * most
    assert lsh.address_bits == 16 and LshConfig(family=family, base=base, K=1).address_bits == digit_bits
    with pytest.raises(ConfigError, match=f"from 1 to {most}, so that a code"):
        LshConfig(family=family, base=base, K=most + 1)
