"""Writes the example data of the fictional shop Kellvane; with --check, only compares it with what is here."""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from generator.export import build  # noqa: E402


def differences(files: dict[str, str]) -> list[str]:
    """Name the files that are missing, changed or no longer generated."""
    changed = []
    for name, text in files.items():
        path = HERE / name
        if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
            changed.append(name)
    leftover = {f"docs/{path.name}" for path in (HERE / "docs").glob("*.md")} - set(files)
    return changed + sorted(leftover)


def main() -> int:
    """Generate or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if the files here differ from the generated ones"
    )
    check = parser.parse_args().check
    files = build()
    if check:
        changed = differences(files)
        for name in changed:
            print(f"differs: {name}")
        return 1 if changed else 0
    (HERE / "docs").mkdir(exist_ok=True)
    for name, text in files.items():
        (HERE / name).write_bytes(text.encode("utf-8"))
    print(f"wrote {len(files)} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
