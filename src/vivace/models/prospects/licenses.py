"""Whether a licence permits commercial use, as far as its name tells; never legal advice."""

from typing import Literal

Commercial = Literal["yes", "conditions", "no", "unknown"]

# SPDX identifiers (https://spdx.org/licenses) and the hub's own tags, in lower case.
# fmt: off
_YES = frozenset((
    "apache-2.0", "mit", "mit-0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "cc0-1.0", "0bsd",
    "cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "wtfpl", "bsl-1.0", "artistic-2.0", "ms-pl",
    "mpl-2.0", "lgpl-3.0", "lgpl-2.1", "gpl-2.0", "gpl-3.0", "agpl-3.0", "epl-2.0", "odc-by", "cdla-permissive-2.0",
))
_CONDITIONS = frozenset((
    "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma", "openrail", "openrail++",
    "bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "creativeml-openrail-m",
    "deepfloyd-if-license", "falcon-llm-license", "qwen", "tongyi-qianwen", "deepseek", "lfm1.0", "cc-by-nd-4.0",
))
# fmt: on
_NO = ("-nc", "noncommercial", "non-commercial", "research", "mrl", "fair-noncommercial")


def commercial_use(license_name: str) -> Commercial:
    """Return whether a licence permits commercial use: `conditions` are terms of the publisher's own to be read."""
    tag = license_name.strip().lower()
    if tag in _YES or tag.removesuffix("-or-later").removesuffix("-only") in _YES:
        return "yes"
    if tag in _CONDITIONS:
        return "conditions"
    return "no" if any(part in tag for part in _NO) else "unknown"


def about_use(use: Commercial) -> str:
    """Return what to tell about it."""
    return {
        "yes": "commercial use permitted",
        "conditions": "commercial use under conditions: read it",
        "no": "no commercial use",
        "unknown": "unknown: read it",
    }[use]
