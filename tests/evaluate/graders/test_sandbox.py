"""Whatever a grader's source tries, it ends in a number or a sentence, soon, and changes nothing outside."""

import asyncio
import os
import sys
from time import monotonic

import pytest

from vivace.config.grader import PythonGrader
from vivace.errors import ConfigError
from vivace.evaluate.graders.case import Case
from vivace.evaluate.graders.sandbox import Limits, check_source, python_grades

LINUX = sys.platform == "linux"
CASES = [Case(f"e{n}", {"reference": "x" * n}, {"output_text": "hello"}) for n in range(3)]
LIMITS = Limits(start_s=8.0, case_s=2.0, memory_bytes=512 << 20)
SECONDS = 15.0  # for all cases, on a busy machine; a grader that is not stopped takes for ever


def grade(source: str, cases=CASES, limits: Limits = LIMITS) -> list[float | str]:
    grader = PythonGrader(type="python", name="mine", source=source)
    started = monotonic()
    found = asyncio.run(python_grades(grader, cases, limits))
    assert monotonic() - started < SECONDS
    assert len(found) == len(cases)
    return found


def body(*lines: str) -> str:
    return "def grade(sample, item):\n" + "".join(f"    {line}\n" for line in lines)


def test_a_function_grades_with_what_is_installed():
    assert grade(body("return len(item['reference']) + (sample['output_text'] == 'hello')")) == [1, 2, 3]
    with_libraries = "import numpy, re, json\n" + body("return numpy.float32(len(item['reference']) / 2)")
    assert grade(with_libraries) == [0, 0.5, 1]
    assert grade(body("return True")) == [1, 1, 1]


def test_failed_answers_are_not_shown():
    cases = [Case("a", {}, {"output_text": "1"}), Case("b", {}, {"output_text": "2"}, failed=True)]
    assert grade(body("return float(sample['output_text'])"), cases) == [1, 0]


def test_a_scratch_folder_may_be_used_and_is_gone_afterwards():
    found = grade(body("open('note', 'w').write('7')", "return float(open('note').read())"))
    assert found == [7, 7, 7]
    place = grade(body("import os", "raise ValueError(os.getcwd())"))[0]
    assert isinstance(place, str)
    assert not os.path.exists(place.split("ValueError: ")[1].split(" ")[0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (body("return sample['nope']"), "failed on example 'e0': KeyError: 'nope' (line 2)"),
        (body("return 'good'"), "gave a str on example 'e0'; wanted is a number"),
        (body("return None"), "gave a NoneType"),
        (body("return float('nan')"), "gave nan on example 'e0', which is not finite"),
        (body("return float('inf')"), "which is not finite"),
        (body("raise SystemExit"), "SystemExit"),
        ("x = 1", "the source defines no function grade(sample, item)"),
        ("import no_such_module", "cannot be run: ModuleNotFoundError"),
        (body("class E(Exception):", "    def __str__(self): raise self", "raise E"), "failed on example 'e0': E"),
    ],
)
def test_an_honest_mistake_is_a_sentence_with_the_example(source, message):
    assert message in str(grade(source)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (body("while True: pass"), "was ended after 2 s on example 'e0'"),
        ("while True: pass", "was ended after 8 s while its source was run"),
        (body("import time", "time.sleep(1000)"), "was ended after 2 s on example 'e0'"),
        (body("return len(bytearray(10 ** 10))"), "wanted more than 512 MB on example 'e0'"),
        ("x = [0] * 10 ** 10", "wanted more than 512 MB"),
        (body("import ctypes", "ctypes.string_at(0)"), "ended its process on example 'e0': SIG"),
        (body("import os", "os._exit(0)"), "ended its process on example 'e0': exit status 0"),
        (body("import os", "os.close(3)", "os.closerange(0, 60)", "while True: pass"), "e0"),
        (
            body(
                "import os", "for n in range(3, 60):", "    try: os.write(n, b'x' * 200000)", "    except OSError: pass"
            ),
            "wrote where",
        ),
        (
            body(
                "import os",
                "for n in range(3, 60):",
                "    try: os.write(n, b'no json')",
                "    except OSError: pass",
                "return 1",
            ),
            "wrote where",
        ),
        (
            body("n = 0", "while True:", "    n += 1", "    open(f'f{n}', 'wb').write(b'x' * 2 ** 20)"),
            "wrote more than 64 MB",
        ),
        (body("open('big', 'wb').write(b'x' * 2 ** 25)", "return 1"), "File too large"),
    ],
)
def test_a_source_that_takes_too_much_is_ended_and_says_what_it_took(source, message):
    assert message in str(grade(source)[0])


