# ruff: noqa: RET503 - a response is the last thing a branch does
"""A program that stands in for `vllm` and `text-generation-launcher`: it takes their flags and speaks their dialects.

How it misbehaves is in the environment variable STAND_IN: `slow`, `dies`, `memory`, `stuck`, or `crashes` once it was
asked for a crash. What is written here of the real servers' bodies is from their sources and documentation.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WORDS = ["Good", " morning", ", Zoë", " 🙂."]
MODE = os.environ.get("STAND_IN", "")
BEGAN = time.monotonic()
SLOW_S = 1.5


def flags() -> dict[str, str]:
    """Read `--name value`, and refuse a flag that the real program does not have."""
    known = {
        "vllm": "served-model-name host port max-model-len generation-config dtype chat-template max-num-seqs "
        "tensor-parallel-size gpu-memory-utilization enable-prefix-caching",
        "text-generation-launcher": "model-id hostname port max-total-tokens max-input-tokens quantize dtype "
        "max-concurrent-requests sharded num-shard cuda-memory-fraction",
    }[PROGRAM].split()
    found, words = {}, sys.argv[1:]
    if PROGRAM == "vllm":
        assert words[0] == "serve", words
        found["model"], words = words[1], words[2:]
    while words:
        name = words.pop(0).removeprefix("--")
        if name not in known:
            sys.exit(f"{PROGRAM}: error: unrecognized arguments: --{name}")
        found[name] = "" if name == "enable-prefix-caching" else words.pop(0)
    return found


PROGRAM = Path(sys.argv[0]).name
VLLM = PROGRAM == "vllm"
FLAGS = flags()
NAME = FLAGS.get("served-model-name") or FLAGS.get("model-id", "")
LIMIT = int(FLAGS.get("max-model-len") or FLAGS.get("max-total-tokens") or 0)
KEY = os.environ.get("VLLM_API_KEY" if VLLM else "API_KEY", "")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def whole(self, status: int, value: object) -> None:
        body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self) -> bool:
        if KEY and self.headers.get("Authorization") != f"Bearer {KEY}":
            self.whole(401, {"error": "Unauthorized"})
            return False
        return True

    def do_GET(self) -> None:
        if self.path == "/health":
            late = MODE == "stuck" or (MODE == "slow" and time.monotonic() - BEGAN < SLOW_S)
            self.whole(503 if late else 200, None)
        elif self.path == "/v1/models" and self.allowed():
            self.whole(200, {"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "x"}]})
        elif self.path != "/v1/models":
            self.whole(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        asked = str(body.get("messages", body.get("inputs", "")))
        if MODE == "crashes" and "crash" in asked:
            sys.stderr.write("RuntimeError: CUDA error: an illegal memory access was encountered\n")
            sys.stderr.flush()
            os._exit(1)
        (self.vllm if VLLM else self.tgi)(body, asked)

    def vllm(self, body: dict, asked: str) -> None:
        if body.get("model") != NAME:
            said = f"The model `{body.get('model')}` does not exist."
            return self.whole(
                404, {"object": "error", "message": said, "type": "NotFoundError", "param": None, "code": 404}
            )
        if self.path == "/v1/completions":
            rows = [None] + [{str(token): {"logprob": -1.5, "rank": 1}} for token in body["prompt"][1:]]
            return self.whole(200, {"choices": [{"index": 0, "text": "x", "prompt_logprobs": rows}]})
        if len(asked.split()) + body["max_tokens"] > LIMIT:
            said = (
                f"This model's maximum context length is {LIMIT} tokens. However, you requested more. "
                "Please reduce the length of the messages or completion."
            )
            return self.whole(
                400, {"object": "error", "message": said, "type": "BadRequestError", "param": None, "code": 400}
            )
        usage = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16, "prompt_tokens_details": None}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS), "reasoning_content": None, "tool_calls": []}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
            return self.whole(200, {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
        chunks = [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
        chunks += [{"delta": {"content": word}, "finish_reason": None} for word in WORDS]
        chunks += [{"delta": {"content": ""}, "finish_reason": "stop", "stop_reason": None}]
        told = [{"id": "c", "choices": [{"index": 0, "logprobs": None, **chunk}]} for chunk in chunks]
        told.append({"id": "c", "choices": [], "usage": usage})
        self.stream([f"data: {json.dumps(each)}\n\n" for each in told] + ["data: [DONE]\n\n"])

    def tgi(self, body: dict, asked: str) -> None:
        wanted = body.get("max_tokens") or body.get("parameters", {}).get("max_new_tokens", 20)
        if len(asked.split()) + wanted > LIMIT:
            said = f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {LIMIT}."
            return self.whole(422, {"error": said, "error_type": "validation"})
        if "overload" in asked:
            return self.whole(429, {"error": "Model is overloaded", "error_type": "overloaded"})
        if self.path == "/generate":
            return self.whole(200, {"generated_text": "".join(WORDS)})
        usage = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}
        choice = {"index": 0, "logprobs": None}
        frame = {"object": "chat.completion.chunk", "id": "", "created": 0, "model": NAME, "system_fingerprint": "3"}
        if not body.get("stream"):
            told = {**choice, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "eos_token"}
            return self.whole(200, {**frame, "object": "chat.completion", "choices": [told], "usage": usage})
        told = [{**choice, "delta": {"role": "assistant", "content": word}, "finish_reason": None} for word in WORDS]
        told += [{**choice, "delta": {"role": "assistant", "content": ""}, "finish_reason": "eos_token"}]
        events = [{**frame, "choices": [each], "usage": None} for each in told]
        if "broken" in asked:
            events = [*events[:2], {"error": "Request failed during generation: CUDA OOM", "error_type": "generation"}]
        elif body.get("stream_options", {}).get("include_usage"):
            events.append({**frame, "choices": [], "usage": usage})
        # No space after the colon, as TGI writes it.
        self.stream([f"data:{json.dumps(each)}\n\n" for each in events] + ["data: [DONE]\n\n"])

    def stream(self, events: list[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def main() -> None:
    sys.stderr.write(f"INFO starting {PROGRAM} on {NAME}\n")
    sys.stderr.flush()
    if MODE == "dies":
        time.sleep(0.3)
        sys.exit("ValueError: The checkpoint you are trying to load has model type `clay`, which is not known.")
    if MODE == "memory":
        sys.stderr.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.\nbye\n")
        sys.stderr.flush()
        os.abort()
    host = FLAGS.get("host") or FLAGS.get("hostname") or "127.0.0.1"
    try:
        server = ThreadingHTTPServer((host, int(FLAGS["port"])), Handler)
    except OSError as error:
        sys.exit(f"OSError: [Errno {error.errno}] error while attempting to bind on address: address already in use")
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        sys.stderr.write("INFO shutting down\n")


if __name__ == "__main__":
    main()
