"""Whether an engine's process is alive: what it answers, and what the machine tells of it where it answers nothing.

A thread of the process answers a ping every second, whatever its loop computes. Silence alone does not condemn it: a
native call may hold Python's lock for long. It does where the process is stopped, or neither computes nor waits for the
disk meanwhile.
"""

import psutil

TICK_S = 1.0
STOPPED_TICKS = 2
SILENT_TICKS = 4
"""Pings in a row without an answer after which a process is looked at, and condemned."""
IDLE_STEP_S = 60.0
"""A step in which the processor does nothing for so long waits for something that never comes."""
_AT_WORK = frozenset({psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP, psutil.STATUS_TRACING_STOP})


class Pulse:
    """Judges one process at each tick; `hang_timeout_s` is the longest step and the longest silence of all."""

    def __init__(self, pid: int, hang_timeout_s: float) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._silent = 0
        self._step_s = 0.0
        self._idle_s = 0.0
        self._cpu_s = 0.0
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._process = None
        self.tick_s = min(TICK_S, hang_timeout_s / 4)

    def heard(self, step_s: float) -> None:
        """Note a sign of life; `step_s` is how long the loop has been in one step."""
        self._silent = 0
        self._step_s = step_s

    def tick(self) -> str:
        """Return what is wrong with the process, in words that follow its name; empty when nothing is.

        Ticks are counted, not seconds: a parent that stood still itself blames nobody.
        """
        self._silent += 1
        computed = self._computed()
        if self._step_s > self._hang_timeout_s:
            return f"did not come to the end of a step in {self._hang_timeout_s:g} s"
        self._idle_s = 0.0 if computed or not self._step_s else self._idle_s + self.tick_s
        if self._idle_s > IDLE_STEP_S:
            return f"stood still in the middle of a step for {IDLE_STEP_S:g} s"
        if self._silent <= STOPPED_TICKS:
            return ""
        silent_s = self._silent * self.tick_s
        state = self._state()
        if state == psutil.STATUS_STOPPED:
            return "was stopped by a signal (SIGSTOP)"
        if self._silent <= SILENT_TICKS:
            return ""
        if silent_s > self._hang_timeout_s or not (computed or state in _AT_WORK):
            return f"gave no sign of life for {silent_s:g} s"
        return ""

    def _computed(self) -> bool:
        """Say whether the process used the processor since the last tick."""
        try:
            times = self._process.cpu_times() if self._process else None
        except psutil.Error:
            return False
        before, self._cpu_s = self._cpu_s, times.user + times.system if times else 0.0
        return self._cpu_s > before

    def _state(self) -> str:
        try:
            return str(self._process.status()) if self._process else ""
        except psutil.Error:
            return ""
