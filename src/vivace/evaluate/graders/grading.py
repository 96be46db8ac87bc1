"""Grade the answers of an evaluation: OpenAI's graders and the project's own functions, each a metric by its name."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError

from vivace.config.grader import (
    GraderSettings,
    LabelModelGrader,
    MultiGrader,
    PythonGrader,
    ScoreModelGrader,
    SingleGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from vivace.domain import Example
from vivace.errors import ConfigError
from vivace.evaluate.answers import Answer
from vivace.evaluate.graders.asking import Examiner, message_templates
from vivace.evaluate.graders.case import Case, Grade, case_of, item_of
from vivace.evaluate.graders.formula import Formula, parse_formula
from vivace.evaluate.graders.own import OwnMetric, own_grades
from vivace.evaluate.graders.sandbox import check_source, python_grades
from vivace.evaluate.graders.template import NotSaid, Template, parse_template
from vivace.evaluate.graders.text_similarity import missing_similarity, signature, similarities
from vivace.evaluate.metric import METRICS, Metric, stored_metric

PASSED = " passed"
_UNREADABLE = 0.05  # of a grading model's answers: with more, a mean over the rest says nothing
_ADAPTER: TypeAdapter[list[GraderSettings]] = TypeAdapter(list[GraderSettings])


class Graded(Struct, frozen=True):
    """The answers with their grades in `scores`, why some metrics are missing, and what must be said of others."""

    answers: tuple[Answer, ...]
    missing: dict[str, str]
    notes: dict[str, str]


def read_graders(file: Path) -> list[GraderSettings]:
    """Read graders as OpenAI writes them in JSON: one, a list, or under `testing_criteria` or `graders`."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The graders in {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}.") from error
    if isinstance(value, dict) and "type" not in value:
        value = next((value[key] for key in ("testing_criteria", "graders", "grader") if key in value), value)
    try:
        return _ADAPTER.validate_python(value if isinstance(value, list) else [value])
    except ValidationError as error:
        told = [f"{file.name}: {'.'.join(map(str, each['loc']))}: {each['msg']}." for each in error.errors()]
        raise ConfigError("\n".join(told)) from None


def models_asked(graders: Sequence[GraderSettings]) -> list[str]:
    """Return the names of the models that graders ask, each once: what they are is an input of the evaluation."""
    flat = [inner for grader in graders for inner in _flat(grader)]
    return list(dict.fromkeys(each.model for each in flat if isinstance(each, (ScoreModelGrader, LabelModelGrader))))


def check(graders: Sequence[GraderSettings], own: Sequence[OwnMetric], examples: Sequence[Example]) -> None:
    """Raise `ConfigError` or `DataError`, before anything is asked, for what could never be graded."""
    names = [*(grader.name for grader in graders), *(metric.name for metric in own)]
    known = {*METRICS.names()}
    for name in names:
        if name in known:
            raise ConfigError(f"Two metrics are called {name!r}.", "Give the grader or function another name.")
        known |= {name, name + PASSED}
    items = [Case(each.id, item_of(each.id, each.prompt, each.reference, each.metadata), {}) for each in examples]
    for grader in graders:
        for single in _flat(grader):
            if isinstance(single, PythonGrader):
                check_source(single)
            for template in _templates(single):
                for case in items:
                    only_item = Template(tuple(path for path in template.paths if path[0] == "item"), template.where)
                    only_item.fill(case)
        if isinstance(grader, MultiGrader):
            _formula(grader)


async def grade(
    answers: Sequence[Answer], graders: Sequence[GraderSettings], own: Sequence[OwnMetric], examiner: Examiner
) -> Graded:
    """Give every answer its grades; a metric whose grader fails on an example is told as missing, never in part."""
    cases = [case_of(answer) for answer in answers if not answer.unasked]
    scores: dict[str, dict[str, float]] = {each.id: dict(each.scores) for each in answers}
    missing: dict[str, str] = {}
    notes: dict[str, str] = {}
    for metric in own:
        _keep(metric.name, own_grades(metric, cases), cases, scores, missing)
    for grader in graders:
        if reason := next((reason for each in _flat(grader) if (reason := _impossible(each))), ""):
            missing[grader.name] = reason
            continue
        _keep(
            grader.name,
            await _grades(grader, cases, examiner),
            cases,
            scores,
            missing,
            notes if _asks(grader) else None,
        )
        threshold = _threshold(grader)
        if threshold is not None and grader.name not in missing:
            for values in scores.values():
                if grader.name in values:
                    values[grader.name + PASSED] = float(values[grader.name] >= threshold)
    graded = tuple(msgspec.structs.replace(each, scores=scores[each.id]) for each in answers)
    return Graded(graded, missing, notes)


def extra_metrics(
    graders: Sequence[GraderSettings], own: Sequence[OwnMetric], answers: Sequence[Answer] = ()
) -> list[Metric]:
    """Return the metrics of graded answers: their values are in `Answer.scores`, so that comparing grades nothing anew.

    With answers given, what is 0 or 1 for all of them is told with the interval of a share.
    """
    metrics = [_stored(metric.name, f"own:{metric.place}|sha256:{metric.sha256[:12]}", "", answers) for metric in own]
    for grader in graders:
        unit = ""
        if isinstance(grader, ScoreModelGrader) and grader.range != [0.0, 1.0]:
            unit = f"of {grader.range[0]:g} to {grader.range[1]:g}"
        metrics.append(_stored(grader.name, _signature(grader), unit, answers))
        if (threshold := _threshold(grader)) is not None:
            told = f"{_signature(grader)}|at-least:{threshold:g}"
            metrics.append(_stored(grader.name + PASSED, told, "", answers, compared=False))
    return metrics


