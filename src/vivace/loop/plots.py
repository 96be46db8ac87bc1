"""The report's plots, as Plotly figures in JSON."""

from typing import Any

from vivace.domain import Score, Scorecard, Speed

INK = "#1f2933"
COLORS = ("#9aa5b1", "#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c")
SHARES = (("token_f1", "token F1"), ("rouge_l", "ROUGE-L"), ("exact_match", "exact match"))


def training(history: list[dict[str, Any]]) -> str | None:
    """Return loss and token accuracy over training tokens, or None without history."""
    if not history:
        return None
    traces = [
        _line("training loss", history, "loss", COLORS[0], width=1),
        _line("validation loss", history, "validation_loss", COLORS[1], markers=True),
        _line("validation token accuracy", history, "validation_token_accuracy", COLORS[2], markers=True, axis="y2"),
    ]
    layout = {
        "xaxis": {"title": {"text": "training tokens"}},
        "yaxis": {"title": {"text": "loss (nats per token)"}},
        "yaxis2": {"title": {"text": "token accuracy"}, "overlaying": "y", "side": "right", "showgrid": False},
    }
    return figure([trace for trace in traces if trace["x"]], layout)


def quality(cards: list[Scorecard]) -> str | None:
    """Return the shares between 0 and 1 per candidate, each with its interval."""
    traces = []
    for number, card in enumerate(cards):
        scores = {score.metric: score for score in card.scores}
        shown = [(label, scores[metric]) for metric, label in SHARES if metric in scores]
        traces.append(_bars(card.candidate.name, shown, COLORS[number % len(COLORS)]))
    layout = {"barmode": "group", "yaxis": {"title": {"text": "score, with 95 % interval"}, "rangemode": "tozero"}}
    return figure(traces, layout) if cards else None


def latency(speeds: dict[str, Speed]) -> str | None:
    """Return the end-to-end latency per candidate at p50 and p95, each with its interval."""
    if not speeds:
        return None
    names = list(speeds)
    traces = []
    for label, attribute, color in (("p50", "p50_ms", COLORS[1]), ("p95", "p95_ms", COLORS[2])):
        scores = [getattr(speeds[name].e2e, attribute) for name in names]
        traces.append(_bars(label, list(zip(names, scores, strict=True)), color))
    return figure(traces, {"barmode": "group", "yaxis": {"title": {"text": "end to end, ms"}, "rangemode": "tozero"}})


def frontier(cards: list[Scorecard], metric: str) -> str | None:
    """Return size on disk against quality, one point a candidate."""
    traces = []
    for number, card in enumerate(cards):
        score = next((score for score in card.scores if score.metric == metric), None)
        if score is None:
            continue
        trace = {
            "type": "scatter",
            "mode": "markers+text",
            "name": card.candidate.name,
            "x": [card.size_bytes / 1e6],
            "y": [score.value],
            "text": [card.candidate.name],
            "textposition": "top center",
            "marker": {"size": 13, "color": COLORS[number % len(COLORS)]},
            "error_y": _error([score]),
        }
        traces.append(trace)
    layout = {
        "xaxis": {"title": {"text": "size on disk, MB"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": metric.replace("_", " ")}, "rangemode": "tozero"},
        "showlegend": False,
    }
    return figure(traces, layout) if traces else None


def _line(
    name: str,
    rows: list[dict[str, Any]],
    key: str,
    color: str,
    *,
    width: int = 2,
    markers: bool = False,
    axis: str = "y",
) -> dict[str, Any]:
    points = [(row["tokens"], row[key]) for row in rows if row.get(key) is not None]
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "name": name,
        "x": [x for x, _y in points],
        "y": [y for _x, y in points],
        "yaxis": axis,
        "line": {"color": color, "width": width},
    }


def _bars(name: str, scores: list[tuple[str, Score]], color: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": [label for label, _score in scores],
        "y": [score.value for _label, score in scores],
        "error_y": _error([score for _label, score in scores]),
        "marker": {"color": color},
    }


def _error(scores: list[Score]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [score.interval.high - score.value for score in scores],
        "arrayminus": [score.value - score.interval.low for score in scores],
        "color": INK,
        "thickness": 1,
    }


def figure(traces: list[dict[str, Any]], layout: dict[str, Any]) -> str:
    """Check a figure against Plotly's schema and return it as JSON."""
    from plotly.graph_objects import Figure

    style = {
        "template": "plotly_white",
        "font": {"family": "system-ui, sans-serif", "color": INK},
        "margin": {"l": 60, "r": 60, "t": 20, "b": 50},
        "height": 340,
        "legend": {"orientation": "h", "y": 1.12},
    }
    text: str = Figure(data=traces, layout=style | layout).to_json()
    return text
