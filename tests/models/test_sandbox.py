"""A hostile template is stopped; what real templates need works as in transformers."""

import time

import pytest

from vivace.errors import ModelError
from vivace.models import sandbox
from vivace.models.template import ChatTemplate

MESSAGES = [{"role": "system", "content": "Be <brief> & kind."}, {"role": "user", "content": "  Héllo  "}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"é": {}}}}}]

HOSTILE = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "endless output": "{% for a in range(99999) %}{% for b in range(99999) %}text{% endfor %}{% endfor %}",
    "loops without calls": "{% set r = range(3000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
    "long text in a loop": "{% for a in range(1000) %}" + "x" * 150_000 + "{% endfor %}",
    "long text in a macro": "{% macro f() %}" + "x" * 150_000 + "{% endmacro %}{% for a in range(1000) %}"
    "{% set y = f() %}{% endfor %}",
    "recursive macro": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "doubling caller": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 18
    + "x"
    + "{% endcall %}" * 18,
    "recursive loop": "{% for x in [1] recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "big range": "{{ range(10 ** 9) | list }}",
    "repeated string": "{{ 'a' * 10 ** 9 }}",
    "repeated list": "{{ [1] * 10 ** 9 }}",
    "power tower": "{{ 9 ** 9 ** 9 ** 9 }}",
    "squared": "{% set n = namespace(x=7) %}{% for i in range(999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling ~": "{% set n = namespace(x='ab') %}{% for i in range(24) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling +": "{% set n = namespace(x='ab') %}{% for i in range(24) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling block": "{% set n = namespace(x='ab') %}{% for i in range(24) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}",
    "billion laughs": "{% set n = namespace(x=[1]) %}{% for i in range(24) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "laughing tuple": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set n.x = (n.x, n.x) %}{% endfor %}",
    "laughing dict": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}",
    "laughing call": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set n.x = dict(a=n.x, b=n.x) %}"
    "{% endfor %}",
    "laughing names": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set n.x = namespace(a=n.x, b=n.x) %}"
    "{% endfor %}{{ n }}",
    "laughing format": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set m = namespace() %}"
    "{% set m.a = n.x %}{% set m.b = n.x %}{% set n.x = m %}{% endfor %}{{ '%s' % n.x }}",
    "laughing in a list": "{% set n = namespace(x=1) %}{% for i in range(24) %}{% set m = namespace() %}"
    "{% set m.a = n.x %}{% set m.b = n.x %}{% set n.x = m %}{% endfor %}{{ [n.x] }}",
    "views": "{% set d = {'a': 'a' * 1000000} %}{{ [d.items()] * 1000 }}",
    "deep tuple": "{% set n = namespace(x=()) %}{% for i in range(99999) %}{% set n.x = (n.x,) %}{% endfor %}"
    "{{ {n.x: 1} }}",
    "replace filter": "{% set a = 'a' * 1000000 %}{{ a | replace('a', a) }}",
    "replace method": "{% set a = 'a' * 1000000 %}{{ a.replace('a', a) }}",
    "join filter": "{% set a = 'a' * 1000000 %}{{ a | join(a) }}",
    "join method": "{% set a = 'a' * 1000000 %}{{ a.join(a) }}",
    "padding": "{{ 'a'.center(10 ** 9) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10 ** 9, 1) }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format nested": "{{ '{:{}}'.format(1, 10 ** 9) }}",
    "format repeated": "{% set a = 'a' * 1000000 %}{{ ('{0}' * 10000).format(a) }}",
    "indent": "{{ ('\n' * 1000000) | indent(1000) }}",
    "json indent": "{{ messages | tojson(indent=10 ** 9) }}",
    "bytes": "{{ (5).to_bytes(10 ** 9, 'big') }}",
    "rounding": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "sum of lists": "{{ [[1]] | sum(start=[]) }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "self": "{{ self.__init__ }}",
    "init": "{{ namespace.__init__.__globals__['os'] }}",
    "attr filter": "{{ ('' | attr('__class__')).mro() }}",
    "map attribute": "{{ [''] | map(attribute='__class__') | list | tojson }}",
    "format attribute": "{{ '{0.__class__.__mro__}'.format('') }}",
    "changing messages": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update({'role': 'x'}) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "undefined": "{{ nothing.at.all }}",
    "division": "{{ 1 // 0 }}",
    "unknown filter": "{{ messages | pprint }}",
    "lipsum": "{{ lipsum(100000) }}",
    "syntax": "{% for %}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nesting": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "loops nested too deep": "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
    "too long": "x" * 200_001,
}


