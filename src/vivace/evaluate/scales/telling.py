"""What a curve says, in sentences."""

from vivace.evaluate.scales.saturation import FEWEST, Estimate, Fitted, Saturation


def tell(found: Saturation) -> list[str]:
    """Say what size does to the metric, what a curve through the sizes shows, and how far it can be trusted."""
    name = found.metric.replace("_", " ")
    if found.slope is None:
        return [f"{name} over {found.axis}: all models have the same size, there is nothing to compare."]
    trend = f"each doubling of {found.axis} changes {name} by {_with(found.slope)}, p = {found.p_value:.3g}"
    if found.verdict == "few":
        sizes = len({point.size for point in found.points})
        return [
            f"{name} over {found.axis}: {sizes} sizes are too few for a curve, which needs {FEWEST}; in the mean "
            f"{trend}."
        ]
    if found.verdict == "flat":
        return [
            f"{name} over {found.axis}: no growth is shown ({trend}). With {found.count} questions, less than "
            f"{found.detectable:.3f} from the smallest to the largest cannot be seen."
        ]
    if found.verdict == "falls":
        return [f"{name} over {found.axis}: more of it is not better here, {trend}. No curve is fitted."]
    assert found.fitted is not None
    return [f"{name} grows with {found.axis}: {trend}.", *_curve(found, found.fitted)]


def _curve(found: Saturation, fitted: Fitted) -> list[str]:
    name = found.metric.replace("_", " ")
    low, high = found.points[0].size, found.points[-1].size
    knee = fitted.knee
    least = f"doubling brings less than {knee.least:g}"
    bounds = f"[{_end(knee.interval.low, low, high)}, {_end(knee.interval.high, low, high)}]"
    if knee.reach == "below":
        told = f"Already from the smallest size on, {least}: {bounds}."
    elif knee.reach == "beyond":
        told = f"Within the sizes measured, doubling always brings {knee.least:g} or more; the bend is {bounds}."
    else:
        told = f"From {size(knee.size)} on, {least}: {bounds}."
    if knee.interval.low <= low and knee.interval.high >= high:
        told += " That is all that was measured: these questions do not tell where growth stops paying."
    sentences = [f"The curve ends at {name} {_with(fitted.limit)}, exponent {_with(fitted.exponent)}. {told}"]
    error = fitted.prediction.error
    trust = f"Each size foretold from the others is off by {_with(error)} in the mean"
    if error.value >= fitted.prediction.by_mean:
        trust += (
            f", no better than the mean of the others ({fitted.prediction.by_mean:.3f}): the curve foretells nothing"
        )
    else:
        trust += f" (their mean is off by {fitted.prediction.by_mean:.3f})"
    sentences.append(f"{trust}.")
    if fitted.scatter:
        sentences.append(
            f"The sizes miss the curve by {fitted.scatter:.3f} more than their questions explain (p = "
            f"{fitted.misfit_p:.2g}): something else than size differs between them. The intervals count that."
        )
    return sentences


def size(value: float) -> str:
    """Return a size as people say it: 135 M, 1.5 B, 0.42."""
    for factor, letter in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:,.3g}{letter}"
    return f"{value:,.3g}"


def _end(value: float, low: float, high: float) -> str:
    if value <= low:
        return f"{size(low)} or less"
    return f"{size(high)} or more" if value >= high else size(value)


def _with(found: Estimate) -> str:
    return f"{found.value:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]"
