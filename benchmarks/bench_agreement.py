"""Does `vivace bench --url` measure what other load generators measure on the same server?

    python -m benchmarks.bench_agreement --folder bench-agreement
    python -m benchmarks.bench_agreement --url http://127.0.0.1:8000/v1 --model chatbot --concurrency 2

Without --url a server of known timing is started, so that the truth is known, too. servebench and aiperf are installed
into environments of their own below the folder. Each round runs all three in turn, in another order; told are the
medians over the rounds and by how much Vivace differs from each. Exit 1 where one is beyond the tolerance.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOOLS = {"servebench": "servebench==1.1.3", "aiperf": "aiperf==0.13.0"}
FIGURES = ("ttft_ms", "tpot_ms", "e2e_ms", "output_tokens_per_s")
Measured = dict[str, float]


def main() -> None:
    """Run all three in turn and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-agreement"))
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default="mock")
    parser.add_argument("--tokenizer", default="~/.cache/vivace/models/smollm2-135m-instruct", help="for aiperf")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--input-tokens", type=int, default=80)
    parser.add_argument("--output-tokens", type=int, default=32)
    parser.add_argument("--ttft-ms", type=float, default=200.0)
    parser.add_argument("--gap-ms", type=float, default=25.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--without", action="append", default=[], choices=sorted(TOOLS))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    others = {"servebench": _servebench, "aiperf": _aiperf}
    runners: dict[str, Callable[[argparse.Namespace, str], Measured]] = {"vivace": _vivace}
    runners |= {name: run for name, run in others.items() if name not in chosen.without}
    for name in runners.keys() & TOOLS.keys():
        _install(chosen.folder / name, TOOLS[name])
    with _server(chosen) as url:
        found: dict[str, list[Measured]] = {name: [] for name in runners}
        for number in range(chosen.rounds):
            names = list(runners)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                found[name].append(runners[name](chosen, url))
    told = _told(found, chosen)
    print(json.dumps(told, indent=2))
    sys.exit(0 if told["agrees"] else 1)


def _told(found: Mapping[str, list[Measured]], chosen: argparse.Namespace) -> dict[str, Any]:
    medians = {
        name: {figure: round(statistics.median(run[figure] for run in runs), 3) for figure in FIGURES}
        for name, runs in found.items()
    }
    truth = {} if chosen.url else {"ttft_ms": chosen.ttft_ms, "tpot_ms": chosen.gap_ms}
    differences = {
        name: {figure: round(medians["vivace"][figure] / value - 1, 4) for figure, value in medians[name].items()}
        for name in medians
        if name != "vivace"
    }
    worst = max(abs(value) for each in differences.values() for value in each.values())
    return {
        "medians": medians,
        "set_at_the_server": truth,
        "vivace_differs_by": differences,
        "worst": worst,
        "agrees": worst <= chosen.tolerance,
        "rounds": chosen.rounds,
        "requests": chosen.requests,
        "concurrency": chosen.concurrency,
    }


@contextmanager
def _server(chosen: argparse.Namespace) -> Iterator[str]:
    if chosen.url:
        yield chosen.url
        return
    command = [sys.executable, "-m", "tests.bench.mock_server"]
    command += ["--ttft-ms", str(chosen.ttft_ms), "--gap-ms", str(chosen.gap_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _install(folder: Path, requirement: str) -> None:
    if (folder / "installed").is_file():
        return
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", requirement], check=True)
    (folder / "installed").write_text(requirement)


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _vivace(chosen: argparse.Namespace, url: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [sys.executable, "-m", "vivace", "bench", folder, "-q", "--url", url]
        command += ["--model", chosen.model, "--ignore-eos", "--seed", str(time.time_ns() % 10**6)]
        command += ["--input-tokens", str(chosen.input_tokens), "--output-tokens", str(chosen.output_tokens)]
        command += ["--requests", str(chosen.requests), "--concurrency", str(chosen.concurrency)]
        _run([*command, "--out", folder])
        speed = json.loads((Path(folder) / "result.json").read_bytes())["row"]["speed"]
    return {
        "ttft_ms": speed["ttft"]["p50_ms"]["value"],
        "tpot_ms": speed["tpot"]["p50_ms"]["value"],
        "e2e_ms": speed["e2e"]["p50_ms"]["value"],
        "output_tokens_per_s": speed["output_tokens_per_s"],
    }


def _servebench(chosen: argparse.Namespace, url: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        command: list[str | Path] = [chosen.folder / "servebench" / "bin" / "servebench", "run", "--url", url]
        command += ["--model", chosen.model, "--no-gpu", "--concurrency", str(chosen.concurrency), "--out", out]
        command += ["--input-len", str(chosen.input_tokens), "--output-len", str(chosen.output_tokens)]
        _run([*command, "--num-requests", str(chosen.requests)])
        (level,) = json.loads(out.read_bytes())["levels"]
    good = [each for each in level["requests"] if each["ok"]]
    tokens = sum(each["output_tokens"] for each in good)
    return {
        "ttft_ms": statistics.median(each["ttft"] for each in good) * 1e3,
        "tpot_ms": statistics.median((each["e2e"] - each["ttft"]) / (each["output_tokens"] - 1) for each in good) * 1e3,
        "e2e_ms": statistics.median(each["e2e"] for each in good) * 1e3,
        "output_tokens_per_s": tokens / level["duration"],
    }


def _aiperf(chosen: argparse.Namespace, url: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [chosen.folder / "aiperf" / "bin" / "aiperf", "profile", "--model", chosen.model]
        command += ["--url", url.removesuffix("/v1"), "--endpoint-type", "chat", "--streaming", "--ui", "none"]
        command += ["--concurrency", str(chosen.concurrency), "--request-count", str(chosen.requests)]
        command += ["--synthetic-input-tokens-mean", str(chosen.input_tokens), "--synthetic-input-tokens-stddev", "0"]
        command += ["--output-tokens-mean", str(chosen.output_tokens), "--output-tokens-stddev", "0"]
        command += ["--extra-inputs", "ignore_eos:true", "--use-legacy-max-tokens", "--use-server-token-count"]
        command += ["--tokenizer", Path(chosen.tokenizer).expanduser(), "--warmup-request-count", "2"]
        _run([*command, "--output-artifact-dir", folder])
        found = json.loads((Path(folder) / "profile_export_aiperf.json").read_bytes())
    return {
        "ttft_ms": found["time_to_first_token"]["p50"],
        "tpot_ms": found["inter_token_latency"]["p50"],
        "e2e_ms": found["request_latency"]["p50"],
        "output_tokens_per_s": found["output_token_throughput"]["avg"],
    }


if __name__ == "__main__":
    main()