def test_a_gigabyte_of_print_goes_nowhere():
    found = grade(body("for _ in range(1000): print('x' * 10 ** 6)", "return 1"), CASES[:1], Limits(case_s=8.0))
    assert found == [1]


def test_the_environment_is_not_seen(monkeypatch):
    monkeypatch.setenv("MY_SECRET_KEY", "hunter2")
    told = str(grade(body("import os", "raise ValueError(sorted(os.environ))"))[0])
    assert "OMP_NUM_THREADS" in told
    assert "SECRET" not in told


@pytest.mark.skipif(not LINUX, reason="seccomp and Landlock are Linux's")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (body("import os", "while True: os.fork()"), "PermissionError"),
        (body("import subprocess", "subprocess.run(['true'])"), "PermissionError"),
        (body("import threading", "while True: threading.Thread(target=input).start()"), "can't start new thread"),
        (body("import socket", "socket.socket()"), "PermissionError"),
        (body("import urllib.request", "urllib.request.urlopen('http://127.0.0.1:9')"), "not permitted"),
        (body("import os", "os.kill(os.getppid(), 9)"), "PermissionError"),
        (body("import os", "os.kill(-1, 9)"), "PermissionError"),
        (body("open(f'/proc/{__import__(\"os\").getppid()}/environ').read()"), "Permission denied"),
        (body("open('/etc/passwd').read()"), "Permission denied"),
        (body("open(__import__('os').path.expanduser('~/x'), 'w')"), "Permission denied"),
        (body("open('/tmp/x', 'w')"), "Permission denied"),
        (body("import os", "os.listdir('/')"), "Permission denied"),
        (body("import os", "os.symlink('/etc/passwd', 'p')", "open('p').read()"), "Permission denied"),
        (body("import ctypes", "assert ctypes.CDLL(None).setrlimit(7, b'\\xff' * 16) == 0, 'kept'"), "kept"),
    ],
)
def test_nothing_outside_can_be_reached(source, message):
    assert message in str(grade(source)[0])


@pytest.mark.skipif(not LINUX, reason="seccomp and Landlock are Linux's")
def test_another_file_of_the_project_can_be_neither_read_nor_changed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for call in (
        f"open({str(secret)!r}).read()",
        f"open({str(secret)!r}, 'a')",
        f"__import__('os').remove({str(secret)!r})",
    ):
        assert "Permission denied" in str(grade(body(f"return {call}"))[0])
    assert secret.read_text() == "hunter2"


def test_after_it_was_ended_every_later_example_has_the_reason():
    found = grade(body("if item['reference'] == 'x':", "    while True: pass", "return 1"))
    assert found[0] == 1
    assert found[1] == found[2] == "The grader 'mine' was ended after 2 s on example 'e1'."


@pytest.mark.parametrize(
    ("source", "message"), [("def grade(:", "line 1"), ("x\x00", "null byte"), ("(" * 5000, "many nested|too many")]
)
def test_a_source_that_is_not_python_is_refused_before_anything_runs(source, message):
    with pytest.raises(ConfigError, match=message):
        check_source(PythonGrader(type="python", name="mine", source=source))
