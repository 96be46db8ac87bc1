"""Vivace: from a team's conversations to the fastest chatbot that is still right, and keeps it right."""

import os
import sys

__version__ = "0.1.0"

# No library below calls home. Importing openvino forks a process that reports to an analytics service unless its
# telemetry package cannot be imported; openvino and nncf then go on without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
