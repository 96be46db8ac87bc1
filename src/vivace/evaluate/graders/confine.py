"""Runs a grader's source inside its sandbox: this file is the program of a process of its own, and imports no Vivace.

    python -I confine.py

It reads one JSON object from stdin (source, cases, limits), gives up every right that it does not need, and writes one
JSON line per case to what was its stdout. On Linux it has no network, no processes, no signals to others and no files
but Python's own and an empty folder (seccomp, Landlock, a network namespace of its own), each where the kernel has it;
limits on memory, time, file size and open files hold everywhere.
"""

import ctypes
import errno
import json
import os
import platform
import resource
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
# Bits of Landlock's file rights, by the version of its interface that brought them.
_LANDLOCK_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = 0b1100  # read files and list folders

# System calls that are refused, by number, from the kernel's tables: processes; sockets; other processes; mounts,
# namespaces, keys and rings; modules, reboot, swap and shared memory.
_X86_64 = """
    57 58 56 435 59 322  41 53 42 49 50 43 288 44 46 307
    101 310 311 62 200 234 129 297 424 434 438 302 203 251 141
    165 166 155 161 272 308 304 321 298 250 248 249 425 426 427 323  175 313 176 246 169 167 168 29 68 64 240 319
"""
_AARCH64 = """
    220 435 221 281  198 199 203 200 201 202 242 206 211 269
    117 270 271 129 130 131 138 240 424 434 438 261 122 30 140
    40 39 41 51 97 268 265 280 241 219 217 218 425 426 427 282  105 273 106 104 142 224 225 194 186 190 180 279
"""
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}  # audit architecture, numbers


def main() -> None:
    """Read the work, confine this process, and grade."""
    work = json.loads(sys.stdin.buffer.read())
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    guards = confine(work["scratch"], work["limits"])
    print(json.dumps({"guards": guards}), file=results, flush=True)
    try:
        space: dict[str, object] = {"__name__": "grader"}
        exec(compile(work["source"], "source", "exec"), space)
        grade = space.get("grade")
        if not callable(grade):
            raise TypeError("the source defines no function grade(sample, item)")
    except BaseException as error:  # SystemExit, too: whatever the source does while it loads is told, not obeyed
        print(json.dumps({"broken": told(error)}), file=results, flush=True)
        return
    print(json.dumps({"loaded": True}), file=results, flush=True)
    for case in work["cases"]:
        try:
            answer = {"grade": plain(grade(case["sample"], case["item"]))}
        except BaseException as error:
            answer = {"error": told(error)}
        print(json.dumps(answer), file=results, flush=True)


def plain(value: object) -> object:
    """Return a grade as JSON has it: a number, or the name of what is none."""
    if isinstance(value, (bool, int, float)):
        return float(value)
    try:
        return float(value.__float__())  # type: ignore[attr-defined]
    except AttributeError:
        return f"a {type(value).__name__}"


def told(error: BaseException) -> str:
    """Return an error in one short line, with the line of the source where it was raised."""
    found, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "source":
            found = trace.tb_lineno
        trace = trace.tb_next
    try:
        said = " ".join(str(error)[:300].split())
    except BaseException:
        said = ""
    return f"{type(error).__name__}{f': {said}' if said else ''}{f' (line {found})' if found else ''}"


def confine(scratch: str, limits: dict[str, int]) -> list[str]:
    """Give up rights, and return which guards the system has."""
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    if sys.platform != "linux":
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    guards = []
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        guards.append("network-namespace")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return guards
    if _landlock(libc, scratch):
        guards.append("landlock")
    if _seccomp(libc):
        guards.append("seccomp")
    return guards


def _landlock(libc: ctypes.CDLL, scratch: str) -> bool:
    """Leave Python's own files to be read and one folder to be written."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    everything = (1 << _LANDLOCK_FILE_BITS[min(version, 5)]) - 1
    ruleset = libc.syscall(
        _LANDLOCK_CREATE, ctypes.byref(ctypes.c_uint64(everything)), ctypes.c_size_t(8), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return False
    readable = {sys.prefix, sys.base_prefix, "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"}
    readable |= {"/usr/share/zoneinfo", "/etc/ld.so.cache", "/dev/urandom"}
    allowed = [(path, _READ if os.path.isdir(path) else 0b100) for path in readable if os.path.exists(path)]
    for path, rights in [*allowed, (os.devnull, 0b110), (scratch, everything)]:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights, folder)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
        os.close(folder)
    held = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return bool(held)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _seccomp(libc: ctypes.CDLL) -> bool:
    """Refuse the system calls that reach beyond this process."""
    if platform.machine() not in _MACHINES or sys.maxsize < 1 << 32:
        return False
    architecture, numbers = _MACHINES[platform.machine()]
    refused = [int(number) for number in numbers.split()]
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),  # the architecture
        (equal, 1, 0, architecture),
        (end, 0, 0, _KILL),
        (load, 0, 0, 0),  # the number of the system call
        (at_least, len(refused) + 1, 0, 0x40000000),  # the 32-bit numbering of x86-64
    ]
    program += [(equal, len(refused) - place, 0, number) for place, number in enumerate(refused)]
    program += [(end, 0, 0, _ALLOW), (end, 0, 0, _REFUSE)]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    held = ctypes.create_string_buffer(code, len(code))
    wanted = _Program(len(program), ctypes.addressof(held))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0) == 0)


if __name__ == "__main__":
    main()
