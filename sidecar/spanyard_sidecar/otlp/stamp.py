"""Stamp: puts identity and number on lines, the last step before the log.

A number is settled at the append, when nothing can come in between any more; the lines were
encoded before, without. So a request's records are never kept as objects while they wait.
"""

import msgspec

from spanyard_core.clock import rfc3339
from spanyard_sidecar.model import Identity
from spanyard_sidecar.otlp.decode import Run


class Stamp:
    """Identity of one collector's OTLP records."""

    def __init__(self, identity: Identity) -> None:
        self._project = _json(identity.project)
        constant = {
            "uid": identity.uid,
            "deployment": identity.deployment,
            "build": identity.build,
            "pod": identity.pod,
            "stream": "otlp",
        }
        self._constant = b"".join(
            b',"%b":%b' % (name.encode(), _json(value)) for name, value in constant.items() if value
        )

    def pieces(
        self, runs: list[Run], *, writer: str, first: int, taken_ns: int, use_up: bool = False
    ) -> list[bytes]:
        """The runs' lines, numbered from `first`, each ending in a newline; one piece per run.

        With `use_up` the runs are taken away one by one, so that a large request is not in memory
        twice.
        """
        before = b',"project":%b,"writer":%b,"seq":' % (self._project, _json(writer))
        taken = b',"recordedAt":"%b"}\n' % rfc3339(taken_ns).encode()
        pieces: list[bytes] = []
        seq = first
        for i, run in enumerate(runs):
            service = b',"service":' + _json(run.service) if run.service else b""
            after = self._constant + service + taken
            parts: list[bytes] = []
            for body in run.bodies:
                parts += (body, before, b"%d" % seq, after)
                seq += 1
            pieces.append(b"".join(parts))
            if use_up:
                runs[i] = _USED
        return pieces


_USED = Run([], 0, "")


def _json(text: str) -> bytes:
    return msgspec.json.encode(text)
