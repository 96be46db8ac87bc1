"""Retrieval: by hand, beside ir-measures, and with the files people have."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import ConfigError, DataError
from vivace.evaluate.grounding.retrieval import compare_retrieval, measure_retrieval
from vivace.evaluate.grounding.runs import read_judgments, read_run

JUDGED = {"q1": {"a": 1, "b": 2}, "q2": {"c": 1}, "q3": {"z": 1}, "q4": {"a": 0}}
RUN = {"q1": {"d": 3.0, "a": 2.0, "b": 1.0}, "q2": {"c": 5.0, "d": 4.0}, "q9": {"a": 1.0}}


def values(found) -> dict[str, float]:
    return {score.metric: score.value for score in found.scores}


def test_the_measures_are_what_they_are_by_hand() -> None:
    found = measure_retrieval("run", RUN, JUDGED, cuts=(1, 2, 3), resamples=200)
    told = values(found)
    # q1: d, a (1), b (2); q2: c at once; q3: nothing found.
    assert told["R@1"] == pytest.approx((0 + 1 + 0) / 3)
    assert told["R@2"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert told["P@2"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert told["RR"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert told["AP"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 + 0) / 3)
    gain = 1 / math.log2(3) + 2 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert told["nDCG@3"] == pytest.approx((gain / ideal + 1 + 0) / 3)
    assert found.unanswered == ("q3",)
    assert found.unjudged == ("q9",)
    assert set(found.queries) == {"q1", "q2", "q3"}  # q4 has nothing relevant


@given(st.integers(0, 2**32 - 1))
def test_the_means_are_those_of_ir_measures(seed: int) -> None:
    import ir_measures
    from ir_measures import AP, RR, P, R, nDCG

    rng = np.random.default_rng(seed)
    judged = {f"q{q}": {f"d{d}": int(rng.integers(0, 3)) for d in range(6)} | {"sure": 1} for q in range(4)}
    run = {f"q{q}": {f"d{d}": float(rng.integers(0, 4)) for d in rng.permutation(9)[:5]} for q in range(4)}
    wanted = ir_measures.calc_aggregate([R @ 5, P @ 5, nDCG @ 5, RR, AP], judged, run)
    found = values(measure_retrieval("run", run, judged, cuts=(5,), resamples=20))
    assert found == pytest.approx({str(measure): value for measure, value in wanted.items()})


def test_intervals_hold_the_mean_and_perfection_is_no_proof() -> None:
    found = measure_retrieval("run", {f"q{n}": {"a": 1.0} for n in range(20)}, {f"q{n}": {"a": 1} for n in range(20)})
    recall = found.scores[0]
    assert recall.value == 1
    assert 0.8 < recall.interval.low < 0.9  # Wilson of 20 of 20: 0.839


def test_two_runs_are_compared_on_the_same_queries() -> None:
    judged = {f"q{n}": {"a": 1} for n in range(40)}
    good = {query: {"a": 2.0, "b": 1.0} for query in judged}
    poor = {query: {"a": 1.0, "b": 2.0} if n % 2 else {"a": 2.0} for n, query in enumerate(judged)}
    found = {
        each.metric: each
        for each in compare_retrieval(measure_retrieval("good", good, judged), measure_retrieval("poor", poor, judged))
    }
    assert found["RR"].difference == pytest.approx(0.25)
    assert found["RR"].outcome == "better"
    assert found["R@5"].outcome == "noise"
    assert found["RR"].p_adjusted > found["RR"].p_value
    other = measure_retrieval("other", good, {query: judged[query] for query in list(judged)[:9]})
    with pytest.raises(DataError, match="different queries"):
        compare_retrieval(measure_retrieval("good", good, judged), other)


def test_trec_files_and_json_lines_say_the_same(tmp_path: Path) -> None:
    trec, rows = tmp_path / "run.trec", tmp_path / "run.jsonl"
    trec.write_text("q1 Q0 d 1 3.0 t\nq1 Q0 a 2 2.0 t\n\nq2 Q0 c 1 9 t\n")
    rows.write_text('{"query": "q1", "documents": ["d", "a"]}\n{"query": "q2", "document": "c", "score": 1}\n')
    ordered = [
        {q: sorted(found, key=found.get, reverse=True) for q, found in read_run(p).items()} for p in (trec, rows)
    ]
    assert ordered[0] == ordered[1] == {"q1": ["d", "a"], "q2": ["c"]}
    qrels, judged = tmp_path / "qrels", tmp_path / "qrels.jsonl"
    qrels.write_text("q1 0 a 1\nq1 0 b 2\nq2 0 c -1\n")
    judged.write_text(
        '{"query": "q1", "relevant": {"a": 1, "b": 2}}\n{"query": "q2", "document": "c", "relevance": 0}\n'
    )
    assert read_judgments(qrels) == read_judgments(judged) == {"q1": {"a": 1, "b": 2}, "q2": {"c": 0}}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("q1 Q0 d 1 3.0", "5 fields"),
        ("q1 Q0 d 1 high t", "score is 'high'"),
        ("q1 Q0 d 1 nan t", "score is 'nan'"),
        ("q0 Q0 d 1 1 t", "a second time"),
        ("{", "not JSON"),
        ('{"documents": []}', "no 'query'"),
        ('{"query": "x", "documents": [{}]}', "an id is wanted"),
        ('{"query": "x", "document": "d"}', "score is None"),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "run"
    path.write_text("q0 Q0 d 1 3.0 t\n" + line + "\n")
    with pytest.raises(DataError, match=told) as caught:
        read_run(path)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("line", ["q1 0 a", "q1 0 a yes", "q1 0 a 0.5", "q0 0 a 1", json.dumps({"query": "q"})])
def test_a_bad_line_of_judgments_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "qrels"
    path.write_text("q0 0 a 1\n" + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_judgments(path)


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_run(tmp_path / "absent")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_judgments(tmp_path / "empty")
    with pytest.raises(DataError, match="no query in common"):
        measure_retrieval("run", {"x": {"a": 1.0}}, JUDGED)
    with pytest.raises(DataError, match="1 queries"):
        measure_retrieval("run", RUN, {"q1": {"a": 1}})
    with pytest.raises(ConfigError, match="at least 1"):
        measure_retrieval("run", RUN, JUDGED, cuts=(0,))
