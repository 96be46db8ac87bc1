"""Chat templates."""

import pytest

from vivace.errors import ModelError, RequestError
from vivace.models.template import ChatTemplate


def test_what_the_template_refuses_is_the_requests_fault() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", origin="m")
    with pytest.raises(RequestError, match="roles must alternate") as caught:
        template.render([], add_generation_prompt=True, tools=())
    assert caught.value.param == "messages"


def test_what_the_template_gets_wrong_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="of my-model cannot be compiled"):
        ChatTemplate("{% if %}", origin="my-model")
    with pytest.raises(ModelError, match="of my-model fails: 'nothing' is undefined"):
        ChatTemplate("{{ nothing.x }}", origin="my-model").render([], add_generation_prompt=True, tools=())


def test_one_hostile_rendering_does_not_spoil_the_next() -> None:
    template = ChatTemplate("{{ messages[0].content * messages[0].times }}", origin="m")
    with pytest.raises(ModelError):
        template.render([{"content": "x", "times": 10**9}], add_generation_prompt=True, tools=())
    assert template.render([{"content": "x", "times": 3}], add_generation_prompt=True, tools=()) == "xxx"


def test_no_tools_are_none() -> None:
    template = ChatTemplate("{{ tools is none }}{{ documents is none }}", origin="m")
    assert template.render([], add_generation_prompt=True, tools=()) == "TrueTrue"
