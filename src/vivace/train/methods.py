"""What each training method starts from and needs."""

import importlib.util

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError, ResourceError

LEARNING_RATES = {
    "lora": 2e-3,
    "dora": 2e-3,
    "rslora": 5e-4,  # its scale is alpha / sqrt(r), 4 times LoRA's at rank 16
    "qlora": 2e-3,
    "ia3": 1e-2,
    "prompt_tuning": 3e-2,
    "full": 1e-4,
}


def learning_rate(settings: TrainSettings) -> float:
    """Return the peak learning rate, by method when none is set."""
    return LEARNING_RATES[settings.method] if settings.learning_rate is None else settings.learning_rate


def check_method(settings: TrainSettings) -> None:
    """Raise `ConfigError` for settings that exclude one another, `ResourceError` for what this machine cannot do."""
    if settings.packing and settings.method == "prompt_tuning":
        raise ConfigError(
            "packing = true does not go with prompt_tuning: its learned tokens stand before a row, which then holds "
            "several conversations.",
            "Set packing = false in [train].",
        )
    if settings.method == "qlora":
        _check_qlora()


def _check_qlora() -> None:
    from vivace.train.machine import device

    instead = 'Set method = "lora" or "dora" in [train]: they train the same layers on any machine.'
    if device() != "cuda":
        raise ResourceError('method = "qlora" needs a CUDA GPU, and this machine has none.', instead)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ResourceError('method = "qlora" needs the package bitsandbytes, which is not installed.', instead)
