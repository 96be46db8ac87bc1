"""Prompts come from files as people have them."""

import json
from pathlib import Path

import pytest

from vivace.bench.traffic.lengths import Meter, Prose
from vivace.bench.traffic.prompts import of_examples, of_file, of_length
from vivace.domain import Example, Message
from vivace.errors import DataError


def test_a_file_holds_prompts_or_messages_and_is_asked_again_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    turns = [{"role": "user", "content": "two"}, {"role": "assistant", "content": "secret"}]
    path.write_text(f'{{"prompt": "one", "max_tokens": 3}}\n\n{json.dumps({"messages": turns})}\n')
    requests = of_file(path, 9).requests(3, "run")
    assert [request.messages[0].content for request in requests] == ["one", "two", "one"]
    assert [request.sampling.max_tokens for request in requests] == [3, 9, 3]
    assert len({request.id for request in requests}) == 3
    assert "secret" not in str(requests)


@pytest.mark.parametrize("line", ["[1]", '{"prompt": 3}', '{"messages": []}', '{"prompt": "x", "max_tokens": 0}', "x"])
def test_a_row_without_a_prompt_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"prompts\.jsonl:2"):
        of_file(path, 9)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        of_file(tmp_path / "none.jsonl", 9)


def test_the_projects_system_prompt_comes_first_and_the_answer_is_not_sent() -> None:
    example = Example("e", (Message("user", "hi"), Message("assistant", "secret")))
    (request,) = of_examples([example], 9, "Be kind.").requests(1, "run")
    assert request.messages == (Message("system", "Be kind."), Message("user", "hi"))


def test_synthetic_prompts_differ_from_run_to_run() -> None:
    work = of_length(Prose(), Meter(1.0, 0.0), 30, 5, ignore_eos=True)
    first, second = work.requests(2, "a"), work.requests(2, "b")
    assert len({request.messages[0].content for request in first + second}) == 4
    assert all(request.sampling.ignore_eos for request in first)
