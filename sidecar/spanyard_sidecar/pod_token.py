"""The token that the gateway knows this pod by: a projected one, which the kubelet renews in place."""

import time

KEPT_S = 60.0
"""Read again after so long: the kubelet renews it at 80 % of its hour."""


class PodToken:
    """Reads it from its file. Without a file nothing is shown to the gateway (a laptop's)."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._token = ""
        self._read_at = float("-inf")

    def headers(self, *, renew: bool = False) -> dict[str, str]:
        """For a request. `renew`: the last one was refused. Raises OSError naming the file."""
        if not self._file:
            return {}
        now = time.monotonic()  # how long a file is trusted: not a matter of the simulator
        if renew or now - self._read_at > KEPT_S:
            with open(self._file, encoding="ascii") as file:
                self._token = file.read().strip()
            self._read_at = now
        return {"Authorization": f"Bearer {self._token}"}
