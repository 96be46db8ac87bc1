"""Recorded traffic is read whoever recorded it."""

import gzip
import json
from pathlib import Path

import pytest

from vivace.bench.traffic.traces import Recorded, choose, read_trace
from vivace.errors import DataError


def written(folder: Path, text: str, name: str = "trace.jsonl") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_our_own_rows_mooncakes_and_azures_say_the_same(tmp_path: Path) -> None:
    ours = {"t": 1.5, "input_tokens": 700, "output_tokens": 20, "prefix_block_ids": [3, 4]}
    mooncakes = {"timestamp": 1500, "input_length": 700, "output_length": 20, "hash_ids": [3, 4]}
    expected = [Recorded(1.5, 700, 20, (3, 4))]
    assert read_trace(written(tmp_path, json.dumps(ours) + "\n\n")) == expected
    assert read_trace(written(tmp_path, json.dumps(mooncakes))) == expected
    azures = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,374,44\n"
        "2023-11-16 18:17:04.0319600,396,109\n"
    )
    first, second = read_trace(written(tmp_path, azures, "azure.csv"))
    assert second.time_s - first.time_s == pytest.approx(0.052, abs=1e-5)
    assert (first.input_tokens, second.output_tokens) == (374, 109)


def test_a_gzipped_trace_is_read_and_put_in_order(tmp_path: Path) -> None:
    rows = [{"t": 2.0, "input_tokens": 5, "output_tokens": 1}, {"t": 1.0, "input_tokens": 6, "output_tokens": 0}]
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert read_trace(path) == [Recorded(1.0, 6, 1), Recorded(2.0, 5, 1)]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged gzip"):
        read_trace(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no request"),
        ('{"t": 1, "input_tokens": 3, "output_tokens": 2}\n{"t": 1}\n', r"trace.jsonl:2 names no time"),
        ('{"t": 1, "input_tokens": "many", "output_tokens": 2}', "input_tokens is 'many'"),
        ('{"t": 1, "input_tokens": -4, "output_tokens": 2}', "input_tokens is -4"),
        ('{"t": 1, "input_tokens": 9e99, "output_tokens": 2}', "input_tokens"),
        ('{"t": "soon", "input_tokens": 4, "output_tokens": 2}', "'soon' is no time"),
        ('{"t": 1, "input_tokens": 4, "output_tokens": 2, "prefix_block_ids": ["a"]}', "prefix_block_ids"),
        ('{"t": 1, "input', "no JSON object"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_trace(written(tmp_path, text))


def test_requests_longer_than_the_context_are_passed_over_and_counted() -> None:
    trace = [Recorded(0, 10, 5), Recorded(1, 1000, 5), Recorded(2, 20, 5), Recorded(3, 30, 5)]
    found = choose(trace, 2, 100)
    assert found.requests == (trace[0], trace[2])
    assert found.too_long == 1
    with pytest.raises(DataError, match="the shortest has 15"):
        choose(trace, 2, 12)
