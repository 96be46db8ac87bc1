"""Bounds, keys and hosts, before any work is done."""

import http.client
import json
import socket
import time
from collections.abc import Iterator

import openai
import pytest

from tests.serve.fakes import MODEL, ScriptedEngine, Served, app_of, read_all, serving
from vivace.serve import protocol

ONE = "key-one-0123456789"
KEYS = (ONE, "key-two-0123456789")
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def open_server() -> Iterator[Served]:
    with serving(app_of(ScriptedEngine(), max_body_bytes=20_000)) as server:
        yield server


@pytest.fixture
def locked_server() -> Iterator[Served]:
    with serving(app_of(ScriptedEngine(), keys=KEYS)) as server:
        yield server


def test_each_key_opens_and_no_other_does(locked_server: Served) -> None:
    for key in KEYS:
        client = openai.OpenAI(base_url=f"{locked_server.url}/v1", api_key=key, max_retries=0)
        assert client.models.list().data[0].id == MODEL
        assert client.chat.completions.create(**CHAT).choices[0].message.content == "hi"
        client.close()
    client = openai.OpenAI(base_url=f"{locked_server.url}/v1", api_key="key-three", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**CHAT)
    client.close()
    assert caught.value.code == "invalid_api_key"
    assert "key-three" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", f"Basic {ONE}", ONE, f"Bearer {ONE}x", f"Bearer {ONE[:-1]}", "Bearer \xff"],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/"])
def test_without_a_right_key_every_path_is_401(locked_server: Served, value: str | None, path: str) -> None:
    sent = {} if value is None else {"Authorization": value}
    status, answer, headers = locked_server.request("GET", path, headers=sent)
    assert status == 401
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key_and_tells_a_stranger_little(locked_server: Served, open_server: Served) -> None:
    assert locked_server.request("GET", "/health")[:2] == (200, {"status": "ok"})
    assert open_server.request("GET", "/health")[1]["model"] == MODEL


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "localhost:80", "127.0.0.1:1", "[::1]:80", "LOCALHOST"]
)
def test_loopback_names_are_answered(open_server: Served, host: str) -> None:
    assert open_server.request("GET", "/v1/models", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1"]
)
@pytest.mark.parametrize("path", ["/v1/models", "/health"])
def test_a_rebound_name_is_refused_where_no_key_is_asked(open_server: Served, host: str, path: str) -> None:
    status, answer, _ = open_server.request("GET", path, headers={"Host": host})
    assert (status, answer["error"]["code"]) == (403, "host_not_allowed")


def test_with_keys_any_host_is_answered(locked_server: Served) -> None:
    headers = {"Host": "chat.example", "Authorization": f"Bearer {KEYS[0]}"}
    assert locked_server.request("GET", "/v1/models", headers=headers)[0] == 200


def test_two_hosts_or_none_are_refused(open_server: Served) -> None:
    two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    for head in (two, b"GET /health HTTP/1.0\r\n\r\n"):
        client = open_server.connect()
        client.sendall(head)
        assert b"403" in client.recv(65536)
        client.close()


def test_a_body_at_the_limit_is_read_and_one_above_is_413(open_server: Served) -> None:
    def sized(size: int) -> bytes:
        empty = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": ""}], "max_tokens": 1})
        return empty.replace('"content": ""', '"content": "' + "x" * (size - len(empty)) + '"').encode()

    assert open_server.raw_chat(sized(20_000))[0] == 200
    status, answer, _ = open_server.raw_chat(sized(20_001))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    assert open_server.raw_chat(sized(3_000_000))[0] == 413


def test_a_chunked_body_has_the_same_limit(open_server: Served) -> None:
    def chunked(size: int) -> bytes:
        client = open_server.connect()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        body = json.dumps(CHAT).encode().ljust(size)
        for start in range(0, size, 5000):
            part = body[start : start + 5000]
            client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        client.sendall(b"0\r\n\r\n")
        received = read_all(client)
        client.close()
        return received

    assert b" 200 " in chunked(20_000)
    assert b" 413 " in chunked(20_001)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_browser_page_cannot_post_without_asking_first(open_server: Served, kind: str) -> None:
    body = json.dumps(CHAT).encode()
    status, answer, _ = open_server.raw_chat(body, **{"Content-Type": kind})
    assert (status, answer["error"]["code"]) == (400, "unsupported_content_type")
    assert open_server.raw_chat(body, **{"Content-Type": "application/json; charset=utf-8"})[0] == 200


def test_unknown_paths_and_methods_are_refused_in_openais_shape(open_server: Served) -> None:
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/files", 404),
        ("POST", "/v1/responses", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", f"/v1/models/{MODEL}", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("GET", "/v1/models/a/b%00c", 404),
        ("GET", "//", 404),
    ):
        seen, answer, headers = open_server.request(method, path)
        assert (seen, set(answer["error"])) == (status, {"message", "type", "param", "code"}), path
        assert ("allow" in headers) == (status == 405)


def test_an_unread_body_does_not_confuse_the_next_request(open_server: Served) -> None:
    connection = http.client.HTTPConnection(open_server.host, open_server.port, timeout=10)
    for path, status in (("/nowhere", 404), ("/v1/chat/completions", 400), ("/nowhere", 404)):
        connection.request("POST", path, b"x" * 100)
        response = connection.getresponse()
        assert (response.status, b'"error"' in response.read()) == (status, True)
    connection.request("GET", "/v1/models")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_goes_on(open_server: Served, head: bytes) -> None:
    client = open_server.connect()
    client.sendall(head)
    received = read_all(client)
    client.close()
    assert received.startswith(b"HTTP/1.1 4")
    assert b'{"error":{' in received
    assert open_server.request("GET", "/health")[0] == 200


def test_an_endless_head_is_refused(open_server: Served) -> None:
    client = open_server.connect()
    client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(20_000))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        client.sendall(lines)
    client.close()
    assert open_server.request("GET", "/health")[0] == 200


def test_a_head_that_does_not_come_closes_the_connection(open_server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_DEADLINE_S", 0.3)
    for sent, wanted in ((b"", b""), (b"GET /health HT", b"HTTP/1.1 408")):
        client: socket.socket = open_server.connect()
        client.sendall(sent)
        started = time.monotonic()
        assert read_all(client).startswith(wanted)
        assert time.monotonic() - started < 5
        client.close()
