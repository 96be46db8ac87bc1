"""How much of the processor other programs used meanwhile."""

from time import perf_counter

import psutil

NOISY_ABOVE = 0.10


class ForeignLoad:
    """Measures the share of all cores that was busy, but not with this process and its children.

    In a container the figures are those of the whole machine, as the kernel tells them.
    """

    def __init__(self) -> None:
        self._start = _now()

    def fraction(self) -> float:
        """Return the share since the start, or since the last call."""
        before, self._start = self._start, _now()
        seconds, busy_s, own_s = (new - old for new, old in zip(self._start, before, strict=True))
        return foreign_fraction(busy_s, own_s, seconds * (psutil.cpu_count() or 1))


def foreign_fraction(busy_s: float, own_s: float, capacity_s: float) -> float:
    """Return the share of `capacity_s` core seconds that others used; clock ticks may make the difference negative."""
    return min(1.0, max(0.0, (busy_s - own_s) / capacity_s)) if capacity_s > 0 else 0.0


def _now() -> tuple[float, float, float]:
    """Return wall seconds, the machine's busy core seconds, and ours."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
    return perf_counter(), sum(times) - idle - guest, _own_seconds()


def _own_seconds() -> float:
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended just now; its parent has its time
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
