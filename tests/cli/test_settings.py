"""Settings: what files and options may say, what an error names, and the way back to TOML."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_fast.cli.settings import assign, config_of, parse_value, read_settings, to_toml
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.lsh_config import LshConfig


@given(
    hidden=st.lists(st.integers(1, 1000), min_size=1, max_size=3),
    learning_rate=st.floats(1e-9, 1e9),
    seed=st.integers(0, 2**63 - 1),
    scope=st.sampled_from(["batch", "sample"]),
    K=st.integers(1, 64),
    hidden_lsh=st.dictionaries(st.integers(1, 3), st.builds(LshConfig, L=st.integers(0, 9))),
    decay=st.sampled_from(["constant", "cosine"]),
)
def test_settings_survive_the_way_through_a_file(
    tmp_path_factory, hidden, learning_rate, seed, scope, K, hidden_lsh, decay
):
    config = Config(
        hidden=hidden, learning_rate=learning_rate, seed=seed, scope=scope, lsh=LshConfig(K=K), decay=decay,
        hidden_lsh={layer: lsh for layer, lsh in hidden_lsh.items() if layer < len(hidden)},
        optimizer="sgd", momentum=0.5, warmup_steps=3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("settings") / "config.toml"
    path.write_text(to_toml(config.to_dict()), encoding="utf-8")
    assert config_of(read_settings(path)) == config


def test_a_file_says_what_a_zero_stands_for():
    lines = to_toml(Config().to_dict()).splitlines()
    assert "epochs = 0  # 0: chosen by the number of samples" in lines and "momentum = 0.0" in lines
    assert "epochs = 3" in to_toml(Config(epochs=3).to_dict()).splitlines()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"epochs = 3\nlsh.K = = 3\n", ", line 2, column 9: Invalid value"),
        (b"epochs = 3\r\nlsh.K = = 3\r\n", ", line 2, column 9: Invalid value"),
        (b"epochs = 3\nhidden = [", ", line 2: Invalid value at the end of the file"),
        (b"epochs = 3\nepochs = 4\n", ", line 2, column 11: Cannot overwrite a value"),
        (b"# \xff\n", ", line 1: not UTF-8 text"),
        (b"seed = " + b"9" * 5000, ": Exceeds the limit"),
        (b"epoch = 3\n", ": unknown setting epoch; known are hidden, "),
        (b"[lsh]\nk = 3\n", ": unknown setting lsh.k; known are lsh.family, "),
        (b"epochs = 'x'\n", ": epochs is 'x'; it must be a whole number"),
        (b"lsh = 3\n", ": lsh is 3; it must be a table of settings"),
        (b"lsh.min_active = 'none'\n", ": lsh.min_active is 'none'"),
        (b"hidden = [8, 4]\n[hidden_lsh.1]\nk = 3\n", ": unknown setting hidden_lsh.1.k; known are hidden_lsh.1."),
        (b"hidden = [8, 4]\n[hidden_lsh]\nK = 3\n", ": hidden_lsh.K is 3; it must be a table of settings"),
        (b"hidden = [8, 4]\n[hidden_lsh.2]\nK = 3\n", ": hidden_lsh.2: "),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, wanted):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}{wanted}") and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="none.toml: cannot be read"):
        read_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("[64, 32]", [64, 32]), ("batch", "batch"), ("'a b'", "a b"), ("true", True)],
)
def test_values_are_spelled_as_in_toml_or_are_words(text, value):
    assert parse_value("key", text) == value


@pytest.mark.parametrize("text", ["", "a b", "[1", "1\nepochs = 2", "=", "3 4", "[" * 3000, "9" * 5000])
def test_what_is_no_value_is_refused(text):
    with pytest.raises(ConfigError, match=r"lsh.K: .* is not a value"):
        parse_value("lsh.K", text)


def test_inner_settings_are_assigned_by_dotted_names():
    settings = {"lsh": {"family": "simhash", "K": 3, "L": 4}}
    assign(settings, "lsh.K", 5)
    assign(settings, "epochs", 6)
    assert settings == {"lsh": {"family": "simhash", "K": 5, "L": 4}, "epochs": 6}
    with pytest.raises(ConfigError, match="epochs is 6; it must be a table"):
        assign(settings, "epochs.x", 1)
    with pytest.raises(ConfigError, match=r"lsh.K is 5; it must be a table"):
        assign(settings, "lsh.K.x", 1)


def test_settings_of_hidden_layers_are_assigned_by_dotted_names():
    settings = {"hidden": [8, 4, 4]}
    for key, text in (("hidden_lsh.1.K", "6"), ("hidden_lsh.1.L", "5"), ("hidden_lsh.2.min_active", "2")):
        assign(settings, key, parse_value(key, text))
    assert config_of(settings).hidden_lsh == ((1, LshConfig(K=6, L=5, min_active=0)), (2, LshConfig(min_active=2)))


def test_min_active_all_means_all_labels():
    settings = {"lsh": {"min_active": "all", "K": 3}}
    assert config_of(settings, 77) == Config().replace(lsh={"min_active": 77, "K": 3})
    assert settings["lsh"]["min_active"] == "all"
