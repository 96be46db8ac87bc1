"""Folders that appear whole or not at all, with all that a chat tokenizer and an engine look for in them."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vivace.errors import ModelError
from vivace.models import ChatTokenizer, check_data_only, copy_tokenizer
from vivace.store.files import disk_errors, sync_folder, sync_tree, write_atomic

# Where a model came from on the machine that made it, and how it was stored there, are nobody's business later.
_PRIVATE_KEYS = ("_name_or_path", "quantization_config")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder aside that becomes `out` when the block ends well and is gone when it does not."""
    aside = out.with_name(f".{out.name}.partial")
    with disk_errors(out):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    try:
        yield aside
        check_data_only(aside)
        with disk_errors(out):
            sync_tree(aside)
            shutil.rmtree(out, ignore_errors=True)
            os.replace(aside, out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a model folder; raises `ModelError` when there is none."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{folder} has no config.json.") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", "Download or make the model again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds no JSON object.", "Download or make the model again.")
    return config


def furnish(out: Path, source: Path, config: Mapping[str, Any]) -> None:
    """Put `config`, and the tokenizer, chat template and ends of an answer of `source`, beside the weights in `out`."""
    copy_tokenizer(source, out)
    public = {key: value for key, value in config.items() if key not in _PRIVATE_KEYS}
    write_atomic(out / "config.json", _text(public))
    settings = out / "generation_config.json"
    generation = json.loads(settings.read_bytes()) if settings.is_file() else {}
    # Engines read the ends from here alone, while models also name them in config.json or as a token.
    ends = sorted(ChatTokenizer.open(source).eos_ids)
    if not ends:
        raise ModelError(f"{source} does not say which token ends an answer.", "Add eos_token_id to its config.json.")
    write_atomic(settings, _text(generation | {"eos_token_id": ends}))


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
