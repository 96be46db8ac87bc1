"""What happens when a loss, a gradient or a weight is no finite number: back to the last good checkpoint, slower."""

from typing import Any

from vivace.errors import ModelError

MAX_ROLLBACKS = 2
SLOWER = 0.5


class DivergedError(ModelError):
    """A number of this step is not finite; `rolled_back` is how often training had been set back before."""

    def __init__(self, message: str, hint: str, step: int, rolled_back: int) -> None:
        super().__init__(message, hint)
        self.step, self.rolled_back = step, rolled_back


def diverged(step: int, learning_rate: float, rolled_back: int = 0, what: str = "loss") -> DivergedError:
    """Return the error that ends a run whose numbers are not finite any more."""
    tried = f" The rate was halved {rolled_back} times in this run." if rolled_back else ""
    return DivergedError(
        f"Training diverged: the {what} at step {step:,} is not a finite number.",
        f"Lower learning_rate in [train], now {learning_rate:g}.{tried}",
        step,
        rolled_back,
    )


def about_rolling_back(step: int, good: int, learning_rate: float) -> str:
    """Return the sentence that says so to the user."""
    where = f"the checkpoint of step {good:,}" if good else "the start"
    return (
        f"The numbers of step {step:,} are not finite: training goes back to {where} and on with half the learning "
        f"rate, {learning_rate:g}."
    )


def slow_down(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Multiply the learning rate of an optimizer and its schedule, from here to the end."""
    for group in optimizer.param_groups:
        group["lr"] *= factor
        group["initial_lr"] *= factor
    scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
    scheduler._last_lr = [rate * factor for rate in scheduler._last_lr]
