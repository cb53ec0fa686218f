"""The test cluster's network on this machine: a bridge for the node, one for pods, NAT outwards."""

import json
import subprocess
from pathlib import Path

from tests.cluster.addresses import (
    NAT_TABLE,
    NODE_ADDRESS,
    NODE_BRIDGE,
    POD_BRIDGE,
    POD_NETWORK,
    Folders,
)

CNI_PROGRAMS = ("/usr/lib/cni", "/opt/cni/bin")
SWITCHES = {
    "/proc/sys/net/ipv4/ip_forward": "1",
    # Two pods of one node talk over the bridge: their packets to a Service must be translated.
    "/proc/sys/net/bridge/bridge-nf-call-iptables": "1",
}
PROXY_TABLE = "kube-proxy"
"""Of kube-proxy in nftables mode, for each family."""


def run(*command: str, check: bool = True, given: str | None = None) -> str:
    """The output of a short command; its error text is in the exception."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=given)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout}")
    return done.stdout


def cni_programs() -> str:
    for place in CNI_PROGRAMS:
        if (Path(place) / "bridge").exists():
            return place
    return ""


def make(folders: Folders) -> None:
    """Everything but what the CNI plugins make with the first pod."""
    for switch, value in SWITCHES.items():
        if Path(switch).exists():
            Path(switch).write_text(value, "ascii")
    run("ip", "link", "add", NODE_BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", NODE_BRIDGE)
    run("ip", "link", "set", NODE_BRIDGE, "up")
    # One table of ours instead of the plugin's rules per pod: a killed cluster leaves one thing.
    rules = f"""
        table ip {NAT_TABLE} {{
            chain outwards {{
                type nat hook postrouting priority srcnat;
                ip saddr {POD_NETWORK} ip daddr != {POD_NETWORK} masquerade
            }}
        }}
    """
    run("nft", "-f", "-", given=rules)
    (folders.run / "cni").mkdir(exist_ok=True)
    (folders.run / "cni" / "10-spanyard.conflist").write_text(json.dumps(_cni(folders)), "utf-8")


def remove() -> None:
    """What `make`, the CNI plugins and kube-proxy made. Nothing there: nothing done."""
    for bridge in (NODE_BRIDGE, POD_BRIDGE):
        run("ip", "link", "delete", bridge, check=False)
    for family, table in (("ip", NAT_TABLE), ("ip", PROXY_TABLE), ("ip6", PROXY_TABLE)):
        run("nft", "delete", "table", family, table, check=False)


def _cni(folders: Folders) -> object:
    return {
        "cniVersion": "0.4.0",
        "name": "spanyard",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "mtu": _mtu(),
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folders.run / "addresses"),
                    "ranges": [[{"subnet": POD_NETWORK}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def _mtu() -> int:
    """That of the way out: a pod with a larger one loses long packets."""
    routes = json.loads(run("ip", "-json", "route", "show", "default") or "[]")
    if not routes:
        return 1500
    return int(json.loads(run("ip", "-json", "link", "show", routes[0]["dev"]))[0]["mtu"])
