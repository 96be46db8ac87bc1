"""Predictors open only what was made for them, and without any training library."""

import subprocess
import sys
from pathlib import Path

import pytest

from vivace.errors import ModelError
from vivace.models.encoders import IntentClassifier, RewardModel


def test_a_folder_that_is_no_classifier_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no intents\.json"):
        IntentClassifier.open(tiny_model)
    with pytest.raises(ModelError, match=r"holds no reward\.json"):
        RewardModel.open(tiny_model)


def test_predictors_import_no_training_library() -> None:
    code = (
        "import sys, vivace.models.encoders; import openvino, tokenizers; "
        "print(sorted({'torch', 'transformers', 'sklearn', 'scipy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