def render(source: str, **keywords: bool) -> str:
    template = ChatTemplate(source, origin="test", variables={"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(MESSAGES, add_generation_prompt=keywords.get("prompt", True), tools=TOOLS)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_gives_a_sentence_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_RENDER_CPU_S", 0.1)
    started = time.thread_time()
    with pytest.raises(ModelError) as caught:
        render(HOSTILE[name])
    assert not isinstance(caught.value.__cause__, MemoryError)
    assert time.thread_time() - started < 1.5


# Each abuse above has its honest twin here: the same construct in the measure real templates use it.
HONEST = [
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}",
    "{{ messages | tojson }}{{ tools | tojson(indent=4) }}{{ tools[0].function | tojson(sort_keys=true) }}",
    "{% for t in tools %}"
    "{{ t.function.name ~ '(' ~ (t.function.parameters.properties.keys() | join(', ')) ~ ')' }}{% endfor %}",
    "{% set n "
    "= namespace(found=false, text='') %}{% for m in messages[::-1] %}{% if m.role == 'user' and not n.found %}"
    "{% set n.found = true %}{% set n.text = n.text + m.content %}{% endif %}{% endfor %}{{ n.text }}",
    "{%- macro show(m) -%}<{{ m.role | upper }}>{{ caller() if caller else m.content }}{%- endmacro -%}"
    "{% call show(messages[0]) %}inner{% endcall %}{{ show(messages[1]) }}",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ loop.length }}"
    "{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m.content.strip().split(' ')[-1] }}{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}",
    "{{ messages | map(attribute='role') | list }}{{ [1, 2] + [3] }}{{ (1, 'a') }}{{ {'a': none} }}{{ true }}{{ 1.5 }}",
    "{{ ', '.join(messages | map(attribute='role')) }}{{ '%s-%05d' % ('a', 7) }}"
    "{{ '{:>5}'.format('x') }}{{ '-' * 20 }}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}"
    "{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ missing }}"
    "{{ messages[0].name }}",
    "{% set x %}{{ messages[0].content }}\n  two{% endset %}{{ x | indent(2) }}"
    "{{ x | replace('e', 'é') }}{{ x | length }}",
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}"
    "{% set rest = messages %}{% endif %}{{ rest }}",
    "{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}"
    "{% endif %}{% endfor %}",
    "  {% if true %}\n  a\n  {% endif %}\n{# note #}\nb\n",
    "{{ 'x' in messages[1].content }}{{ 'content' in messages[0] }}{{ messages[0].content is string }}"
    "{{ messages is mapping }}",
    "{% for m in messages if m.role != 'tool' %}{{ loop.first }}"
    "{{ loop.previtem.role if loop.previtem is defined }}{% else %}none{% endfor %}",
    "{{ [3, 1, 2] | sort | join }}{{ [1, 2] | sum }}{{ ['a', 'a'] | unique | list }}{{ 'ab' | title }}"
    "{{ 7 // 2 }}{{ 2 ** 8 }}",
    "{{ '<b>' | safe }}{{ '<b>' | e }}{{ messages[0].content }}{{ messages[0].content | string }}",
]


@pytest.mark.slow
@pytest.mark.parametrize("source", HONEST)
def test_honest_templates_render_as_in_transformers(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    expected, _ = render_jinja_template(
        [MESSAGES], tools=TOOLS, chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert render(source) == expected[0]


def test_json_is_not_escaped_for_html() -> None:
    assert render("{{ messages[0].content | tojson }}") == '"Be <brief> & kind."'
    assert render("{{ messages[1].content | tojson }}") == '"  Héllo  "'


def test_the_date_is_there() -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_a_long_conversation_is_not_too_much() -> None:
    turns = [{"role": "user", "content": "word " * 2000}] * 200
    template = ChatTemplate(HONEST[0], origin="test")
    assert len(template.render(turns, add_generation_prompt=True, tools=())) > 2_000_000 * 0.9


def test_many_messages_are_not_too_much() -> None:
    turns = [{"role": "user", "content": "x"}] * 5000
    template = ChatTemplate("{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}", origin="test")
    assert template.render(turns, add_generation_prompt=True, tools=()) == "userx" * 5000
