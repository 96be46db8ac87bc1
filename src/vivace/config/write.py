"""Write a `vivace.toml` that explains itself."""

import json
from typing import Any

from pydantic import BaseModel

from vivace.config.settings import Settings

SHOWN = {
    "project": ("name", "system"),
    "models": ("base",),
    "data": ("conversations", "test", "documents", "max_conversations", "languages", "redact", "public_contacts"),
    "data.label": ("fields",),
    "data.balance": ("by", "keep_best"),
    "data.augment": ("methods",),
    "train": ("method", "max_tokens", "learning_rate", "per_device_train_batch_size"),
    "compress": ("exports",),
    "evaluate": ("max_examples", "max_tokens"),
    "bench": ("concurrency", "requests"),
    "release": ("service_level", "quality_metric", "max_degradation", "must_beat_base"),
    "serve": ("host", "port", "api_keys"),
}


def commented_toml(chosen: dict[str, dict[str, Any]]) -> str:
    """Return the text of a `vivace.toml`: what was chosen as it is, the usual keys commented out with defaults."""
    lines = ["# What Vivace does with your data. Every key, with its default: docs/configuration.md", ""]
    for table, keys in SHOWN.items():
        model = _table(table)
        lines.append(f"[{table}]")
        values = chosen.get(table, {})
        for key in (*keys, *(name for name in values if name not in keys)):
            field = model.model_fields[key]
            lines.append(f"# {' '.join((field.description or '').split())}")
            if key in values:
                lines.append(f"{key} = {_toml(values[key])}")
            elif field.default is None:
                lines.append(f'# {key} = ""')
            else:
                lines.append(f"# {key} = {_toml(field.default)}")
        lines.append("")
    return "\n".join(lines)


def _table(path: str) -> type[BaseModel]:
    """Return the model of a table such as `data` or `data.label`."""
    model: type[BaseModel] = Settings
    for name in path.split("."):
        inner = model.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            raise TypeError(path)
        model = inner
    return model


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(item)}" for key, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
