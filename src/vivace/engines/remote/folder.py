"""A provider as a model folder: `provider.json` without any secret, and the model's tokenizer where one is named."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vivace.config.providers import ProviderSettings
from vivace.domain import Candidate, Model, Progress
from vivace.errors import ModelError

PROVIDER_FILE = "provider.json"


def save_provider(
    name: str, settings: ProviderSettings, folder: Path, *, root: Path | None = None, progress: Progress | None = None
) -> Model:
    """Write a provider's settings into `folder`, which is the same for the same settings, and return it as a model.

    A tokenizer that the settings name is brought here and copied; `root` is where relative folders begin.
    """
    from vivace.models import copy_tokenizer, resolve
    from vivace.store.files import write_atomic

    text = settings.model_dump_json(indent=2, exclude_defaults=True) + "\n"
    path = folder / PROVIDER_FILE
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if settings.tokenizer:
            source = resolve(settings.tokenizer, root=root, progress=progress).path
            copy_tokenizer(source, folder)
            write_atomic(folder / "config.json", (source / "config.json").read_bytes())  # the end-of-turn tokens
        write_atomic(path, text)  # last: with it the folder is whole
    return Model(name, folder.absolute(), "remote", "remote")


def provider_candidate(
    name: str,
    settings: ProviderSettings,
    folder: Path,
    *,
    chain: Mapping[str, Any] | None = None,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Candidate:
    """Return the provider called `name` as a candidate, judge or teacher, behind the layers in `chain`."""
    model = save_provider(name, settings, folder, root=root, progress=progress)
    return Candidate(name, settings.engine, model, dict(chain or {}))


def read_provider(folder: Path) -> ProviderSettings:
    """Return the settings in a provider's folder; raises `ModelError` where they cannot be used."""
    path = folder / PROVIDER_FILE
    try:
        return ProviderSettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{folder} holds no {PROVIDER_FILE} that can be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        message = f"{path} cannot be used: {where + ': ' if where else ''}{said}."
    raise ModelError(message)  # outside: the caught error would hold the whole input
