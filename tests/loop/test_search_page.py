"""The pages of a search are self-contained and say what was tried."""

import json
import re
from pathlib import Path
from typing import Any

from vivace.loop.search_page import cells, history, importances, parallel_coordinates, write_pages
from vivace.loop.searching import sentence


def result() -> dict[str, Any]:
    """Three trials: the default, one that was pruned, and the best."""
    trials = [
        {"number": n, "state": state, "settings": {"learning_rate": rate, "dtype": kind}, "tokens": 800,
         "validation_loss": loss, "validation_losses": {"1": loss}, "failure": ""}
        for n, (state, rate, kind, loss) in enumerate(
            [("complete", 0.1, "auto", 3.0), ("pruned", 0.9, "</script>", 9.0), ("complete", 0.2, "float32", 2.0)]
        )
    ]  # fmt: skip
    return {
        "method": "tpe", "pruner": "asha", "tokens_per_trial": 8000, "trials": trials,
        "space": {"learning_rate": {}, "dtype": {}}, "importances": {"learning_rate": 0.75, "dtype": 0.25},
        "default": trials[0]["settings"], "default_validation_loss": 3.0,
        "best": trials[2]["settings"], "best_validation_loss": 2.0,
    }  # fmt: skip


def test_the_page_holds_three_plots_and_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps(result()))
    write_pages(tmp_path)
    page = (tmp_path / "search.html").read_text()
    assert page.count("Plotly.newPlot(") >= 3
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=|@import|url\(""", outside)
    assert "3 trials of 8,000 tokens by tpe, 1 ended early by asha" in outside
    assert "&lt;/script&gt;" in outside
    text = (tmp_path / "search.md").read_text()
    assert "| 2 | 0.2 | float32 | 800 | 2 | complete |" in text
    assert "learning_rate 75%, dtype 25%" in text


def test_the_figures_show_what_is_in_the_rows() -> None:
    found = result()
    drawn = json.loads(history(found["trials"]) or "")["data"]
    assert [trace["name"] for trace in drawn] == ["complete", "pruned", "best so far"]
    assert drawn[2]["y"] == [3.0, 3.0, 2.0]
    axes = json.loads(parallel_coordinates(found) or "")["data"][0]["dimensions"]
    assert [axis["label"] for axis in axes] == ["learning_rate", "dtype", "validation loss"]
    assert axes[1]["ticktext"] == ["auto", "float32"]
    assert json.loads(importances(found["importances"]) or "")["data"][0]["y"] == ["dtype", "learning_rate"]
    assert len(cells(found)) == 4


def test_nothing_to_draw_is_no_figure() -> None:
    assert history([]) is None
    assert importances({}) is None
    assert parallel_coordinates(result() | {"trials": []}) is None


def test_the_sentence_says_honestly_what_came_out() -> None:
    verdict: dict[str, Any] = {
        "winner": {"learning_rate": 0.02, "lora_r": 8}, "gain": 0.1234, "low": 0.05, "high": 0.2, "examples": 60,
        "unseen": True, "better": True,
    }  # fmt: skip
    told = "Better than the default settings by +0.123 [+0.050, +0.200] nats per token on 60 validation conversations"
    assert sentence(verdict) == f"{told}: learning_rate = 0.02, lora_r = 8."
    worse = sentence(verdict | {"low": -0.01, "better": False, "unseen": False})
    assert worse.startswith("The search did not beat the default settings: +0.123 [-0.010, +0.200]")
    assert "the figure flatters it" in worse
    assert "nothing better" in sentence({"winner": {}, "better": False})
