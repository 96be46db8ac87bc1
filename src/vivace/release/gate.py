"""The gate: the cheapest candidate that meets the objective, or a refusal with the nearest miss."""

from vivace.domain import Objective, Reason, Score, Scorecard, Speed, Verdict
from vivace.domain.release import SERVICE_LEVELS
from vivace.errors import ReleaseRefused


def judge(scorecards: list[Scorecard], objective: Objective) -> list[Verdict]:
    """Return a verdict per scorecard that is not a baseline, in the same order."""
    contenders = [card for card in scorecards if card.candidate.role != "baseline"]
    qualities = [score.value for card in contenders if (score := find_score(card, objective.quality_metric))]
    best = max(qualities, default=0.0)
    return [_judge_one(card, objective, best) for card in contenders]


def choose(scorecards: list[Scorecard], verdicts: list[Verdict]) -> Scorecard:
    """Return the accepted scorecard that answers the most requests per second; raises `ReleaseRefused`."""
    accepted = {verdict.candidate for verdict in verdicts if verdict.accepted}
    cards = [card for card in scorecards if card.candidate.name in accepted]
    if not cards:
        raise ReleaseRefused(*_refusal(verdicts))
    return max(cards, key=_requests_per_s)


def find_score(card: Scorecard, metric: str) -> Score | None:
    """Return a card's score of this metric, if it was measured."""
    return next((score for score in card.scores if score.metric == metric), None)


def _requests_per_s(card: Scorecard) -> float:
    return card.speed.requests_per_s if card.speed else 0.0


def _judge_one(card: Scorecard, objective: Objective, best: float) -> Verdict:
    reasons = [*_quality_reasons(card, objective, best), *card.findings, *_speed_reasons(card.speed, objective)]
    if objective.max_size_bytes is not None:
        reasons.append(_at_most("size", card.size_bytes / 1e6, objective.max_size_bytes / 1e6, "MB"))
    return Verdict(card.candidate.name, all(reason.met for reason in reasons), tuple(reasons))


def _quality_reasons(card: Scorecard, objective: Objective, best: float) -> list[Reason]:
    metric = objective.quality_metric
    score = find_score(card, metric)
    if score is None:
        return [Reason(f"{metric} is known", False, "it was not measured", 1.0)]
    reasons = []
    if objective.must_beat_base:
        found = next((item for item in card.comparisons if item.metric == metric), None)
        if found is None:
            reasons.append(Reason("better than the base", False, "it was not compared with the base", 1.0))
        else:
            low, high = found.interval.low, found.interval.high
            detail = f"{metric} {found.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {found.p_adjusted:.4f}"
            met = found.outcome == "better"
            shortfall = 0.0 if met else max(0.0, -low) / max(best, 1e-9)
            reasons.append(Reason("better than the base", met, detail, shortfall))
    floor = best * (1 - objective.max_degradation)
    met = score.value >= floor
    reasons.append(
        Reason(
            f"at most {objective.max_degradation:.0%} below the best candidate",
            met,
            f"{metric} {score.value:.3f}, at least {floor:.3f} wanted",
            0.0 if met else (floor - score.value) / max(floor, 1e-9),
        )
    )
    return reasons


def _speed_reasons(speed: Speed | None, objective: Objective) -> list[Reason]:
    ttft, tpot = limits(objective)
    wanted = ttft is not None or tpot is not None or objective.max_memory_bytes is not None
    if speed is None:
        return [Reason("speed is known", False, "it was not measured", 1.0)] if wanted else []
    reasons = []
    if speed.failed:
        reasons.append(
            Reason("no request fails", False, f"{speed.failed} of {speed.completed + speed.failed} failed", 1.0)
        )
    if ttft is not None:
        reasons.append(_at_most("p95 time to the first token", speed.ttft.p95_ms.value, ttft, "ms"))
    if tpot is not None:
        reasons.append(_at_most("p95 time per output token", speed.tpot.p95_ms.value, tpot, "ms"))
    if objective.max_memory_bytes is not None:
        reasons.append(_at_most("peak memory", speed.peak_memory_bytes / 1e6, objective.max_memory_bytes / 1e6, "MB"))
    return reasons


def limits(objective: Objective) -> tuple[float | None, float | None]:
    """Return the p95 limits in ms of the first token and of each further one; None where there is none."""
    if objective.service_level == "none":
        return objective.ttft_ms, objective.tpot_ms
    ttft, tpot = SERVICE_LEVELS[objective.service_level]
    return objective.ttft_ms or ttft, objective.tpot_ms or tpot


def _at_most(what: str, value: float, limit: float, unit: str) -> Reason:
    met = value <= limit
    detail = f"{value:,.0f} {unit}, at most {limit:,.0f} {unit} wanted"
    return Reason(f"{what} at most {limit:,.0f} {unit}", met, detail, 0.0 if met else value / limit - 1)


def _refusal(verdicts: list[Verdict]) -> tuple[str, str]:
    if not verdicts:
        return "There is no candidate to release.", "Name at least one export in [compress] exports."
    nearest = min(
        verdicts, key=lambda verdict: (sum(not r.met for r in verdict.reasons), sum(r.miss for r in verdict.reasons))
    )
    misses = "; ".join(f"{reason.requirement} ({reason.detail})" for reason in nearest.reasons if not reason.met)
    return (
        f"No candidate meets the objective. The nearest is {nearest.candidate}, which misses: {misses}.",
        "Change [release] in vivace.toml, or train longer, on more data, or export smaller weights.",
    )
