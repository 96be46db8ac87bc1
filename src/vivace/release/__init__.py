"""Candidates, the gate, and releases on disk."""

from vivace.release.folder import open_release, write_release
from vivace.release.gate import SERVICE_LEVELS, choose, judge, limits

__all__ = ["SERVICE_LEVELS", "choose", "judge", "limits", "open_release", "write_release"]
