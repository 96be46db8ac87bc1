"""Everything about quality that a project brings itself: its graders and its own functions, read, checked and used."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from vivace.config.grader import GraderSettings
from vivace.domain import Example
from vivace.errors import ConfigError
from vivace.evaluate.answers import Answer
from vivace.evaluate.graders.asking import Examiner
from vivace.evaluate.graders.grading import Graded, check, extra_metrics, grade, models_asked, read_graders
from vivace.evaluate.graders.own import OwnMetric, own_digests, read_own
from vivace.evaluate.metric import Metric


class Brought(Struct, frozen=True):
    """The graders and functions of a project."""

    graders: tuple[GraderSettings, ...] = ()
    own: tuple[OwnMetric, ...] = ()

    @property
    def models(self) -> list[str]:
        """The names of the models that grade: what they are is an input of an evaluation."""
        return models_asked(self.graders)

    def asking(self, models: Iterable[str]) -> "Brought":
        """Return the same without graders that ask other models than these."""
        known = set(models)
        return Brought(tuple(each for each in self.graders if known.issuperset(models_asked([each]))), self.own)

    def check(self, examples: Sequence[Example]) -> None:
        """Raise `ConfigError` or `DataError`, before anything is asked, for what could never be graded."""
        check(self.graders, self.own, examples)

    async def grade(self, answers: Sequence[Answer], examiner: Examiner) -> Graded:
        """Give every answer its grades."""
        return await grade(answers, self.graders, self.own, examiner)

    def metrics(self, answers: Sequence[Answer]) -> list[Metric]:
        """Return the metrics of graded answers."""
        return extra_metrics(self.graders, self.own, answers)


def bring(graders: Sequence[GraderSettings], graders_file: str | None, own: Sequence[str], root: Path) -> Brought:
    """Read what a project brings; raises `ConfigError` for what cannot be read."""
    more = read_graders(_inside(graders_file, root)) if graders_file else []
    return Brought((*graders, *more), tuple(read_own(own, root)))


def brought_digests(graders_file: str | None, own: Sequence[str], root: Path) -> dict[str, str]:
    """Return the hash of every file that graders and functions come from, by its path; nothing in them is run."""
    digests = own_digests(own, root)
    if graders_file:
        file = _inside(graders_file, root)
        try:
            digests[graders_file] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"evaluate.graders_file: {file} cannot be read: {error.strerror}.") from error
    return digests


def _inside(path: str, root: Path) -> Path:
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ConfigError(f"evaluate.graders_file: {path!r} lies outside the project's folder {root}.")
    return file
