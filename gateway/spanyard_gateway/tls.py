"""TLS of the gateway itself: the certificate's files, read again when they change."""

import logging
import ssl
from pathlib import Path

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError

log = logging.getLogger("spanyard.gateway")

LOOK_S = 30.0
"""A Secret's files change a minute after the Secret; certificates end weeks after their renewal."""


class Certificate:
    """A server's certificate and key, in a context that new connections use."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises SettingError when they cannot be used."""
        self._certificate, self._key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._state = self._load()

    def _load(self) -> tuple[tuple[int, int], ...]:
        try:
            state = self._look()
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(
                f"tls_cert: {self._certificate!r} with the key {self._key!r} cannot be used: "
                f"{error.strerror or error}"
            ) from error
        return state

    def _look(self) -> tuple[tuple[int, int], ...]:
        found = [Path(name).stat() for name in (self._certificate, self._key)]
        return tuple((one.st_mtime_ns, one.st_size) for one in found)

    async def keep_fresh(self, clock: Clock) -> None:
        """Read the files again when they change, for ever; what cannot be used is told and left."""
        while True:
            await clock.sleep(LOOK_S)
            try:
                if self._look() != self._state:
                    self._state = self._load()
                    log.info("the certificate was read again")
            except (OSError, SettingError) as error:
                log.warning("the certificate was not read again: %s", error)
