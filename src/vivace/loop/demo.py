"""The example project, put where the user can look at it."""

import filecmp
import shutil
from pathlib import Path

from vivace.errors import ConfigError
from vivace.store.files import disk_errors

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "support"
SHOWN = {".toml", ".jsonl", ".csv", ".md"}


def prepare_demo(folder: Path) -> Path:
    """Copy the example shop into `folder` (what is there and equal stays) and return it."""
    if not (EXAMPLE / "vivace.toml").is_file():
        raise ConfigError(
            "The example shop is part of the repository, not of the installed package.",
            "Clone the repository and run `make demo` there, or `vivace init DIR --from FILE` with your own files.",
        )
    with disk_errors(folder):
        for source in sorted(path for path in EXAMPLE.rglob("*") if path.suffix in SHOWN):
            name = source.relative_to(EXAMPLE)
            if name.parts[0] == "generator":
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or not filecmp.cmp(source, target, shallow=False):
                shutil.copyfile(source, target)
    return folder
