"""Build the stack that answers: the same in evaluation, bench, release and serving."""

from collections.abc import Callable, Mapping
from typing import Any

from vivace.chain.system import system
from vivace.chain.trim import trim
from vivace.domain import Layer, Responder
from vivace.engines import Engine
from vivace.errors import ConfigError
from vivace.registry import nearest

Maker = Callable[[Engine, Any], Layer]

# From the outermost layer to the innermost: a request meets them in this order, whatever the recipe's.
LAYERS: dict[str, Maker] = {
    "system": lambda _engine, prompt: system(prompt),
    "trim": lambda engine, limits: trim(engine.tokenizer, engine.context_length, **_known(limits)),
}
ALWAYS: dict[str, Any] = {"trim": {}}


def stack(engine: Engine, recipe: Mapping[str, Any]) -> Responder:
    """Return the engine behind the layers that `recipe` names, each with its settings.

    `system` is the system prompt of conversations that bring none; `trim` (`max_prompt_tokens`) drops the oldest turns
    of conversations that do not fit and is always there. Raises `ConfigError` for a layer that does not exist.
    """
    for name in recipe:
        if name not in LAYERS:
            raise ConfigError(f"There is no layer {name!r} to put around the engine.", nearest(name, list(LAYERS)))
    responder: Responder = engine
    wanted = ALWAYS | dict(recipe)
    for name, make in reversed(LAYERS.items()):
        if name in wanted:
            responder = make(engine, wanted[name])(responder)
    return responder


def _known(limits: Mapping[str, Any] | None) -> dict[str, Any]:
    for name in limits or {}:
        if name != "max_prompt_tokens":
            raise ConfigError(f"The layer 'trim' has no setting {name!r}.", nearest(name, ["max_prompt_tokens"]))
    return dict(limits or {})