def _stored(name: str, told: str, unit: str, answers: Sequence[Answer], *, compared: bool = True) -> Metric:
    values = {each.scores[name] for each in answers if name in each.scores}
    share = bool(values) and values <= {0.0, 1.0}
    return stored_metric(name, told, unit=unit, compared=compared, proportion=share)


def _keep(
    name: str,
    grades: Sequence[Grade],
    cases: Sequence[Case],
    scores: dict[str, dict[str, float]],
    missing: dict[str, str],
    notes: dict[str, str] | None = None,
) -> None:
    """Put grades beside their answers, or the reason beside the metric's name."""
    troubles = [each for each in grades if isinstance(each, str)]
    if troubles:
        told = f"{troubles[0]} {len(troubles)} of {len(grades)} examples have no grade."
        if notes is None or len(troubles) > _UNREADABLE * len(grades):
            missing[name] = told
            return
        notes[name] = f"{told} They are not in the mean."
    for case, value in zip(cases, grades, strict=True):
        if not isinstance(value, str):
            scores[case.id][name] = value


async def _grades(grader: GraderSettings, cases: Sequence[Case], examiner: Examiner) -> list[Grade]:
    match grader:
        case StringCheckGrader():
            return [_string_check(grader, *pair) for pair in _pairs(grader, cases)]
        case TextSimilarityGrader():
            pairs = _pairs(grader, cases)
            shown = [(text, wanted) for text, wanted in pairs if text is not None]
            found = iter(similarities(grader.evaluation_metric, shown))
            return [0.0 if text is None else next(found) for text, _ in pairs]
        case PythonGrader():
            return await python_grades(grader, cases)
        case ScoreModelGrader() | LabelModelGrader():
            return await examiner.grades(grader, cases)
    formula, words = _formula(grader)
    parts = {
        word: await _grades(grader.graders[key], cases, examiner)
        for word, key in words.items()
        if word in formula.names
    }
    return [_combined(formula, {word: part[place] for word, part in parts.items()}) for place in range(len(cases))]


def _combined(formula: Formula, grades: dict[str, Grade]) -> Grade:
    troubles = [each for each in grades.values() if isinstance(each, str)]
    return troubles[0] if troubles else formula.value({word: float(value) for word, value in grades.items()})


def _pairs(grader: StringCheckGrader | TextSimilarityGrader, cases: Sequence[Case]) -> list[tuple[str | None, str]]:
    """Return (input, reference) per case; no input where the answer failed or lacks what is asked of it."""
    wanted, against = _templates(grader)
    pairs: list[tuple[str | None, str]] = []
    for case in cases:
        try:
            pairs.append((None, "") if case.failed else (wanted.fill(case), against.fill(case)))
        except NotSaid:
            pairs.append((None, ""))
    return pairs


def _string_check(grader: StringCheckGrader, text: str | None, reference: str) -> float:
    if text is None:
        return 0.0
    match grader.operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
    return float(reference.casefold() in text.casefold())


def _templates(grader: SingleGrader) -> list[Template]:
    match grader:
        case StringCheckGrader() | TextSimilarityGrader():
            where = f"of grader {grader.name!r}"
            return [
                parse_template(grader.input, f"The input {where}"),
                parse_template(grader.reference, f"The reference {where}"),
            ]
        case ScoreModelGrader() | LabelModelGrader():
            return [template for _, template in message_templates(grader)]
    return []


def _formula(grader: MultiGrader) -> tuple[Formula, dict[str, str]]:
    """Return the formula, and for each word that it may use the grader that stands for."""
    words: dict[str, str] = {}
    kinds = [single.type for single in grader.graders.values()]
    for key, single in grader.graders.items():
        for word in (key, single.name, f"{single.type}_score" if kinds.count(single.type) == 1 else key):
            words.setdefault(re.sub(r"\W", "_", word), key)
    return parse_formula(grader.calculate_output, list(words), f"The grader {grader.name!r}"), words


def _flat(grader: GraderSettings) -> list[SingleGrader]:
    return list(grader.graders.values()) if isinstance(grader, MultiGrader) else [grader]


def _asks(grader: GraderSettings) -> bool:
    return bool(models_asked([grader]))


def _threshold(grader: GraderSettings) -> float | None:
    return getattr(grader, "pass_threshold", None)


def _impossible(grader: SingleGrader) -> str:
    return missing_similarity(grader.evaluation_metric) if isinstance(grader, TextSimilarityGrader) else ""


def _signature(grader: GraderSettings) -> str:
    digest = hashlib.sha256(grader.model_dump_json().encode()).hexdigest()[:12]
    exact = f"|{signature(grader.evaluation_metric)}" if isinstance(grader, TextSimilarityGrader) else ""
    return f"grader:{grader.type}|sha256:{digest}{exact}"
