"""A way to decode is recommended only where it is better beyond chance, or surely as good and shorter."""

from pathlib import Path

import pytest

from vivace.domain import Comparison, Interval, Score, SilentProgress
from vivace.errors import ConfigError, DataError
from vivace.loop.decoding import Decoded, advise, tune_decoding


def row(quality: float, tokens: float, difference: float | None = None, half: float = 0.01, p: float = 0.5) -> Decoded:
    found = None
    if difference is not None:
        around = Interval(difference - half, difference + half)
        found = Comparison("token_f1", "a", "b", difference, around, p, p, 60)
    score = Score("token_f1", quality, Interval(quality - 0.05, quality + 0.05), 60)
    return Decoded(0.0, 80, score, tokens, Interval(tokens - 2, tokens + 2), 0.0, Interval(0.0, 0.1), found)


def test_what_is_better_beyond_chance_is_recommended() -> None:
    assert advise([row(0.30, 50), row(0.40, 60, 0.10, p=0.001), row(0.35, 40, 0.05, p=0.01)], 0.05)[0] == 1


def test_a_gain_within_chance_is_not() -> None:
    place, reason = advise([row(0.30, 50), row(0.32, 60, 0.02, half=0.05)], 0.05)
    assert place == 0
    assert "beyond chance" in reason


def test_what_is_shorter_and_surely_as_good_is_recommended_and_what_may_be_much_worse_is_not() -> None:
    assert advise([row(0.30, 50), row(0.298, 30, -0.002, half=0.01)], 0.05)[0] == 1
    assert advise([row(0.30, 50), row(0.298, 30, -0.002, half=0.05)], 0.05)[0] == 0
    assert advise([row(0.30, 50), row(0.298, 49, -0.002, half=0.01)], 0.05)[0] == 0  # as long as before


def test_what_is_worse_beyond_chance_is_never_recommended_however_much_may_be_lost() -> None:
    assert advise([row(0.8, 50), row(0.5, 30, -0.3, p=0.001)], 1.0)[0] == 0


def test_a_project_without_data_or_without_the_export_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[project]\nname = "x"\n')
    with pytest.raises(DataError, match="no conversations"):
        tune_decoding(tmp_path, SilentProgress())

    from vivace.loop.project import open_project

    with open_project(tmp_path, SilentProgress()) as project:
        project.store.run(
            "data",
            lambda workspace: {"n": (workspace.out / "examples.jsonl").write_text("\n")},
            settings={},
            parents={},
            kind="dataset",
            progress=SilentProgress(),
        )
    with pytest.raises(ConfigError, match="no export 'openvino-int8'"):
        tune_decoding(tmp_path, SilentProgress(), export="openvino-int8")
