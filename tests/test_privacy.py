"""Nothing calls home."""

import subprocess
import sys

import pytest

CODE = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event in
                 ("os.fork", "subprocess.Popen", "os.posix_spawn", "socket.connect", "socket.getaddrinfo") else None)
import vivace
import {modules}
print("SEEN", seen)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules", ["openvino, openvino_genai", "nncf", "transformers, peft, trl", "onnxruntime_genai"]
)
def test_importing_a_library_starts_no_process_and_opens_no_connection(modules: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", CODE.format(modules=modules)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    found = shown.stdout.split("SEEN", 1)[1]
    assert "os.fork" not in found
    assert "socket" not in found
