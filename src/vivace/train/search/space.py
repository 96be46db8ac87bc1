"""Which training settings a search varies, and between which values."""

import math
from typing import Any

from msgspec import Struct
from pydantic import ValidationError

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError
from vivace.registry import nearest
from vivace.train.methods import learning_rate

Value = bool | int | float | str
ADAPTERS = ("lora", "dora", "rslora", "qlora")
FIXED = {
    "max_tokens": "a trial has tokens_per_trial tokens",
    "num_train_epochs": "a trial has tokens_per_trial tokens",
    "eval_steps_fraction": "it says when trials are measured",
    "early_stopping_patience": "it says when trials are measured",
    "max_validation_examples": "it says how trials are measured",
    "metric_for_best_model": "trials are measured by their validation loss",
    "seed": "a lucky seed is no better setting",
    "distill": "it comes after training",
    "preference": "it comes after training",
    "search": "it is the search itself",
    "workers": "it says how many processes share the work",
    "price_per_hour": "it is the price of the machine",
    "replay": "it chooses the data, not how they are learned",
}


class Range(Struct, frozen=True, tag=True):
    """Numbers from `low` to `high`; whole ones where both ends are `int`."""

    low: int | float
    high: int | float
    log: bool = False


class Choices(Struct, frozen=True, tag=True):
    """Values to choose from."""

    values: tuple[Value, ...]


Space = dict[str, Range | Choices]


def read_space(settings: TrainSettings) -> Space:
    """Return the space of `[train.search]`, or the usual one of the method; raises `ConfigError` on what is wrong."""
    wanted, method = settings.search.space, settings.search.method
    if not wanted:
        return default_space(settings)
    space = {name: _dimension(name, values) for name, values in wanted.items()}
    for name, dimension in space.items():
        if method == "grid" and isinstance(dimension, Range):
            raise ConfigError(
                f"[train.search] space: a grid needs a list of values for {name}, not low and high.",
                f"For example: {name} = [{dimension.low}, {dimension.high}]",
            )
    return space


def default_space(settings: TrainSettings) -> Space:
    """Return what usually matters for the method, around the settings there are."""
    rate = learning_rate(settings)
    rates = Range(rate / 10, rate * 5, log=True)
    grid = settings.search.method == "grid"
    space: Space = {
        "learning_rate": Choices((rate / 4, rate / 2, rate, rate * 2)) if grid else rates,
        "per_device_train_batch_size": _around(settings.per_device_train_batch_size, (2, 4, 8)),
    }
    if grid:
        return space
    if settings.method in ADAPTERS:
        space["lora_r"] = _around(settings.lora_r, (4, 8, 16, 32))
        space["lora_layers_fraction"] = _around(settings.lora_layers_fraction, (0.25, 0.5, 1.0))
    if settings.method == "prompt_tuning":
        space["num_virtual_tokens"] = _around(settings.num_virtual_tokens, (8, 16, 32))
    if settings.method == "full":
        space["weight_decay"] = _around(settings.weight_decay, (0.0, 0.01, 0.1))
    return space


def default_point(space: Space, settings: TrainSettings) -> dict[str, Value] | None:
    """Return the values that the settings have without a search, or None where one is outside of the space."""
    point = {name: getattr(settings, name) for name in space}
    if "learning_rate" in point:
        point["learning_rate"] = learning_rate(settings)
    for name, dimension in space.items():
        value = point[name]
        if isinstance(dimension, Choices):
            if value not in dimension.values:
                return None
        elif value is None or not dimension.low <= value <= dimension.high:
            return None
    return point


def trial_settings(settings: TrainSettings, point: dict[str, Value]) -> TrainSettings:
    """Return the settings with a point of the space laid over them."""
    return TrainSettings(**(settings.model_dump() | {"price_per_hour": settings.price_per_hour} | point))


def _dimension(name: str, values: Any) -> Range | Choices:
    where = f"[train.search] space: {name}"
    if name in FIXED:
        raise ConfigError(f"{where} cannot be searched: {FIXED[name]}.", "Set it in [train].")
    known = [field for field in TrainSettings.model_fields if field not in FIXED]
    if name not in known:
        raise ConfigError(f"{where} is no setting of [train].", nearest(name, known))
    if isinstance(values, list):
        return _choices(name, values, where)
    if isinstance(values, dict):
        return _range(name, values, where)
    raise ConfigError(
        f"{where} is {values!r}, which is neither a list of values nor a table.",
        f"For example: {name} = [1, 2] or {name} = {{ low = 1, high = 2 }}",
    )


def _choices(name: str, values: list[Any], where: str) -> Choices:
    if not values:
        raise ConfigError(f"{where} is an empty list.", "Name the values to try.")
    for value in values:
        if not isinstance(value, Value):
            raise ConfigError(f"{where} has the value {value!r}.", "Values are numbers, strings, true or false.")
    checked = tuple(_checked(name, value, where) for value in values)
    if len(set(checked)) < len(checked):
        raise ConfigError(f"{where} names a value twice: {values}.")
    return Choices(checked)


def _range(name: str, table: dict[str, Any], where: str) -> Range:
    for key in table:
        if key not in ("low", "high", "log"):
            raise ConfigError(f"{where} has the unknown key {key!r}.", nearest(key, ["low", "high", "log"]))
    log = table.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{where} has log = {log!r}.", "It is true or false.")
    ends = []
    for key in ("low", "high"):
        value = table.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{where} needs the number {key}; it is {value!r}.", "Write low and high as numbers.")
        ends.append(_checked(name, value, where))
    low, high = ends
    if isinstance(low, str | bool) or isinstance(high, str | bool):
        raise ConfigError(f"{where} is no number.", "Give a list of values.")
    if low >= high:
        raise ConfigError(f"{where} has low = {low}, which is not below high = {high}.", "Swap them.")
    if log and low <= 0:
        raise ConfigError(f"{where} has low = {low}; a range with log = true begins above 0.", "Raise low.")
    return Range(low, high, log)


def _checked(name: str, value: Value, where: str) -> Value:
    """Return the value as [train] takes it, so that 1 is a number with a fraction where the setting is one."""
    try:
        taken: Value = getattr(TrainSettings(**{name: value}), name)
    except ValidationError as error:
        told = error.errors()[0]["msg"]
        raise ConfigError(f"{where} has the value {value!r}: {told[0].lower()}{told[1:]}.") from None
    return taken


def _around(value: int | float, usual: tuple[int | float, ...]) -> Choices:
    return Choices(tuple(sorted({value, *usual})))
