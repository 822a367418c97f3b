"""How many processors this process may use."""

import os


def usable_cpus() -> int:
    """The number of processors that it is bound to, where the system binds processes; else of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
