"""Candidates, the gate, and releases on disk."""

from vivace.release.folder import open_release, read_origin, write_release
from vivace.release.gate import choose, find_score, judge, limits

__all__ = ["choose", "find_score", "judge", "limits", "open_release", "read_origin", "write_release"]
