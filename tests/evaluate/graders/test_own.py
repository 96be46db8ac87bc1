"""A function of the user's is a metric; what goes wrong in it is told with the example."""

import pytest

from tests.evaluate.fakes import answered
from vivace.errors import ConfigError
from vivace.evaluate.graders import own_digests, read_own
from vivace.evaluate.graders.case import case_of
from vivace.evaluate.graders.own import own_grades

SOURCE = """
from dataclasses import dataclass
from beside import WORDS

@dataclass
class Word:
    text: str

def politeness(answer, reference, example):
    return any(word in answer for word in WORDS)

def length(answer, reference, example):
    return len(answer) / len(reference) + len(example["messages"]) - 1

def breaks(answer, reference, example):
    return {"a": 1}[answer]

def strange(answer, reference, example):
    return {"nan": float("nan"), "text": "0.5", "none": None, "huge": 10 ** 400}[answer]

def leaves(answer, reference, example):
    raise SystemExit(3)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "metrics.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("WORDS = ('please', 'thank')\n")
    return tmp_path


def grades(project, place, *said):
    (metric,) = read_own([place], project)
    return own_grades(metric, [case_of(answered(n, text, "four", metadata={"x": 1})) for n, text in enumerate(said)])


def test_a_function_grades_each_answer(project):
    assert grades(project, "metrics.py:politeness", "please", "go away") == [1.0, 0.0]
    assert grades(project, "metrics.py:length", "four", "no") == [1.0, 0.5]


def test_an_error_is_a_sentence_with_the_example_and_the_line(project):
    good, bad = grades(project, "metrics.py:breaks", "a", "b")
    assert good == 1
    assert bad == "metrics.py:breaks (line 16) failed on example 'example-001': KeyError: 'b'."
    assert "SystemExit" in grades(project, "metrics.py:leaves", "a")[0]


@pytest.mark.parametrize(
    ("said", "message"),
    [("nan", "is not finite"), ("text", "wanted is a number"), ("none", "a NoneType"), ("huge", "is no number")],
)
def test_only_finite_numbers_are_grades(project, said, message):
    assert message in grades(project, "metrics.py:strange", said)[0]


def test_a_failed_answer_is_nothing_and_is_not_shown(project):
    (metric,) = read_own(["metrics.py:breaks"], project)
    assert own_grades(metric, [case_of(answered(0, "b", "x", error="cut"))]) == [0.0]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("metrics.py", "is no file and function"),
        ("metrics.py:a b", "is no file and function"),
        ("metric.py:politeness", r"no file 'metric\.py'.*Did you mean 'metrics\.py'"),
        ("metrics.py:politness", r"no function 'politness'.*Did you mean 'politeness'"),
        ("../metrics.py:politeness", "outside the project"),
        ("/etc/passwd:x", "outside the project"),
        ("broken.py:x", r"broken\.py, line 2 cannot be imported: SyntaxError"),
        ("failing.py:x", "cannot be imported: ModuleNotFoundError"),
        ("exits.py:x", "cannot be imported: SystemExit"),
        ("notes.txt:x", "is no Python file"),
    ],
)
def test_what_cannot_be_imported_is_told_in_a_sentence(project, place, message):
    (project / "broken.py").write_text("a = 1\ndef x(:\n")
    (project / "failing.py").write_text("import no_such_module\n")
    (project / "exits.py").write_text("raise SystemExit\n")
    (project / "notes.txt").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=message):
        read_own([place], project)


def test_two_functions_need_two_names(project):
    with pytest.raises(ConfigError, match="two functions are called 'length'"):
        read_own(["metrics.py:length", "metrics.py:length"], project)


def test_the_content_of_the_file_is_an_input(project):
    before = own_digests(["metrics.py:length"], project)
    assert list(before) == ["metrics.py"]
    (project / "metrics.py").write_text(SOURCE + "\n# changed\n")
    assert own_digests(["metrics.py:length"], project) != before
    (metric,) = read_own(["metrics.py:length"], project)
    assert metric.sha256 == own_digests(["metrics.py:length"], project)["metrics.py"]
