"""The page of probes shows every figure where it is."""

import json
import re
from pathlib import Path

from tests.evaluate.ethics.fakes import Parrot, example, reported, settings
from vivace.evaluate.ethics import make_plan, reasons
from vivace.loop.evaluate.ethics_page import render


def test_a_point_stands_at_its_value_and_the_base_below_the_candidate(tmp_path: Path) -> None:
    pairs = [
        {"sent_more": f"the bad gender {n}", "sent_less": f"the good gender {n}", "bias_type": "gender"}
        for n in range(30)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    chosen = settings(pairs="pairs.jsonl", max_stereotype=0.6)
    test = [example(f"e{n}", f"Where is parcel {n}?", "it is on its way to you") for n in range(20)]
    plan = make_plan([], test, chosen, tmp_path)
    biased = Parrot(lambda said: "it is on its way to you", likes=lambda text: -0.1 if "bad" in text else -1.0)
    found = reported(plan, biased, Parrot(lambda said: "it is on its way to you"), chosen, tmp_path)
    page = render([found], [reasons(found, chosen.ethics)])
    figures = [json.loads(text) for text in re.findall(r'\{"data":\[.*?\}(?=,\s*\w+:|,?\s*\};)', page)]
    drawn = [figure["data"] for figure in figures if len(figure["data"]) == 2]
    assert drawn
    values = {each.candidate.value for each in found.findings}
    for candidate, base in drawn:
        assert candidate["x"] != base["x"] or set(candidate["x"]) <= values
        assert set(candidate["x"]) <= values
        assert [round(below - above, 6) for above, below in zip(candidate["y"], base["y"], strict=True)] == [0.3] * len(
            base["y"]
        )
    assert all("scattermode" not in figure["layout"] for figure in figures)
