"""Stopping: running answers finish, new ones are not taken, and a deadline ends the rest."""

import json
import time

import pytest

from tests.serve.fakes import ScriptedEngine, app_of, read_all, serving, wait_until
from vivace.errors import ConfigError
from vivace.serve.server import bind


@pytest.mark.parametrize("stream", [False, True])
def test_a_running_answer_is_finished_after_the_signal(stream: bool) -> None:
    engine = ScriptedEngine()
    with serving(app_of(engine)) as served:
        client = served.send_chat(stream=stream, max_tokens=40)
        wait_until(lambda: engine.active == 1)
        served.stop()
        wait_until(lambda: served.admission.draining)
        with pytest.raises(ConnectionRefusedError):
            wait_until(lambda: served.connect().close() is not None)
        received = read_all(client)
        assert received.count(b"slow") == 40
        assert (b"data: [DONE]" in received) == stream
        assert b'"finish_reason":"length"' in received
        client.close()
        served.thread.join(5)
        assert not served.thread.is_alive()


def test_an_idle_server_stops_at_once() -> None:
    with serving(app_of(ScriptedEngine())) as served:
        idle = served.connect()
        started = time.monotonic()
        served.stop()
        served.thread.join(5)
        assert not served.thread.is_alive()
        assert time.monotonic() - started < 2
        idle.close()


def test_what_outlasts_the_deadline_ends_with_an_error_in_shape() -> None:
    engine = ScriptedEngine()
    with serving(app_of(engine), drain_s=0.3) as served:
        whole = served.send_chat(max_tokens=2000)
        stream = served.send_chat(max_tokens=2000, stream=True)
        wait_until(lambda: engine.active == 2)
        served.stop()
        head, _, body = read_all(whole).partition(b"\r\n\r\n")
        assert b" 503 " in head
        assert json.loads(body)["error"]["code"] == "shutting_down"
        assert b'"code":"shutting_down"' in read_all(stream)
        served.thread.join(5)
        assert not served.thread.is_alive()
        assert engine.active == 0
        whole.close()
        stream.close()


def test_a_second_signal_does_not_wait() -> None:
    engine = ScriptedEngine()
    with serving(app_of(engine), drain_s=60) as served:
        client = served.send_chat(max_tokens=2000)
        wait_until(lambda: engine.active == 1)
        served.stop()
        wait_until(lambda: served.admission.draining)
        served.stop()
        assert b" 503 " in read_all(client)
        client.close()


def test_a_kept_connection_takes_no_new_work_while_the_server_drains() -> None:
    engine = ScriptedEngine()
    with serving(app_of(engine)) as served:
        client = served.send_chat(max_tokens=30)
        wait_until(lambda: engine.active == 1)
        served.stop()
        wait_until(lambda: served.admission.draining)
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 ") == 1
        client.close()


def test_an_address_in_use_is_a_sentence() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"), bind("127.0.0.1", port):
            pass
    with pytest.raises(ConfigError, match=r"203\.0\.113\.7"), bind("203.0.113.7", 0):
        pass
