"""Settings of `fetch` and `publish`: flags, `SPANYARD_…` variables; see docs/configuration.md."""

from dataclasses import dataclass

from spanyard_core.settings import refuse, setting

WHAT = "what is fetched, what is packed"
WHERE = "where"
RESULT = "what became of it"


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """Of `spanyard-sidecar fetch`."""

    source: str = setting(
        help="a repository's URL, the digest of an uploaded archive (sha256:…), or the key of an "
        "artifact in storage (builds/…)",
        required=True,
        group=WHAT,
    )
    revision: str = setting("HEAD", help="a branch, tag or commit of the repository", group=WHAT)
    digest: str = setting("", help="what an artifact has to have, sha256:…", group=WHAT)
    git_secret: str = setting(
        "",
        help="folder with a mounted Secret: username and password (or token), or ssh-privatekey "
        "and known_hosts",
        group=WHAT,
    )
    storage: str = setting(
        "",
        help="where archives and artifacts are: gateway+http://…, or a file://, s3:// or gs:// URL",
        group=WHERE,
    )
    gateway_token: str = setting(
        "",
        help="file with the token for a gateway+http:// storage; read anew for every request",
        group=WHERE,
    )
    into: str = setting(
        help="the folder to fill; made when it is not there", required=True, group=WHERE
    )
    sub_path: str = setting("", help="folder in the source that has to be there", group=WHAT)
    work: str = setting(
        "", help="folder for what is downloaded; none: beside the one to fill", group=WHERE
    )
    private: str = setting(
        "/tmp",  # noqa: S108 - a volume in memory in pods; what goes there has mode 0600
        help="folder for keys while git runs; in memory, in a pod",
        group=WHERE,
    )
    commit_file: str = setting("", help="file for the commit that was fetched", group=RESULT)
    termination_log: str = setting(
        "/dev/termination-log", help="file for the result; used when it is there", group=RESULT
    )

    def __post_init__(self) -> None:
        if self.is_artifact and not self.digest:
            raise refuse(self, "digest", "is needed for an artifact: nothing else says it is whole")
        if (self.is_archive or self.is_artifact) and not self.storage:
            raise refuse(self, "storage", "is needed for what lies in storage")

    @property
    def is_archive(self) -> bool:
        return self.source.startswith("sha256:")

    @property
    def is_artifact(self) -> bool:
        return self.source.startswith("builds/")


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """Of `spanyard-sidecar publish`."""

    storage: str = setting(
        help="where it goes: gateway+http://…, or a file://, s3:// or gs:// URL",
        required=True,
        group=WHERE,
    )
    gateway_token: str = setting(
        "",
        help="file with the token for a gateway+http:// storage; read anew for every request",
        group=WHERE,
    )
    artifact_key: str = setting(help="key of the artifact", required=True, group=WHERE)
    meta_key: str = setting("", help="key of the JSON about it; none: it is not made", group=WHERE)
    meta: str = setting("", help="what is known of the build already, a JSON object", group=WHAT)
    into: str = setting(help="the folder with the source", required=True, group=WHERE)
    sub_path: str = setting("", help="folder in the source that was built", group=WHAT)
    output: str = setting(
        ".", help="folder to pack, relative to the one that was built", group=WHAT
    )
    work: str = setting("", help="folder for the archive; none: beside the source", group=WHERE)
    commit_file: str = setting("", help="file with the commit that was fetched", group=RESULT)
    termination_log: str = setting(
        "/dev/termination-log", help="file for the result; used when it is there", group=RESULT
    )
