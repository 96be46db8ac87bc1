"""`vivace bench` as people use it: servers, pages, the highest rate, wrong inputs."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tests.bench.mock_server import MockServer, Timing, mock_server
from vivace.bench.capacity import Capacity, Goal, Probe
from vivace.bench.load import Sample
from vivace.bench.server import Asked
from vivace.cli.bench import app
from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.loop import bench_page
from vivace.loop.benching import bench_address


@contextmanager
def served(timing: Timing) -> Iterator[MockServer]:
    """Run the server in a thread, as a command has an event loop of its own."""
    ready, over = threading.Event(), threading.Event()
    found: list[MockServer] = []

    async def serve() -> None:
        async with mock_server(timing) as server:
            found.append(server)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


def test_a_server_is_measured_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with served(Timing(ttft_s=0.05, gap_s=0.01)) as server:
        given = ["--url", server.url, "--input-tokens", "40", "--output-tokens", "6", "--requests", "8"]
        done = CliRunner().invoke(app, [*given, "--rate", "20", "--arrivals", "constant", "-q"])
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("bench-127.0.0.1-")
    names = {path.name for path in folder.iterdir()}
    assert names == {"bench.html", "report.md", "requests.jsonl", "result.json", "vllm.json"}
    result = json.loads((folder / "result.json").read_bytes())
    assert result["row"]["offered_per_s"] == pytest.approx(20 * 8 / 7)
    assert "even arrivals" in (folder / "report.md").read_text()
    page = (folder / "bench.html").read_text()
    assert "TTFT" in page
    assert "Plotly.newPlot" in page
    assert server.url.partition("//")[2].partition("/")[0] in page
    assert len(server.seen) == 11  # two to learn the lengths, one to warm up


def test_a_search_writes_its_page_and_its_probes(tmp_path: Path) -> None:
    with served(Timing(ttft_s=0.02, gap_s=0.005, slots=1)) as server:
        # Too slow for the level at any rate: one request alone says so.
        server.timing.ttft_s = 0.7
        asked = Asked(server.url, input_tokens=20, output_tokens=2)
        wanted = {"rate": 0.002, "service_level": "interactive"}
        found = bench_address(tmp_path, SilentProgress(), asked, wanted, goal=Goal("", 0.9, 1.0), out=tmp_path / "out")
    ((name, capacity),) = found.capacities.items()
    assert name == "mock"
    assert capacity.held is None
    assert capacity.goal.service_level == "interactive"
    assert (tmp_path / "out" / "capacity.json").is_file()
    assert "No rate kept" in (tmp_path / "out" / "bench.html").read_text()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [({"rate": -1.0}, "--rate is -1.0"), ({"arrivals": "often"}, "--arrivals is 'often'"), ({"seed": "x"}, "--seed")],
)
def test_a_flag_that_cannot_be_is_named(tmp_path: Path, wanted: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        bench_address(tmp_path, SilentProgress(), Asked("http://127.0.0.1:9/v1", "m", input_tokens=5), wanted)


def test_options_for_a_server_need_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path), "--input-tokens", "5"])
    assert isinstance(done.exception, ConfigError)
    assert "--url" in done.exception.hint


def sample(number: int, ttft_ms: float | None) -> Sample:
    first = None if ttft_ms is None else ttft_ms / 1e3
    return Sample(str(number), 0.0, 0.0, 1.0, first, 10, 5, 0, None if first is not None else "broke </script> off")


def test_the_curve_counts_requests_that_failed() -> None:
    drawn = bench_page.cdf({"m": [sample(0, 100), sample(1, 200), sample(2, None), sample(3, None)]}, "interactive")
    assert drawn is not None
    trace = json.loads(drawn)["data"][0]
    assert trace["x"] == [100.0, 200.0]
    assert trace["y"] == [0.25, 0.5]


def test_the_plot_of_a_search_shows_what_held_and_what_missed() -> None:
    probes = (Probe(1.0, 40, 40, 40, "held", 1.0), Probe(2.0, 40, 40, 20, "missed", 1.0))
    drawn = bench_page.rates(Capacity(1.0, 2.0, Goal("interactive", 0.99), probes))
    assert drawn is not None
    held, missed = json.loads(drawn)["data"]
    assert (held["x"], held["y"], missed["x"], missed["y"]) == ([1.0], [1.0], [2.0], [0.5])


def test_the_page_of_a_project_holds_every_table_and_escapes_what_it_is_told(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.md").write_text(
        "# Speed\n\nMachine: a <b>, 2 cores.\n\n**Noisy: others.** Repeat it.\n\n## 8 at once\n\n"
        "| candidate | TTFT p50 |\n| --- | --- |\n| <script>x | 12 |\n\n## Against the machine\n\nIt can do much.\n\n"
        "| candidate | weights MB |\n| --- | --- |\n| m | 5 |\n\nNot measured: other (gone).\n\nLatencies are in ms.\n"
    )
    rows = [
        msgspec.to_builtins(sample(n, 100)) | {"candidate": "m", "loop": "closed", "workload": "natural", "block": 0}
        for n in range(3)
    ]
    (report / "requests.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    page = bench_page.write_project_page(tmp_path / "bench.html", report).read_text()
    assert "&lt;script&gt;x" in page
    assert "Against the machine" in page
    assert "It can do much." in page
    assert "Not measured: other (gone)." in page
    assert "Noisy: others." in page
    assert '"cdf0"' in page or "cdf0:" in page
