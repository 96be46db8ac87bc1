"""`vivace.toml`."""

from vivace.config.load import FILE_NAME, find_config, load, resolve_secret
from vivace.config.settings import Settings
from vivace.config.write import commented_toml

__all__ = ["FILE_NAME", "Settings", "commented_toml", "find_config", "load", "resolve_secret"]
