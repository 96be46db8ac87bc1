"""Every mistake in vivace.toml is told at once, with its line and the nearest key."""

from pathlib import Path

import pytest

from vivace.config import find_config, load, resolve_secret
from vivace.config.load import line_numbers
from vivace.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "vivace.toml"
    path.write_text(text)
    return path


def test_all_errors_are_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[project]\nname = "Sup Port"\n[trian]\nx = 1\n[train]\nmax_token = 5\nlearning_rate = "fast"\n'
        '[serve]\napi_keys = ["sk-123"]\n',
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = caught.value.message.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"vivace.toml, line {number}" for number in (2, 3, 6, 7, 9)]
    assert "unknown table 'trian'. Did you mean 'train'?" in lines[1]
    assert "unknown key 'max_token' in [train]. Did you mean 'max_tokens'?" in lines[2]
    assert "'fast'" in lines[3]
    assert "env:NAME" in lines[4]


def test_a_secret_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    path = write(tmp_path, '[serve]\napi_keys = ["sk-very-secret"]\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "very-secret" not in str(caught.value)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(write(tmp_path, "[project]\nname = chatbot\n"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vivace.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_changes_from_the_command_line_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[train]\nmax_tokens = 5\n")
    assert load(path, ["train.max_tokens=7", "train.method=full"]).train.max_tokens == 7
    with pytest.raises(ConfigError, match="TABLE.KEY=VALUE"):
        load(path, ["train"])


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_TRAIN__MAX_TOKENS", "9")
    assert load(write(tmp_path, "[train]\nmax_tokens = 5\n")).train.max_tokens == 9


def test_an_empty_string_means_nothing_where_nothing_is_allowed(tmp_path: Path) -> None:
    assert load(write(tmp_path, '[train]\nmax_tokens = ""\n')).train.max_tokens is None


def test_a_key_inside_a_long_string_is_no_key() -> None:
    text = '[project]\nsystem = """\n[train]\nx = 1\n"""\n[train]\nseed = 1\n'
    assert line_numbers(text)[("train",)] == 6


def test_the_config_is_found_from_a_folder_below_it(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_config(tmp_path / "a" / "b") == path
    with pytest.raises(ConfigError, match="vivace init"):
        find_config(tmp_path / "none")


def test_a_secret_that_is_not_set_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "k")
    assert resolve_secret("env:SHOP_KEY") == "k"
    with pytest.raises(ConfigError, match="NOT_THERE"):
        resolve_secret("env:NOT_THERE")


def test_a_table_in_a_table_is_changed_told_and_reached_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vivace.toml"
    path.write_text('[data]\nseed = 3\n[data.label]\nfeilds = ["topic"]\n')
    with pytest.raises(ConfigError, match=r"line 4: unknown key 'feilds' in \[data.label\]. Did you mean 'fields'"):
        load(path)
    path.write_text("[data]\nseed = 3\n[data.label]\nmax_topics = 7\n")
    settings = load(path, ["data.label.embedder=words"])
    assert (settings.data.seed, settings.data.label.max_topics, settings.data.label.embedder) == (3, 7, "words")
    monkeypatch.setenv("VIVACE_DATA__LABEL__MAX_TOPICS", "9")
    assert load(path).data.label.max_topics == 9
    with pytest.raises(ConfigError, match=r"'seed' is no table"):
        load(path, ["data.seed.x=1"])


def test_a_table_that_stands_several_times_is_told_with_its_own_line_and_keys(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text(
        """[[evaluate.graders]]
type = "string_check"
name = "a"
input = "x"
reference = "x"
operation = "eq"

[[evaluate.graders]]
type = "string_check"
name = "b"
input = "x"
reference = "x"
operation = "same"
inptu = "y"

[[compress.plans]]
name = "half"
prune = {layers = 2.0}
"""
    )
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "vivace.toml")
    told = str(raised.value).splitlines()
    assert told[0].startswith("vivace.toml, line 13: evaluate.graders.1.operation: input should be 'eq'")
    assert told[1] == "vivace.toml, line 14: unknown key 'inptu' in [evaluate.graders.1]. Did you mean 'input'?"
    assert told[2].startswith("vivace.toml, line 18: compress.plans.0.prune.layers: input should be less than")
