"""llama.cpp's own server out of xllamacpp, with the flags of `llama-server`: for machines without that program.

    python -m vivace.engines.launch.llamacpp_server --model FILE --port 8001

It ends with SIGINT or SIGTERM; the key is read from LLAMA_API_KEY.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Serve until a signal says stop."""
    wanted = _arguments().parse_args()
    if not wanted.model.is_file():
        sys.exit(f"There is no file {wanted.model}.")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(wanted.model), {wanted.alias}
    params.hostnames, params.port = [wanted.host], wanted.port
    params.n_ctx, params.n_parallel, params.use_jinja = wanted.ctx_size, wanted.parallel, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted.threads or len(os.sched_getaffinity(0))
    sampling = params.sampling
    sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p = (
        wanted.temp,
        wanted.top_k,
        wanted.top_p,
        wanted.min_p,
    )
    if key := os.environ.get("LLAMA_API_KEY"):
        params.api_keys = [key]
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    while not ended.wait(0.5):
        pass
    os._exit(0)  # its destructor waits for answers in work


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", default="model")
    parser.add_argument("--host", default="127.0.0.1")
    for name, default in (("port", 8001), ("ctx-size", 2048), ("parallel", 1), ("threads", 0), ("top-k", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, number in (("temp", 0.0), ("top-p", 1.0), ("min-p", 0.0)):
        parser.add_argument(f"--{name}", type=float, default=number)
    return parser


if __name__ == "__main__":
    main()
