"""JSON is asked for where it is wanted, and checked against the schema that an example states."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.evaluate.fakes import answered
from vivace.errors import DataError
from vivace.evaluate import METRICS
from vivace.evaluate.metric import per_example

METRIC = METRICS.load("json_validity")
SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


def _grades(*answers):
    chosen = METRIC.scored(answers)
    return dict(zip([each.id for each in chosen], per_example(METRIC, METRIC.rows(chosen)), strict=True))


def test_only_examples_that_want_json_are_asked_about():
    texts = [answered(0, "{}", "Hello there"), answered(1, "{}", "12"), answered(2, "{}", "[see below]")]
    assert METRIC.scored(texts) == []
    assert METRIC.why_missing(texts) == "No reference is JSON and no example has metadata.json_schema."
    assert list(_grades(*texts, answered(3, "{}", ' {"a": 1}'), answered(4, "{}", "[1]"))) == [
        "example-003",
        "example-004",
    ]


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"a": 2}', 1),
        (" [1, 2]\n", 1),
        ('```json\n{"a": 2}\n```', 0),
        ('{"a": 2', 0),
        ('{"a": NaN}', 0),
        ("{'a': 2}", 0),
        ('{"a": 1} and more', 0),
        ("[" * 100_000, 0),
        ("", 0),
    ],
)
def test_an_answer_is_json_or_it_is_not(said, right):
    assert _grades(answered(0, said, '{"a": 1}')) == {"example-000": right}


def test_a_stated_schema_decides_also_as_openai_nests_it():
    for stated in (SCHEMA, {"name": "place", "schema": SCHEMA}, '{"type": "object", "required": ["city"]}'):
        told = {"metadata": {"json_schema": stated}}
        found = _grades(answered(0, '{"city": "Ulm"}', "Ulm", **told), answered(1, '{"town": "Ulm"}', "Ulm", **told))
        assert found == {"example-000": 1, "example-001": 0}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "is no JSON schema"),
        ("{", "is a text that is not JSON"),
    ],
)
def test_a_schema_that_is_none_is_named_with_its_example(schema, message):
    with pytest.raises(DataError, match=message) as caught:
        _grades(answered(7, "{}", "{}", metadata={"json_schema": schema}))
    assert "example-007" in str(caught.value)


def test_a_failure_is_no_json():
    assert _grades(answered(0, "{}", "{}", error="cut off")) == {"example-000": 0}


def test_what_a_schema_refers_to_is_not_fetched():
    asked = []

    class Remembering(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Remembering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    schema = {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}
    try:
        with pytest.raises(DataError, match=r"refers to 'http://127\.0\.0\.1:\d+/schema\.json', which is not in it"):
            _grades(answered(7, "{}", "{}", metadata={"json_schema": schema}))
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
