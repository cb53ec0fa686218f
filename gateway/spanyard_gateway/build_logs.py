"""The log of a build; read in core, because the laptop and the operator write it."""

from spanyard_core.build_log import BuildText, read_build_log

__all__ = ["BuildText", "read_build_log"]
