"""Fixtures every room may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny import build_tiny_model

# The same cases every time, so that a change is to blame when a property fails.
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Several processes of tests share the cores: threads that wait for one another there take many times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Nothing in a test may dial out, whatever a library does by default.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a seeded 2-layer Llama under 1 MB, its tokenizer and a ChatML template."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The real SmolLM2-135M-Instruct, made once in the user's cache; skips where its package cannot be had."""
    from vivace.errors import VivaceError
    from vivace.models import resolve

    try:
        return resolve("smollm2-135m-instruct").path
    except VivaceError as error:
        pytest.skip(f"the real model cannot be made here: {error}")
