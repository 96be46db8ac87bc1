"""Tables keep their figures on a narrow terminal."""

import io

from rich.console import Console

from vivace.cli.results import speed_table
from vivace.domain import Interval, Latency, Score, Speed


def latency(p50_ms: float, p95_ms: float) -> Latency:
    return Latency(*(Score("ms", value, Interval(value, value), 9) for value in (p50_ms, p95_ms)))


def speed(scale: float) -> Speed:
    times = (
        latency(412 * scale, 1_892 * scale),
        latency(48 * scale, 112 * scale),
        latency(3_012 * scale, 9_345 * scale),
    )
    return Speed(*times, 21 * scale, 0.4, 1.0, round(1.93e9 * scale), 2.0, 9, 0)


def shown(speeds: dict[str, Speed], sizes: dict[str, int]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(speed_table(speeds, sizes))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_speed_table_fits_80_columns() -> None:
    lines = shown(
        {"base-transformers": speed(1), "tuned-openvino-int8": speed(0.3)},
        {"base-transformers": 541_000_000, "tuned-openvino-int8": 151_000_000},
    )
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for whole in ("base-transformers", "tuned-openvino-int8", "412/1,892", "3,012/9,345", "541/1,930"):
        assert whole in text


def test_figures_stay_whole_where_a_large_model_is_slow() -> None:
    text = "\n".join(shown({"tuned-openvino-int4-asym": speed(10)}, {"tuned-openvino-int4-asym": 5_410_000_000}))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for whole in ("4,120/18,920", "480/1,120", "30,120/93,450", "5,410/19,300"):
        assert whole in text
