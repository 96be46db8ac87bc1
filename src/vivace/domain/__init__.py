"""The nouns: frozen, no I/O."""

from vivace.domain.artifact import Artifact, Kind, Model, ModelFormat, Origin
from vivace.domain.dataset import Example, Split
from vivace.domain.message import Conversation, FunctionCall, Message, Role, ToolCall
from vivace.domain.release import (
    Candidate,
    Latency,
    Objective,
    Reason,
    Release,
    Scorecard,
    Speed,
    Verdict,
)
from vivace.domain.request import (
    Chunk,
    Embedder,
    FinishReason,
    GreedyLikelihood,
    Layer,
    Likelihood,
    Request,
    Responder,
    Sampling,
    Usage,
)
from vivace.domain.score import Comparison, Interval, Score
from vivace.domain.trace import Trace
from vivace.domain.work import Progress, SilentProgress, Task, Workspace

__all__ = [
    "Artifact",
    "Candidate",
    "Chunk",
    "Comparison",
    "Conversation",
    "Embedder",
    "Example",
    "FinishReason",
    "FunctionCall",
    "GreedyLikelihood",
    "Interval",
    "Kind",
    "Latency",
    "Layer",
    "Likelihood",
    "Message",
    "Model",
    "ModelFormat",
    "Objective",
    "Origin",
    "Progress",
    "Reason",
    "Release",
    "Request",
    "Responder",
    "Role",
    "Sampling",
    "Score",
    "Scorecard",
    "SilentProgress",
    "Speed",
    "Split",
    "Task",
    "ToolCall",
    "Trace",
    "Usage",
    "Verdict",
    "Workspace",
]
