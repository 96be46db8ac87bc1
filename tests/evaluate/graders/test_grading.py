"""Graders as OpenAI publishes them become metrics with intervals, and fail in words."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.evaluate.fakes import FakeEngine, answered, example
from vivace.config.grader import GraderSettings
from vivace.errors import ConfigError, DataError
from vivace.evaluate.graders import (
    Examiner,
    bring,
    brought_digests,
    check,
    extra_metrics,
    grade,
    models_asked,
    read_graders,
    read_own,
)

ADAPTER: TypeAdapter[GraderSettings] = TypeAdapter(GraderSettings)
EXACT = {
    "type": "string_check", "name": "exact", "operation": "eq",
    "input": "{{ sample.output_text }}", "reference": "{{ item.reference }}",
}  # fmt: skip
FUZZY = {
    "type": "text_similarity", "name": "fuzzy", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.8,
    "input": "{{sample.output_text}}", "reference": "{{item.reference}}",
}  # fmt: skip
PYTHON = {
    "type": "python",
    "name": "length",
    "source": "def grade(sample, item):\n    return len(sample['output_text']) / 10",
}
MODEL = {
    "type": "score_model", "name": "quality", "model": "base",
    "input": [{"role": "user", "content": {"type": "input_text", "text": "Rate: {{ sample.output_text }}"}}],
}  # fmt: skip
SAID = ["yes", "yess", "no", "maybe so", ""]
ANSWERS = [answered(n, said, "yes", metadata={"label": "agree"}) for n, said in enumerate(SAID[:4])]
ANSWERS.append(answered(4, "", "yes", metadata={"label": "agree"}, error="The answer is empty."))


def settings(*tables):
    return [ADAPTER.validate_python(table) for table in tables]


def graded(*tables, answers=ANSWERS, own=(), reply=lambda _: "0.5"):
    @asynccontextmanager
    async def opened(_name):
        yield FakeEngine(reply)

    return asyncio.run(grade(answers, settings(*tables), own, Examiner(opened, None)))


def values(found, name):
    return [each.scores[name] for each in found.answers]


@pytest.mark.parametrize(
    ("operation", "reference", "wanted"),
    [
        ("eq", "{{ item.reference }}", [1, 0, 0, 0, 0]),
        ("ne", "{{ item.reference }}", [0, 1, 1, 1, 0]),
        ("like", "es", [1, 1, 0, 0, 0]),
        ("like", "ES", [0, 0, 0, 0, 0]),
        ("ilike", "ES", [1, 1, 0, 0, 0]),
    ],
)
def test_strings_are_checked_as_said_and_a_failure_never_passes(operation, reference, wanted):
    found = graded(EXACT | {"operation": operation, "reference": reference})
    assert values(found, "exact") == wanted


def test_likeness_has_a_share_that_passes():
    found = graded(FUZZY)
    assert values(found, "fuzzy")[0] == 1
    assert 0.8 < values(found, "fuzzy")[1] < 1
    assert values(found, "fuzzy passed") == [1, 1, 0, 0, 0]


def test_a_python_grader_grades():
    assert values(graded(PYTHON), "length") == pytest.approx([0.3, 0.4, 0.2, 0.8, 0])


def test_what_an_answer_does_not_hold_costs_it_the_grade():
    table = EXACT | {"input": "{{ sample.output_json.city }}", "reference": "Ulm"}
    answers = [answered(0, '{"city": "Ulm"}', "x"), answered(1, "Ulm", "x"), answered(2, '{"town": "Ulm"}', "x")]
    assert values(graded(table, answers=answers), "exact") == [1, 0, 0]


@pytest.mark.parametrize("formula", ["0.5 * exact + 0.5 * fuzzy", "(string_check_score + text_similarity_score) / 2"])
def test_several_graders_make_one_grade(formula):
    table = {"type": "multi", "name": "both", "graders": [EXACT, FUZZY], "calculate_output": formula}
    found = graded(table)
    single = values(graded(FUZZY), "fuzzy")
    assert values(found, "both") == pytest.approx([(a + b) / 2 for a, b in zip([1, 0, 0, 0, 0], single, strict=True)])
    named = {"type": "multi", "name": "both", "graders": {"a": EXACT, "b": FUZZY}, "calculate_output": "max(a, b)"}
    assert values(graded(named), "both") == pytest.approx(single)


def test_a_model_grades_and_few_unreadable_answers_are_told_beside_the_mean():
    many = [answered(n, f"text {n}", "yes") for n in range(40)]
    found = graded(MODEL, answers=many, reply=lambda text: "hm" if text.endswith(" 7") else "0.25")
    assert sum("quality" in each.scores for each in found.answers) == 39
    assert "1 of 40 examples have no grade. They are not in the mean." in found.notes["quality"]
    worse = graded(MODEL, answers=many, reply=lambda text: "hm" if text.endswith("7") else "0.25")
    assert "4 of 40 examples have no grade." in worse.missing["quality"]
    assert not any("quality" in each.scores for each in worse.answers)


def test_a_grader_that_fails_on_one_example_is_missing_as_a_whole_and_names_it():
    table = PYTHON | {"source": "def grade(sample, item):\n    return 1 / (sample['output_text'] != 'no')"}
    found = graded(table, EXACT)
    assert "failed on example 'example-002': ZeroDivisionError" in found.missing["length"]
    assert "1 of 5 examples" in found.missing["length"]
    assert not any("length" in each.scores for each in found.answers)
    assert values(found, "exact") == [1, 0, 0, 0, 0]


def test_what_was_not_asked_is_not_graded():
    unasked = answered(9, "", "", calls_error="The model's chat template writes no tool calls.")
    found = graded(EXACT, answers=[*ANSWERS, unasked])
    assert [("exact" in each.scores) for each in found.answers] == [True] * 5 + [False]


def test_grades_become_metrics_with_intervals_and_are_read_from_what_is_stored(tmp_path):
    (tmp_path / "metrics.py").write_text("def short(answer, reference, example):\n    return len(answer) < 4\n")
    own = read_own(["metrics.py:short"], tmp_path)
    found = graded(FUZZY, MODEL | {"range": [0, 2]}, own=own)
    metrics = {
        each.name: each for each in extra_metrics(settings(FUZZY, MODEL | {"range": [0, 2]}), own, found.answers)
    }
    assert list(metrics) == ["short", "fuzzy", "fuzzy passed", "quality"]
    for name, metric in metrics.items():
        rows = metric.rows(metric.scored(found.answers))
        score = metric.score(rows, level=0.95, resamples=100, seed=0)
        assert score.value == pytest.approx(sum(values(found, name)) / 5)
        assert score.interval.low <= score.value <= score.interval.high
        assert metric.signature()
    assert metrics["short"].proportion
    assert not metrics["fuzzy"].proportion
    assert metrics["quality"].unit == "of 0 to 2"
    assert not metrics["fuzzy passed"].compared
    assert metrics["fuzzy"].scored(ANSWERS) == []


def test_names_are_checked_before_anything_is_asked(tmp_path):
    examples = [example(0, label="agree"), example(1)]
    for table, kind, message in (
        (EXACT | {"name": "token_f1"}, ConfigError, "Two metrics are called 'token_f1'"),
        (EXACT | {"reference": "{{ item.refrence }}"}, DataError, "item.refrence, and example 'example-000'"),
        (EXACT | {"reference": "{{ item.label }}"}, DataError, "item.label, and example 'example-001'"),
        (PYTHON | {"source": "def"}, ConfigError, "is not Python"),
        (
            {"type": "multi", "name": "m", "graders": [EXACT], "calculate_output": "exakt"},
            ConfigError,
            "Did you mean 'exact'",
        ),
    ):
        with pytest.raises(kind, match=message):
            check(settings(table), [], examples)
    with pytest.raises(ConfigError, match="Two metrics are called 'exact'"):
        check(settings(EXACT, EXACT), [], examples)
    check(settings(EXACT, FUZZY, PYTHON, MODEL), [], examples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "equals"}, "'eq', 'ne', 'like' or 'ilike'"),
        ({"typo": 1}, "Extra inputs"),
        ({"type": "string"}, "does not match any of the expected tags"),
        ({"name": "a|b"}, "pattern"),
    ],
)
def test_tables_are_strict(change, message):
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(EXACT | change)


def test_parts_that_no_engine_reads_are_refused_by_name():
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]
    with pytest.raises(ValidationError, match="'input_image' is not text"):
        ADAPTER.validate_python(MODEL | {"input": picture})
    with pytest.raises(ValidationError, match="which is not in labels"):
        ADAPTER.validate_python(MODEL | {"type": "label_model", "labels": ["a", "b"], "passing_labels": ["c"]})
    with pytest.raises(ValidationError, match="first bound must be below"):
        ADAPTER.validate_python(MODEL | {"range": [1, 0]})


def test_openais_own_json_can_be_pasted(tmp_path):
    file = tmp_path / "graders.json"
    for written in ([EXACT, FUZZY], {"testing_criteria": [EXACT, FUZZY]}, {"graders": [EXACT, FUZZY]}):
        file.write_text(json.dumps(written))
        assert read_graders(file) == settings(EXACT, FUZZY)
    file.write_text(json.dumps(EXACT))
    assert read_graders(file) == settings(EXACT)
    file.write_text('{"type": "string_check"}')
    with pytest.raises(ConfigError, match=r"graders\.json: 0\.string_check\.name: Field required"):
        read_graders(file)
    file.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_graders(file)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_graders(tmp_path / "no.json")


def test_a_project_brings_its_graders_and_functions_and_their_files_are_inputs(tmp_path):
    (tmp_path / "metrics.py").write_text("def short(answer, reference, example):\n    return len(answer) < 4\n")
    (tmp_path / "graders.json").write_text(json.dumps([EXACT]))
    brought = bring(settings(FUZZY), "graders.json", ["metrics.py:short"], tmp_path)
    brought.check([example(0), example(1)])
    found = asyncio.run(brought.grade(ANSWERS, Examiner(None, None)))
    assert [metric.name for metric in brought.metrics(found.answers)] == ["short", "fuzzy", "fuzzy passed", "exact"]
    assert (values(found, "short"), values(found, "exact")) == ([1, 0, 1, 0, 0], [1, 0, 0, 0, 0])
    before = brought_digests("graders.json", ["metrics.py:short"], tmp_path)
    assert sorted(before) == ["graders.json", "metrics.py"]
    (tmp_path / "graders.json").write_text(json.dumps([EXACT | {"operation": "ne"}]))
    assert brought_digests("graders.json", ["metrics.py:short"], tmp_path) != before
    for path, message in (("../graders.json", "outside the project"), ("no.json", "cannot be read")):
        with pytest.raises(ConfigError, match=message):
            bring([], path, [], tmp_path)
        with pytest.raises(ConfigError, match=message):
            brought_digests(path, [], tmp_path)


def test_the_models_that_are_asked_are_named_once():
    multi = {"type": "multi", "name": "m", "graders": [MODEL, EXACT], "calculate_output": "quality"}
    assert models_asked(settings(MODEL, MODEL | {"name": "b", "model": "tuned"}, multi, EXACT)) == ["base", "tuned"]


def test_every_kind_that_openai_publishes_is_known_with_its_keys():
    known = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in GraderSettings.__args__[0].__args__}
    assert set(known) == {"string_check", "text_similarity", "score_model", "label_model", "python", "multi"}
    assert set(known["text_similarity"].model_fields["evaluation_metric"].annotation.__args__) == {
        "cosine", "fuzzy_match", "bleu", "gleu", "meteor",
        "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
    }  # fmt: skip
    assert set(known["string_check"].model_fields["operation"].annotation.__args__) == {"eq", "ne", "like", "ilike"}
