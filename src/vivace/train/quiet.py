"""Keep the training libraries from writing on the terminal and from calling home."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKERS = ("transformers", "trl", "peft", "accelerate", "datasets", "torch", "huggingface_hub")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence bars, warnings and usage reports of the libraries inside the block, and restore their loggers."""
    # Read once at import: whether a library reports its use. Nothing here asks whether the hub may be reached.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    from transformers.utils import logging as chatter

    bars = datasets.are_progress_bars_disabled()
    talking = chatter.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in TALKERS}
    datasets.disable_progress_bars()
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in TALKERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
        if talking:
            chatter.enable_progress_bar()  # type: ignore[no-untyped-call]
