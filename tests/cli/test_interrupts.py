"""One Ctrl-C is enough, also where Python alone would lose it."""

import os
import signal
import subprocess
import sys
import time

import pytest

HEARD = "from vivace.cli.interrupts import hear_every_interrupt; hear_every_interrupt()\n"

# The kernel may give an interrupt to any thread; the main one is then not woken. It is what also happens to one that
# comes between Python's last look at its flag and the call that waits, which cannot be timed.
TO_ANOTHER_THREAD = """
import os, signal, threading, time
def press():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    os.read(os.pipe()[0], 1)
except KeyboardInterrupt:
    print("heard")
"""

INTO_A_CALLBACK = """
import os, signal, time
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
try:
    thing = Thing()
    del thing
    time.sleep(9)
    print("slept")
except KeyboardInterrupt:
    print("heard")
"""

CLEANS_UP = """
import asyncio, os, signal, threading, time
async def work():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(2.5)
        print("cleaned", flush=True)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    asyncio.run(work())
except KeyboardInterrupt:
    try:
        time.sleep(2.5)
    finally:
        print("heard once")
"""


def run(code: str, seconds: float = 20) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ).stdout


def test_an_interrupt_that_wakes_nobody_is_heard() -> None:
    assert run(HEARD + TO_ANOTHER_THREAD) == "heard\n"


def test_an_interrupt_that_falls_into_a_callback_is_heard() -> None:
    assert run(HEARD + INTO_A_CALLBACK) == "heard\n"


def test_python_alone_loses_both() -> None:
    """If this fails, Python has become better and the watch can go."""
    assert run(INTO_A_CALLBACK) == "slept\n"
    with pytest.raises(subprocess.TimeoutExpired):
        run(TO_ANOTHER_THREAD, seconds=3)


def test_cleaning_up_after_an_interrupt_is_not_disturbed() -> None:
    assert run(HEARD + CLEANS_UP) == "cleaned\nheard once\n"


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.3])
def test_an_interrupt_while_the_command_line_loads_is_no_traceback(after_s: float) -> None:
    code = "from vivace.__main__ import main; print('on', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    assert process.returncode in (130, 0)
