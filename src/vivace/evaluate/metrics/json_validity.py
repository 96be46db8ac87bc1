"""JSON validity: the share of answers that are JSON, and fit the schema where one is stated.

Asked of the examples whose reference is a JSON object or list, or whose metadata has a `json_schema`.
"""

import json
from collections.abc import Sequence
from typing import Any

from vivace.errors import DataError
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, Scope
from vivace.stats import Floats, mean_rows

_KEY = "json_schema"
_NOTHING = object()


def read_json(text: str) -> Any:
    """Return the value that a text is as JSON, white space around it aside; raises `ValueError` where it is none."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("too many levels") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _value(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return _NOTHING


def _scope(answers: Sequence[Answer]) -> Scope:
    chosen = [each for each in answers if _schema(each) is not None or _is_json(each.reference)]
    return Scope(chosen, "" if chosen else f"No reference is JSON and no example has metadata.{_KEY}.")


def _is_json(reference: str) -> bool:
    return reference.lstrip()[:1] in ("{", "[") and isinstance(_value(reference), (dict, list))


def _schema(answer: Answer) -> Any:
    """Return the schema that an example states, also as OpenAI nests it; None where it states none."""
    stated = answer.metadata.get(_KEY)
    if isinstance(stated, str):
        stated = _value(stated)
        if stated is _NOTHING:
            raise DataError(f"metadata.{_KEY} of example {answer.id!r} is a text that is not JSON.")
    if isinstance(stated, dict) and isinstance(stated.get("schema"), dict):
        stated = stated["schema"]
    return stated


def _rows(answers: Sequence[Answer]) -> Floats:
    validators: dict[str, Any] = {}
    return mean_rows([float(not each.failed and _fits(each, validators)) for each in answers])


def _fits(answer: Answer, validators: dict[str, Any]) -> bool:
    value, schema = _value(answer.answer), _schema(answer)
    if value is _NOTHING:
        return False
    if schema is None:
        return True
    key = json.dumps(schema, sort_keys=True)
    if key not in validators:
        validators[key] = _validator(schema, answer.id)
    from referencing.exceptions import Unresolvable

    try:
        return bool(validators[key].is_valid(value))
    except Unresolvable as error:
        raise DataError(
            f"metadata.{_KEY} of example {answer.id!r} refers to {error.ref!r}, which is not in it.",
            "Put what it refers to under $defs; nothing is fetched.",
        ) from error


def _validator(schema: Any, example_id: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise DataError(f"metadata.{_KEY} of example {example_id!r} is no JSON schema: {error.message}.") from error
    return kind(schema, registry=Registry())


METRIC = Metric(
    "json_validity",
    _rows,
    lambda: "json:rfc8259|schema:metadata.json_schema|draft:2020-12|average:examples",
    proportion=True,
    scope=_scope,
)
