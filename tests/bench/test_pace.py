"""The pace of models side by side: planted times give planted ratios, and finished rounds are kept."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from tests.bench.test_run import echo, examples
from vivace.bench.load import Sample
from vivace.bench.pace import AT_ONCE, ROUNDS, Times, _pace, paces
from vivace.domain import SilentProgress
from vivace.errors import EngineError


def times(name: str, number: int, at_once: int, token_s: float, error: str | None = None) -> Times:
    """A round in which every token takes `token_s`, the first ten times as long, and answers have eleven tokens."""
    samples = tuple(
        Sample(f"{number}/{place}", 0.0, 0.0, 20 * token_s, 10 * token_s, 5, 11, error=error) for place in range(4)
    )
    return Times(name, number, at_once, samples, seconds=4 * 20 * token_s / at_once, peak_memory_bytes=1000 + number)


def planted(**token_s: float) -> list[Times]:
    return [
        times(name, number, at_once, seconds)
        for number in range(ROUNDS)
        for name, seconds in token_s.items()
        for at_once in (1, AT_ONCE)
    ]


def test_planted_times_give_planted_ratios() -> None:
    done = planted(whole=0.01, half=0.004)
    pace = _pace("half", "whole", done)
    assert pace.token_ms == pytest.approx(4.0)
    assert pace.ttft_ms == pytest.approx(40.0)
    for ratio in (pace.decode_ratio, pace.throughput_ratio):
        assert ratio.value == pytest.approx(2.5)
        assert ratio.low <= 2.5 <= ratio.high
    assert pace.tokens_per_s == pytest.approx(44 / (4 * 20 * 0.004 / AT_ONCE))
    assert pace.peak_memory_bytes == 1000 + ROUNDS - 1
    assert _pace("whole", "whole", done).decode_ratio.value == 1.0


def test_rounds_are_compared_in_their_own_order_however_they_were_measured() -> None:
    done = [*planted(whole=0.01)]
    for number, token_s in ((2, 0.03), (0, 0.01), (1, 0.02)):
        done += [times("half", number, at_once, token_s) for at_once in (1, AT_ONCE)]
    assert _pace("half", "whole", done).decode_ratio.value == pytest.approx(0.5)
    assert _pace("half", "whole", done[::-1]) == _pace("half", "whole", done)


def test_a_model_that_fails_has_no_pace() -> None:
    done = [*planted(whole=0.01), times("half", 0, 1, 0.1, "it died"), times("half", 0, AT_ONCE, 0.1)]
    with pytest.raises(EngineError, match="half is not known: it died"):
        _pace("half", "whole", done)


def test_real_engines_are_measured_and_finished_rounds_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    items = [echo("whole", tiny_model), echo("half", tiny_model)]
    first = asyncio.run(paces(items, examples(), tmp_path, SilentProgress(), threads=1))
    assert [pace.name for pace in first] == ["whole", "half"]
    journal = tmp_path / "paces.jsonl"
    lines = journal.read_bytes().splitlines()
    assert len(lines) == 2 * 2 * ROUNDS
    order = [msgspec.json.decode(line, type=Times).name for line in lines]
    assert order[:4] == ["whole", "whole", "half", "half"]
    assert order[4:8] == ["half", "half", "whole", "whole"]  # a drift of the machine falls on both alike
    journal.write_bytes(b"\n".join(lines[:5]) + b"\n")
    asyncio.run(paces(items, examples(), tmp_path, SilentProgress(), threads=1))
    again = journal.read_bytes().splitlines()
    assert again[:5] == lines[:5]
    assert len(again) == len(lines)
    asyncio.run(paces(items, examples(), tmp_path, SilentProgress(), threads=1))
    assert journal.read_bytes().splitlines() == again
