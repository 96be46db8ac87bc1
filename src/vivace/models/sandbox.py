"""A sandbox for templates that somebody else wrote, with bounds on time, work and size."""

import json
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, Never, cast

from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as loop_controls
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_environment
from jinja2.visitor import NodeTransformer

MAX_RENDER_CPU_S = 2.0
# A value may be so long, and all values made on the way so long together: a floor plus a multiple of the input.
MAX_VALUE_CHARS = 2_000_000
MAX_WORK_CHARS = 32_000_000
MAX_PADDING = 1_000
MAX_NUMBER = 100_000
MAX_BITS = 4_096

# fmt: off
_STRING_METHODS = frozenset((
    "strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "split", "rsplit", "splitlines", "partition",
    "rpartition", "startswith", "endswith", "lower", "upper", "title", "capitalize", "swapcase", "casefold",
    "replace", "join", "format", "count", "find", "rfind", "index", "rindex", "center", "ljust", "rjust", "zfill",
    "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isnumeric", "isdecimal", "istitle",
))
# fmt: on
_DICT_METHODS = frozenset(["get", "items", "keys", "values", "copy"])
_LIST_METHODS = frozenset(["count", "index", "copy"])
_METHODS: dict[type, frozenset[str]] = {
    str: _STRING_METHODS,
    dict: _DICT_METHODS,
    list: _LIST_METHODS,
    tuple: _LIST_METHODS,
    int: frozenset(),
    float: frozenset(),
}
# fmt: off
_FILTERS = frozenset((
    "abs", "attr", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "format", "groupby", "indent", "int", "items", "last", "length", "list", "lower", "map", "max", "min",
    "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr", "slice", "sort", "title", "trim",
    "truncate", "unique", "upper", "wordcount",
))
# fmt: on


class Refused(TemplateError):
    """What `raise_exception` raises."""


class TooMuch(TemplateError):
    """A bound was reached."""


class Guard:
    """What one rendering may still do."""

    def __init__(self, input_chars: int) -> None:
        self.value_chars = MAX_VALUE_CHARS + 8 * input_chars
        self._work_chars = MAX_WORK_CHARS + 64 * input_chars
        self._deadline = time.thread_time() + MAX_RENDER_CPU_S

    def tick(self, chars: int = 0) -> None:
        """Count one step that handled so many characters."""
        self._work_chars -= chars + 16
        if self._work_chars < 0 or time.thread_time() > self._deadline:
            raise TooMuch("it does too much work")

    def admit(self, chars: int) -> None:
        """Refuse to make a value that long."""
        if chars > self.value_chars:
            raise TooMuch(f"it makes a value of more than {self.value_chars:,} characters")

    def measured(self, value: Any) -> Any:
        """Return `value` after counting it, nested parts as often as they occur."""
        chars = weight(value, self.value_chars)
        self.admit(chars)
        self.tick(chars)
        return value

    def text(self, value: Any) -> str:
        """Return `value` as the template would print it."""
        if not isinstance(value, str | int | float | list | tuple | dict | Undefined | None):
            raise TooMuch(f"it prints a {type(value).__name__}")
        return str(self.measured(value))


current: ContextVar[Guard] = ContextVar("guard")


def weight(value: Any, limit: int) -> int:
    """Return about how many characters `value` has when printed; stops counting above `limit`."""
    total = 0
    stack = [value]
    while stack and total <= limit:
        part = stack.pop()
        if isinstance(part, str | bytes):
            total += len(part)
        elif isinstance(part, Mapping):
            stack.extend(part.keys())
            stack.extend(part.values())
        elif isinstance(part, list | tuple | KeysView | ValuesView | ItemsView):
            stack.extend(part)
        elif isinstance(part, Namespace):
            stack.append(part._Namespace__attrs)  # its repr prints them all
        elif isinstance(part, int):
            total += part.bit_length() // 3
        total += 8
    return total


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of Jinja, which keeps a template from reaching out, with every step counted."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operator, if it is not too long."""
        guard = current.get()
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and isinstance(times, int):
                    guard.admit(weight(many, guard.value_chars) * max(times, 0))
        elif operator == "**" and not (abs(left) <= MAX_NUMBER and abs(right) <= 64):
            raise TooMuch("it makes too large a number")
        elif operator == "%" and isinstance(left, str):
            _check_format(guard, left, "%", right if isinstance(right, tuple) else (right,))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > MAX_BITS:
            raise TooMuch("it makes too large a number")
        return guard.measured(result)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template may call, if the result is not too long."""
        guard = current.get()
        guard.measured((args, tuple(value for key, value in kwargs.items() if not key.startswith("_"))))
        if isinstance(__obj, LoopContext):
            args = (_ticking(args[0]), *args[1:])
        else:
            args = _method_arguments(guard, __obj, args)
        return guard.measured(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Tell whether a template may use this attribute."""
        for kind, names in _METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Never:
        """Stop at a forbidden attribute; Jinja would go on with an empty value."""
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} object is unsafe")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a bounded `str.format`."""
        form = super().wrap_str_format(value)
        if form is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            guard = current.get()
            _check_format(guard, str(value.__self__), "{", (*args, *kwargs.values()))
            return form(*args, **kwargs)

        return bounded

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Instrument().visit(source), *args, **kwargs)


