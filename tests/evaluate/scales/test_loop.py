"""Sizes compared from the settings to the page, on the tiny model and two of its like."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.engines.remote.provider import openai_events, serving, streams
from tests.evaluate.scales.test_saturation import judged
from tests.evaluate.scales.worlds import SIZES, TRUE, world
from tests.tiny import build_tiny_model
from vivace.bench.load import Sample
from vivace.bench.pace import AT_ONCE
from vivace.bench.pace import Times as Round
from vivace.cli.evaluate_scales import print_scales, scales
from vivace.config.scales import ScalesSettings
from vivace.domain import Candidate, Interval, Model, Score
from vivace.errors import ConfigError, DataError
from vivace.evaluate.answers import Answer
from vivace.evaluate.scales.recommend import Advice
from vivace.loop.evaluate.scales import Row, Scales, Times, compare_scales, reference_tokens, times_of
from vivace.loop.evaluate.scales_page import plot, render


def score(value: float, spread: float = 0.1) -> Score:
    return Score("x", value, Interval(value - spread, value + spread), 9)


def row(name: str, parameters: int | None = 1_000_000, cost: float | None = None) -> Row:
    times = Times(name, score(10), score(2), score(100), score(0.5), 0.1, 50, 10**8, 0.2)
    return Row(name, "as they are", parameters, "int8", "openvino", 10**7, score(0.4), None, times, cost, 20.0)


def found(**changes) -> Scales:
    curve = judged(world(np.random.default_rng(3), SIZES, TRUE, 200))
    options = {"left_out": {"huge": "It needs 900 GB."}, "metric": "token_f1", "questions": 200, "task": ""} | changes
    return Scales(
        (row("a <b>"), row("c", None, 1.5)), (("as they are", curve),), Advice("c", "yes", ("It is.",), ()), **options
    )


def test_the_page_shows_models_curves_and_advice() -> None:
    from plotly.offline import get_plotlyjs

    page = render(found(), ScalesSettings(price_per_hour=0.1))
    assert "Recommended: c" in page
    assert "a &lt;b&gt;" in page
    assert "huge: It needs 900 GB." in page
    assert "0.1 for an hour of this machine" in page
    assert "Other programs used 20 %" in page
    assert "token f1 grows with parameters" in page
    assert page.count("Plotly.newPlot(") == page.count('<div id="plot')
    assert not re.search(r'(src|href)="http', page.replace(get_plotlyjs(), ""))
    drawn = json.loads(plot(found().curves[0][1]))
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert {"curve", "interval", "measured"} <= {trace.get("name") for trace in drawn["data"]}


def test_the_table_fits_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr("vivace.cli.screen.out.width", 80)
    print_scales(found())
    shown = capsys.readouterr().out
    assert "Recommended: c." in shown
    assert "1,000 answers cost 1.5" in shown
    assert "huge is left out" in shown
    assert max(len(line) for line in shown.splitlines() if "±" in line or "─" in line) <= 80


def rounds(name: str, alone_ms: float, at_once_s: float) -> list[Round]:
    def sample(number: int, first: float, each: float) -> Sample:
        return Sample(str(number), 0.0, 0.0, first + 47 * each, first, 100, 48)

    made = []
    for number in range(3):
        alone = tuple(sample(n, 0.1 + 0.001 * number, alone_ms / 1e3) for n in range(3))
        crowd = tuple(sample(n, 0.2, 0.01) for n in range(AT_ONCE))
        made.append(Round(name, number, 1, alone, 1.0, 100 + number))
        made.append(Round(name, number, AT_ONCE, crowd, at_once_s + 0.1 * number, 200))
    return made


def test_times_are_of_an_answer_as_long_as_the_references() -> None:
    item = Candidate("m", "openvino", Model("m", Path("nowhere"), "openvino", "int8"))
    answers = [Answer("a", (), "r", "s", logprob=-1.0, token_count=count) for count in (10, 21, 30)]
    assert reference_tokens(answers) == 21
    times = times_of(item, [*rounds("m", 5, 2.0), *rounds("other", 500, 9.0)], answers)
    assert times.ttft_ms.value == pytest.approx(101)
    assert times.ttft_ms.interval.low == pytest.approx(100)
    assert times.tpot_ms.value == pytest.approx(5)
    assert times.answer_s.value == pytest.approx(0.101 + 20 * 0.005)
    assert times.tokens_per_s.value == pytest.approx(8 * 48 / 2.1)
    assert (times.tokens_per_s.interval.level, times.tokens_per_s.count) == (pytest.approx(0.75), 3)
    assert times.peak_memory_bytes == 200
    # 2.1 s for eight answers of 48 tokens, 101 ms of each for reading.
    assert times.machine_s == pytest.approx(0.101 + (2.1 / 8 - 0.101) * 21 / 48)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scales")
    for seed in range(2):
        build_tiny_model(place / f"tiny{seed}", seed=seed)
    shutil.copytree(place / "tiny0", place / "huge")
    config = json.loads((place / "huge" / "config.json").read_text())
    config |= {"num_hidden_layers": 4_000_000, "hidden_size": 512}
    (place / "huge" / "config.json").write_text(json.dumps(config))
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Where is order number {n} of customer {chr(97 + n % 26)}{n}?"},
                {"role": "assistant", "content": f"Your order {n} arrives on day {n} with parcel {7 * n}."},
            ],
            "metadata": {"intent": "late" if n % 3 else "lost"},
        }
        for n in range(60)
    ]
    (place / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:40]))
    (place / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[40:]))
    (place / "vivace.toml").write_text(
        '[models]\nbase = "tiny0"\n[data]\nconversations = ["talks.jsonl"]\ntest = ["test.jsonl"]\n'
        "near_duplicate_threshold = 1.0\n[evaluate]\nmax_tokens = 8\nresamples = 200\n"
        '[evaluate.scales]\nmodels = ["tiny0", "tiny1", "huge", "nowhere-at-all"]\nprice_per_hour = 1.0\n'
    )
    return place


@pytest.mark.slow
def test_models_are_compared_side_by_side_and_again_without_work(project: Path) -> None:
    from vivace.domain import SilentProgress

    first = compare_scales(project, SilentProgress())
    assert [each.name for each in first.rows] == ["tiny0", "tiny1"]
    assert "memory" in first.left_out["huge"]
    assert "nowhere-at-all" in first.left_out["nowhere-at-all"]
    assert first.questions == 20
    assert first.rows[0].parameters == 106_816
    assert first.rows[0].bits is not None
    assert first.rows[0].cost is not None
    assert {verdict.verdict for _family, verdict in first.curves} <= {"few", "flat"}
    assert first.worked == ("scales",)
    assert json.loads((project / "scales.json").read_text())["questions"] == 20
    again = compare_scales(project, SilentProgress())
    assert again.worked == ()
    assert again.rows == first.rows
    shown = CliRunner().invoke(_app(), [str(project), "--task", "lost", "--max-disk-mb", "0.001", "--quiet"])
    assert shown.exit_code == 0, shown.output
    assert "of the intent lost" in shown.output
    assert "No model is within the budget" in shown.output.replace("\n", " ")
    with pytest.raises(DataError, match="have the intent 'none'") as refused:
        compare_scales(project, SilentProgress(), changes=['evaluate.scales.task="none"'])
    assert "late, lost" in refused.value.hint
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare_scales(project, SilentProgress(), changes=["evaluate.scales.models=[]"])
    with pytest.raises(DataError, match=r"No model of \[evaluate.scales\] could be measured"):
        compare_scales(project, SilentProgress(), changes=['evaluate.scales.models=["huge"]'])


@pytest.mark.slow
def test_a_provider_takes_no_disk_and_no_memory_and_costs_what_its_table_says(project: Path) -> None:
    from vivace.domain import SilentProgress

    with serving(streams(openai_events())) as url:
        prices = "price_per_million_input_tokens=2.0, price_per_million_output_tokens=8.0"
        changes = [
            f'models.providers.cloud={{base_url="{url}", model="gpt-4o", {prices}}}',
            'evaluate.scales.models=["tiny0", "cloud"]',
        ]
        compared = compare_scales(project, SilentProgress(), changes=changes)
    own, cloud = compared.rows
    assert (own.name, cloud.name, cloud.family, cloud.engine) == ("tiny0", "cloud", "providers", "openai")
    assert (cloud.size_bytes, cloud.times.peak_memory_bytes, cloud.parameters) == (0, 0, None)
    assert cloud.cost == pytest.approx(1e3 * (2.0 * cloud.times.prompt_tokens + 8.0 * cloud.tokens) / 1e6)
    assert own.cost is not None
    assert own.cost != cloud.cost


def _app():
    import typer

    app = typer.Typer()
    app.command()(scales)
    return app
