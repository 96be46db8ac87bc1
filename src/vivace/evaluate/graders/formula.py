"""The formula of a multi grader: arithmetic over names, parsed and walked, never executed."""

import ast
import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from vivace.errors import ConfigError
from vivace.registry import nearest

_DEEPEST = 50
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}
# What a name takes: at least so many numbers, at most so many.
_FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    "min": (min, 1, 100),
    "max": (max, 1, 100),
    "abs": (abs, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 1),
}


class Formula(Struct, frozen=True):
    """A formula that was checked: `names` are those it is computed from."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]

    def value(self, numbers: Mapping[str, float]) -> float | str:
        """Return the value, or the sentence that says why there is none, such as a division by 0."""
        try:
            found = _value(self.tree, numbers)
        except ZeroDivisionError:
            return f"The formula {self.text!r} divides by 0."
        except (ValueError, OverflowError) as error:
            return f"The formula {self.text!r} has no value: {error}."
        return found if math.isfinite(found) else f"The formula {self.text!r} comes to {found}."


def parse_formula(text: str, names: Sequence[str], where: str) -> Formula:
    """Return the formula; raises `ConfigError` for what is no arithmetic over the names."""
    # In OpenAI's formulas ^ is the power; Python's ^ binds less than +.
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"{where}: the formula {text!r} cannot be read ({getattr(error, 'msg', error)}).",
            "Write such as 0.5 * first + 0.5 * second.",
        ) from None
    used: list[str] = []
    _check(tree, list(names), used, f"{where}: the formula {text!r}", _DEEPEST)
    return Formula(text, tree, tuple(dict.fromkeys(used)))


def _check(node: ast.expr, names: list[str], used: list[str], where: str, depth: int) -> None:
    if depth == 0:
        raise ConfigError(f"{where} is nested too deeply.")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if not _finite(number):
                raise ConfigError(f"{where} holds a number that is too large.")
            inner: list[ast.expr] = []
        case ast.Name(id=name):
            if name not in names:
                raise ConfigError(f"{where} names {name!r}, and no grader is called so.", nearest(name, names))
            used.append(name)
            inner = []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            inner = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            inner = [operand]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in _FUNCTIONS:
                raise ConfigError(f"{where} has no function {name!r}.", nearest(name, list(_FUNCTIONS)))
            _, fewest, most = _FUNCTIONS[name]
            if not fewest <= len(args) <= most:
                raise ConfigError(f"{where} gives {name} {len(args)} numbers.")
            inner = args
        case _:
            raise ConfigError(
                f"{where} is more than arithmetic: {ast.unparse(node)[:80]!r}.",
                "It may hold + - * / ^, parentheses, min, max, abs, floor, ceil, exp, sqrt and log.",
            )
    for each in inner:
        _check(each, names, used, where, depth - 1)


def _value(node: ast.expr, numbers: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, numbers), _value(right, numbers))
        case ast.UnaryOp(op=op, operand=operand):
            return _value(operand, numbers) * (-1.0 if isinstance(op, ast.USub) else 1.0)
        case ast.Call(func=ast.Name(id=name), args=args):
            return float(_FUNCTIONS[name][0](*(_value(each, numbers) for each in args)))
    raise ValueError(ast.dump(node))


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False
