"""Under which license each source is, as the files beside it say."""

from collections.abc import Iterable
from pathlib import Path

from vivace.data.reading.files import label

LICENSE_PATTERNS = ("LICENSE*", "LICENCE*", "COPYING*", "license*", "licence*")


def stated_licenses(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Return what `license_of` says of each file, by the file's name in reports; those without one are left out."""
    told = {name: license_of(name, root) for name in (label(path, root) for path in files)}
    return {name: line for name, line in told.items() if line}


def license_of(file: str, root: Path | None) -> str:
    """Return the first line of the license file next to a source or above it, up to `root`; empty without one."""
    if root is None or not file:
        return ""
    home, folder = root.resolve(), (root / file).resolve().parent
    while folder.is_relative_to(home):
        for pattern in LICENSE_PATTERNS:
            for path in sorted(folder.glob(pattern)):
                if path.is_file():
                    lines = path.read_text(encoding="utf-8", errors="replace").split("\n", 40)
                    first = next((line.strip() for line in lines if line.strip()), "empty file")
                    return f"{first[:100]} ({path.relative_to(home).as_posix()})"
        folder = folder.parent
        if folder == folder.parent:
            break
    return ""
