"""How many files (and sockets) a process may open: as many as it may ask for."""

import resource


def allow_many() -> None:
    """For this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
