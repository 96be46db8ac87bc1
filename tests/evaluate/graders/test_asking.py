"""Models that grade are asked once, a group at a time, and what they say is read or told as unreadable."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.evaluate.fakes import FakeEngine
from vivace.config.grader import LabelModelGrader, ScoreModelGrader
from vivace.errors import ConfigError
from vivace.evaluate.graders.asking import Examiner
from vivace.evaluate.graders.case import Case

TURNS = [
    {"role": "system", "content": "Grade."},
    {"role": "user", "content": "{{ item.reference }}: {{ sample.output_text }}"},
]
CASES = [Case(f"e{n}", {"reference": f"wanted {n}"}, {"output_text": f"said {n}"}) for n in range(5)]
SCORE = ScoreModelGrader(type="score_model", name="quality", model="base", input=TURNS, range=[1, 5])
LABEL = LabelModelGrader(
    type="label_model", name="tone", model="tuned", input=TURNS, labels=["friendly", "not friendly", "rude"],
    passing_labels=["friendly"],
)  # fmt: skip


class Models:
    """Opens the same fake for every name and remembers which were opened."""

    def __init__(self, reply) -> None:
        self.engine = FakeEngine(reply)
        self.names: list[str] = []

    @asynccontextmanager
    async def __call__(self, name):
        self.names.append(name)
        yield self.engine


def grades(grader, reply, cases=CASES, journal=None):
    models = Models(reply)
    return asyncio.run(Examiner(models, journal).grades(grader, cases)), models


@pytest.mark.parametrize(
    ("said", "grade"),
    [
        ("4", 4),
        (" 4.5\n", 4.5),
        ("4/5", 4),
        ("Score: 3", 3),
        ("I like it. My rating is 2.", 2),
        ('{"steps": [], "result": 5.0}', 5),
        ('{"score": "3"}', 3),
        ("Note: 2,5", 2.5),
    ],
)
def test_a_score_is_read_from_what_models_write(said, grade):
    assert grades(SCORE, lambda _: said)[0] == [grade] * 5


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Well done!", "gave no number for 'quality' on example 'e0': \"Well done!\"."),
        ("7", "gave 7 for 'quality' on example 'e0', outside 1 to 5"),
        ("Of 10 points it deserves many", "gave no number"),
        ('{"result": true}', "gave no number"),
        ("!", "could not grade for 'quality' on example 'e0': This one cannot be answered."),
    ],
)
def test_what_is_no_score_is_a_sentence(said, message):
    assert message in grades(SCORE, lambda _: said)[0][0]


@pytest.mark.parametrize(
    ("said", "grade"),
    [("friendly", 1), ("Friendly.", 1), ("It is rude!", 0), ("not friendly", 0), ('{"label": "rude"}', 0)],
)
def test_a_label_passes_or_does_not(said, grade):
    assert grades(LABEL, lambda _: said)[0] == [grade] * 5


@pytest.mark.parametrize(
    ("said", "message"), [("neutral", "gave no label"), ("friendly or rude", "more than one label")]
)
def test_what_is_no_label_is_a_sentence(said, message):
    assert message in grades(LABEL, lambda _: said)[0][0]


def test_the_model_sees_the_filled_in_turns_greedily():
    _, models = grades(SCORE, lambda _: "3")
    assert models.names == ["base"]
    request = models.engine.seen[0]
    assert [turn.role for turn in request.messages] == ["system", "user"]
    assert sorted(each.messages[-1].content for each in models.engine.seen) == [
        f"wanted {n}: said {n}" for n in range(5)
    ]
    assert request.sampling.temperature == 0


def test_failed_answers_get_the_lowest_grade_and_ask_nobody():
    failed = [Case("e0", {"reference": "x"}, {"output_text": ""}, failed=True)]
    found, models = grades(SCORE, lambda _: "5", failed)
    assert found == [1]
    assert models.names == []


def test_an_interrupted_grading_asks_nothing_twice(tmp_path):
    journal = tmp_path / "graders.jsonl"
    first, _ = grades(SCORE, lambda text: str(len(text) % 5 + 1), CASES[:3], journal)
    again, models = grades(SCORE, lambda _: "1", CASES, journal)
    assert len(models.engine.seen) == 2
    assert again == [*first, 1, 1]


def test_without_models_it_says_which_grader_wants_one():
    with pytest.raises(ConfigError, match="The grader 'quality' asks a model"):
        asyncio.run(Examiner(None, None).grades(SCORE, CASES))
