"""What a build fetched, as its status tells it."""

import msgspec


class SourceStatus(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A commit, or an archive."""

    commit: str = ""
    """Of a folder that differs from its commit with `-dirty`."""
    subject: str = ""
    """The first line of the commit's message, at most 200 characters."""
    author: str = ""
    """A name without an address, at most 100 characters."""
    committed_at: str = ""
    """RFC 3339 in UTC."""
    digest: str = ""
    """Of an archive, `sha256:…`."""
