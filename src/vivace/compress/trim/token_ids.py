"""Token ids that stand in `config.json` and `generation_config.json`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES_IDS = re.compile(r"\w*_token_ids?|\w*_token_index|suppress_tokens|begin_suppress_tokens|\w+_words_ids")


def ids_in(config: Any) -> Iterator[int]:
    """Yield every token id that a configuration names, in its tables too."""
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if _NAMES_IDS.fullmatch(key):
            yield from _flat(value)
        else:
            yield from ids_in(value)


def renumber(config: Mapping[str, Any], numbers: Mapping[int, int], rows: int) -> dict[str, Any]:
    """Return a configuration with new ids, and the new size where the old vocabulary had `rows` tokens.

    A number that is no id of the model, such as -1 for none, stays as it is.
    """
    told: dict[str, Any] = {}
    for key, value in config.items():
        if _NAMES_IDS.fullmatch(key):
            told[key] = _mapped(value, numbers)
        elif key == "vocab_size" and value == rows:
            told[key] = len(numbers)
        else:
            told[key] = renumber(value, numbers, rows) if isinstance(value, Mapping) else value
    return told


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _mapped(value: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, list):
        return [_mapped(part, numbers) for part in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return numbers.get(value, value)
