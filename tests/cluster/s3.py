"""The cluster's bucket: a real S3 server on the node's bridge, one address for pods and tests."""

import http.client
import json

from tests.cluster import daemons
from tests.cluster.addresses import NODE_ADDRESS, Folders
from tests.fakes import s3_server

PORTS = {"master": 9333, "volume": 9340, "filer": 8888, "s3": 8333, "admin": 13646}
"""Fixed: the address is ours alone. gRPC of each is 10,000 above, which is below 32,768: from there on
Linux takes ports for connections, and the API server keeps some eighty to etcd at this address."""
BUCKET = s3_server.BUCKET
DAEMON = "s3"
ATTEMPTS = 3
"""It makes its bucket once, at its start; where that fails, silently, a second start does it."""
START_SECONDS = 30.0
"""Two are usual."""


def url(prefix: str = "", *, address: str = NODE_ADDRESS) -> str:
    """For `open_storage`, here and in a pod."""
    endpoint = f"http://{address}:{PORTS['s3']}"
    query = f"endpoint={endpoint}&region={s3_server.REGION}&listing=walk"
    return f"s3://{BUCKET}/{prefix}?{query}"


def environ() -> dict[str, str]:
    """The credentials, as a process finds them."""
    return {
        "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY,
        "AWS_REGION": s3_server.REGION,
    }


def start(folders: Folders, address: str = NODE_ADDRESS) -> None:
    """Its data goes with the cluster; stopped and started again it is kept."""
    folder = folders.run / "s3"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps(s3_server.identities()), "utf-8")
    ports = {**PORTS, **{f"{name}.grpc": port + 10_000 for name, port in PORTS.items()}}
    command = s3_server.command(folder, ports, address=address)
    for left in reversed(range(ATTEMPTS)):
        daemon = daemons.start(folders, DAEMON, command)
        try:
            daemons.wait_until(folders, daemon, lambda: answers(address), within=START_SECONDS)
        except RuntimeError:
            daemons.end(daemon)
            if not left:
                raise
        else:
            return


def stop(folders: Folders) -> None:
    daemon = daemons.find(folders, DAEMON)
    if daemon is not None:
        daemons.end(daemon)


def answers(address: str = NODE_ADDRESS) -> bool:
    """The bucket is there (403 to strangers), and there is room for objects."""
    return (
        _ask(address, "s3", "GET", f"/{BUCKET}/?list-type=2&max-keys=1")[0] == 403
        and _ask(address, "filer", "HEAD", f"/buckets/{BUCKET}/")[0] == 200
        and b'"fid"' in _ask(address, "master", "GET", f"/dir/assign?collection={BUCKET}")[1]
    )


def _ask(address: str, part: str, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, PORTS[part], timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