class _Instrument(NodeTransformer):
    """Put a count on everything that can repeat or grow: loops, joined strings, containers, constant text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured") if node.ctx == "load" else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        # A constant passes through `finalize`, where output is counted; template data would not.
        return nodes.Const(node.data, lineno=node.lineno)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant writes; rendered, it is its content."""

    tags = {"generation"}  # noqa: RUF012 - as the class above declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the block's content in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def sandbox() -> ImmutableSandboxedEnvironment:
    """Return the environment chat templates are compiled in: what transformers offers them, within bounds."""
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loop_controls],
        finalize=_finalize,
        # Constant expressions are not computed while compiling, where nothing is counted.
        optimized=False,
        cache_size=0,
    )
    kept = {name: _bounded(environment.filters[name]) for name in _FILTERS}
    environment.filters.clear()
    environment.filters.update(kept)
    environment.filters.update(
        tojson=_tojson, join=_join, replace=_replace, string=_text, sum=_sum, indent=_indent,
        _counted=_ticking, _joined=_joined, _measured=_measured,
    )  # fmt: skip
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment


@pass_context
def _finalize(context: Context, value: Any) -> str:
    # Taking the context keeps Jinja from calling this while compiling.
    return _text(value)


def _text(value: Any) -> str:
    return current.get().text(value)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    # `wraps` keeps the mark that tells Jinja to pass its context first.
    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        guard = current.get()
        for value in (*args, *kwargs.values()):
            if isinstance(value, int) and abs(value) > MAX_NUMBER:
                raise TooMuch(f"it uses the number {value} in a filter")
        if function.__name__ == "do_format":
            _check_format(guard, str(args[0]), "%", (*args[1:], *kwargs.values()))
        guard.measured([value for value in args if isinstance(value, str | list | tuple | dict)])
        return guard.measured(function(*args, **kwargs))

    return bounded


def _method_arguments(guard: Guard, function: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments for a call, after refusing those that would make a string's method grow out of bounds."""
    text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if not isinstance(text, str):
        return args
    guard.tick(len(text))
    if name == "replace" and len(args) >= 2:
        _check_replace(guard, text, str(args[0]), str(args[1]))
    elif name == "join" and args:
        parts = list(_ticking(args[0]))
        guard.admit(weight(parts, guard.value_chars) + len(text) * len(parts))
        return (parts,)
    elif name in ("center", "ljust", "rjust", "zfill") and args and args[0] > MAX_PADDING:
        raise TooMuch(f"it pads to {args[0]} characters")
    return args


def _check_replace(guard: Guard, text: str, old: str, new: str) -> None:
    guard.admit(len(text) + text.count(old) * max(len(new) - len(old), 0))


def _check_format(guard: Guard, form: str, mark: str, values: tuple[Any, ...]) -> None:
    """Refuse a format string that could pad or repeat its arguments beyond the bounds."""
    digits = 0
    for character in form:
        digits = digits + 1 if character.isdigit() else 0
        if digits > len(str(MAX_PADDING)):
            raise TooMuch("it pads a formatted value")
    fields = form.count(mark)
    # A width can come from an argument; each field can print every argument.
    width_from_argument = "*" in form if mark == "%" else fields > 1
    if width_from_argument and any(isinstance(value, int) and value > MAX_PADDING for value in values):
        raise TooMuch("it pads a formatted value")
    guard.admit(len(form) + fields * (MAX_PADDING + weight(values, guard.value_chars)))


def _ticking(values: Any) -> Iterator[Any]:
    guard = current.get()
    for value in values:
        guard.tick()
        yield value


def _measured(value: Any) -> Any:
    return current.get().measured(value)


def _joined(values: list[Any]) -> str:
    guard = current.get()
    parts = [guard.text(value) for value in values]
    guard.admit(sum(map(len, parts)))
    return "".join(parts)


@pass_environment
def _join(environment: _Environment, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    guard = current.get()
    values = _ticking(value)
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    parts: list[str] = []
    total = 0
    for part in values:
        parts.append(guard.text(part))
        total += len(parts[-1]) + len(d)
        guard.admit(total)
    return str(d).join(parts)


def _replace(value: Any, old: Any, new: Any, count: int = -1) -> str:
    guard = current.get()
    text, old, new = guard.text(value), guard.text(old), guard.text(new)
    _check_replace(guard, text, old, new)
    return text.replace(old, new, count)


@pass_environment
def _sum(environment: _Environment, values: Any, attribute: str | int | None = None, start: float = 0) -> Any:
    numbers = _ticking(values)
    if attribute is not None:
        numbers = map(make_attrgetter(environment, attribute), numbers)
    total = start
    for number in numbers:
        if not isinstance(number, int | float):
            raise TooMuch("it sums something that is not a number")
        total += number
    return total


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    guard = current.get()
    text = guard.text(s)
    indentation = width if isinstance(width, str) else " " * min(max(width, 0), MAX_PADDING)
    guard.admit(len(text) + (text.count("\n") + 1) * len(indentation))
    lines = (text + "\n").splitlines()
    indented = [indentation + line if line or blank else line for line in lines[1:]]
    return str(guard.measured("\n".join([(indentation if first else "") + lines[0], *indented])))


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML.
    guard = current.get()
    guard.measured(x)
    if isinstance(indent, str) or (indent or 0) > 16:
        raise TooMuch(f"it indents JSON by {indent}")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return str(guard.measured(encoder.encode(x)))


def _raise_exception(message: Any) -> Never:
    raise Refused(str(message)[:500])


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format[:200])
