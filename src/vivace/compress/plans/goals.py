"""What a compressed model shall come to: `size<60MB`, `parameters<70M`, three times as fast, 99 % as good."""

import re
from collections.abc import Iterable

from msgspec import Struct

from vivace.errors import ConfigError

QUALITY = 0.99
"""Share of the quality that a plan keeps where nothing else is asked for."""
_BUDGET = re.compile(r"^\s*([a-z]+)\s*<=?\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(b?)\s*$", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


class Goals(Struct, frozen=True):
    """Limits that a plan keeps; None: no limit.

    `speedup` (0: none is asked for) is of the decoding of the tuned model's first export, side by side in one run.
    `quality` is the share of the uncompressed model's token F1 and ROUGE-L that must be kept.
    """

    max_size_bytes: int | None = None
    max_parameters: int | None = None
    speedup: float = 0.0
    quality: float = QUALITY

    def told(self) -> str:
        """Say the goals as a person would."""
        parts = [f"at least {self.quality:.0%} of the quality"]
        if self.speedup:
            parts.append(f"{self.speedup:g}x the speed")
        if self.max_size_bytes is not None:
            parts.append(f"at most {self.max_size_bytes / 1e6:,.0f} MB")
        if self.max_parameters is not None:
            parts.append(f"at most {self.max_parameters / 1e6:,.0f}M parameters")
        return ", ".join(parts)


def read_goals(budgets: Iterable[str], speedup: float | None = None, quality: float | None = None) -> Goals:
    """Read goals as they are typed; raises `ConfigError` for what cannot be one."""
    if speedup is not None and not 1 <= speedup <= 100:
        raise ConfigError(f"A speedup of {speedup:g} is no goal.", "Give a number from 1 to 100, such as 2.")
    quality = QUALITY if quality is None else quality
    if not 0 < quality <= 1:
        raise ConfigError(f"A quality of {quality:g} is no share.", "Give a number up to 1, such as 0.99.")
    limits: dict[str, int] = {}
    for budget in budgets:
        match = _BUDGET.match(budget)
        if match is None or match[1].lower() not in ("size", "parameters"):
            raise ConfigError(f"The budget {budget!r} cannot be read.", 'Write "size<60MB" or "parameters<70M".')
        name, number, factor, unit = match[1].lower(), float(match[2]), match[3].lower(), match[4]
        if (name == "size") != bool(unit):
            raise ConfigError(
                f"The budget {budget!r} has no unit of {name}.",
                'Write "size<60MB" (MB is 10^6 bytes) or "parameters<70M".',
            )
        limits[name] = min(limits.get(name, 2**62), round(number * _FACTORS[factor]))
    return Goals(limits.get("size"), limits.get("parameters"), speedup or 0.0, quality)
