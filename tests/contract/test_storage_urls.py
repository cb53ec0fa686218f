"""Opening a storage: every URL works or is refused with what is wrong and what to do."""

from pathlib import Path

import pytest

from spanyard_core.errors import SettingError, StorageRefusedError
from spanyard_core.storage import open_storage

KEYS = {"access_key_id": "k", "secret_access_key": "s"}
TOKEN = {"bearer_token": "t"}


@pytest.mark.parametrize(
    ("url", "options", "shown"),
    [
        ("file:///var/lib/spanyard", {}, "file:///var/lib/spanyard"),
        ("file://localhost/var/lib/a%20b", {}, "file:///var/lib/a%20b"),
        ("s3://bucket", KEYS, "s3://bucket"),
        ("s3://bucket/a/b/?region=eu-west-1", KEYS, "s3://bucket/a/b"),
        (
            "s3://bucket/a%20b?endpoint=http://localhost:1&addressing=virtual",
            KEYS,
            "s3://bucket/a b",
        ),
        ("s3://bucket?endpoint=https://minio.example:9000/&listing=walk", KEYS, "s3://bucket"),
        ("s3://bucket?timeout=120&connect_timeout=2.5", KEYS, "s3://bucket"),
        ("gs://bucket/p", TOKEN, "gs://bucket/p"),
        ("gs://bucket/p?endpoint=http://127.0.0.1:1", {**TOKEN, "timeout": "5"}, "gs://bucket/p"),
    ],
)
async def test_a_url_opens(url: str, options: dict[str, str], shown: str) -> None:
    storage = open_storage(url, options=options)
    assert storage.url == shown
    await storage.close()


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("", {}, "unknown kind; use file:///absolute/path, s3://bucket/prefix"),
        ("/var/lib/spanyard", {}, "unknown kind"),
        ("http://bucket", {}, "unknown kind"),
        ("az://bucket", {}, "unknown kind"),
        ("file://relative/path", {}, "not an absolute path"),
        ("file:relative", {}, "not an absolute path"),
        ("file:///", {}, "root of the file system"),
        ("file:///a?region=x", {}, "parameter 'region', which is not known"),
        ("s3:///prefix", {}, "names no bucket"),
        ("s3://bucket?regoin=x", {}, "parameter 'regoin'.*known are: addressing, ca_file"),
        ("s3://bucket#p", {}, "'#'"),
        ("s3://bucket?endpoint=localhost:9000", {}, "endpoint 'localhost:9000' is no http"),
        ("s3://bucket?addressing=dns", {}, "addressing is 'dns'"),
        ("s3://bucket?listing=fast", {}, "listing is 'fast'"),
        ("s3://bucket?timeout=soon", {}, "timeout is 'soon'; give seconds"),
        ("s3://bucket?timeout=0", {}, "timeout is '0'; give seconds"),
        ("s3://bucket?connect_timeout=nan", {}, "connect_timeout is 'nan'; give seconds"),
        ("s3://bucket?ca_file=/no/such/file", {}, "ca_file '/no/such/file' cannot be read"),
        ("s3://bucket", {"bearer_token": "t"}, "option 'bearer_token', which is not known"),
        ("gs://bucket", {"region": "x"}, "option 'region'"),
        (
            "gs://bucket",
            {"application_credentials": "/no/such/file"},
            "gs://bucket cannot be opened",
        ),
    ],
)
def test_a_bad_url_is_refused(url: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        open_storage(url, options=options)


def test_a_bad_prefix_is_refused() -> None:
    with pytest.raises(StorageRefusedError, match=r"'\.\.'"):
        open_storage("s3://bucket/a/../b", options=KEYS)


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:hunter2@bucket/p",
        "gs://hunter2@bucket",
        "s3://bucket?secret_access_key=hunter2",
        "s3://bucket?session_token=hunter2&access_key_id=k",
        "gs://bucket?bearer_token=hunter2",
        "ftp://user:hunter2@host/x?password=hunter2",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(SettingError, match="cannot be opened"):
        open_storage(f"s3://bucket?ca_file={tmp_path}/ca.pem", options=KEYS)


async def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
    storage = open_storage("s3://bucket?region=eu-west-1")
    assert "of-the-environment" not in repr(storage) + storage.url
    await storage.close()
