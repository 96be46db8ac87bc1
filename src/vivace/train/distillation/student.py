"""A student cut from a model: some of its layers, everything else as it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.models import load_causal_lm, save_model
from vivace.models.depth import keep_layers


def even_layers(count: int, share: float) -> tuple[int, ...]:
    """Return which of `count` layers make up a share of them: evenly spread, the first and the last included.

    DistilBERT starts so from every other layer (Sanh et al. 2019, https://arxiv.org/abs/1910.01108).
    """
    wanted = max(min(count, 2), round(share * count))
    if wanted >= count:
        return tuple(range(count))
    return tuple(round(place * (count - 1) / (wanted - 1)) for place in range(wanted))


def layer_count(folder: Path) -> int:
    """Return how many layers a model folder has."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return int(config.get_text_config().num_hidden_layers)


def cut_layers(model_folder: Path, keep: Sequence[int], out: Path) -> Path:
    """Write the model with the layers `keep` alone (rising numbers from 0) as a Hugging Face folder, and return it.

    Weights are copied, tied embeddings stay tied. Raises `ModelError` for layers that are not there, and for models
    whose layers cannot be found.
    """
    model = load_causal_lm(model_folder)
    keep_layers(model, keep)
    return save_model(model, model_folder, out)
