"""Other people's servers for our models: how they are started, and what a folder must hold for them."""

from vivace.engines.launch.containers import containerize
from vivace.engines.launch.folder import Checked, check_folder, collect
from vivace.engines.launch.running import Running, free_port, launch, stop
from vivace.engines.launch.servers import SERVERS, Launch, Wishes, plan

__all__ = [
    "SERVERS",
    "Checked",
    "Launch",
    "Running",
    "Wishes",
    "check_folder",
    "collect",
    "containerize",
    "free_port",
    "launch",
    "plan",
    "stop",
]
