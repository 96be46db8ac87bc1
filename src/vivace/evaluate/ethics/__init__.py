"""Did tuning and compressing make the chatbot less fair, less safe or leaky? Probes, figures, limits."""

from vivace.evaluate.ethics.asking import Heard
from vivace.evaluate.ethics.figures import Finding
from vivace.evaluate.ethics.inventory import Finder, Secret, by_line, find_secrets
from vivace.evaluate.ethics.plan import Plan, make_plan
from vivace.evaluate.ethics.probing import load_heard, make_report, probe, probe_on
from vivace.evaluate.ethics.report import EthicsReport, load_ethics, markdown, summary, write_ethics
from vivace.evaluate.ethics.signals import Signals, detect_refusal
from vivace.evaluate.ethics.verdict import reasons

__all__ = [
    "EthicsReport",
    "Finder",
    "Finding",
    "Heard",
    "Plan",
    "Secret",
    "Signals",
    "by_line",
    "detect_refusal",
    "find_secrets",
    "load_ethics",
    "load_heard",
    "make_plan",
    "make_report",
    "markdown",
    "probe",
    "probe_on",
    "reasons",
    "summary",
    "write_ethics",
]
