"""Kubernetes' own programs on this machine as one cluster of one node."""

import http.client
import json
import ssl
import subprocess
from pathlib import Path

from tests.cluster import daemons
from tests.cluster.addresses import (
    API_PORT,
    DOMAIN,
    ETCD_PORT,
    NODE_ADDRESS,
    NODE_NAME,
    POD_NETWORK,
    SERVICE_NETWORK,
    Folders,
)
from tests.cluster.binaries import Binaries
from tests.cluster.certificates import Certificates

ROTATION = {
    "containerLogMaxSize": "1Mi",
    "containerLogMaxFiles": 3,
    "containerLogMonitorInterval": "3s",
}
"""Small and often, so that a test of seconds sees many rotations."""
VOLUMES = 30
"""Volumes that claims can bind to; nothing provisions more."""


def start_api(folders: Folders, binaries: Binaries, certificates: Certificates) -> None:
    """etcd and the API server."""
    start_etcd(folders, binaries)
    start_api_server(folders, binaries, certificates)


def start_etcd(folders: Folders, binaries: Binaries) -> None:
    client, peer = f"http://{NODE_ADDRESS}:{ETCD_PORT}", f"http://{NODE_ADDRESS}:{ETCD_PORT + 1}"
    daemons.start(
        folders,
        "etcd",
        [
            str(binaries.path("etcd")),
            f"--data-dir={folders.run / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync=true",  # it dies with the cluster
            "--log-level=warn",
        ],
    )


def start_api_server(folders: Folders, binaries: Binaries, certificates: Certificates) -> None:
    """Returns when it answers; also used to start it again in the middle of a test."""
    keys = certificates.key("service-accounts")
    daemon = daemons.start(
        folders,
        "kube-apiserver",
        [
            str(binaries.path("kube-apiserver")),
            f"--etcd-servers=http://{NODE_ADDRESS}:{ETCD_PORT}",
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={certificates.certificate('api')}",
            f"--tls-private-key-file={certificates.key('api')}",
            f"--client-ca-file={certificates.certificate('ca')}",
            f"--kubelet-client-certificate={certificates.certificate('api-to-kubelet')}",
            f"--kubelet-client-key={certificates.key('api-to-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
        ],
    )
    daemons.wait_until(folders, daemon, lambda: ready(certificates))


def ready(certificates: Certificates) -> bool:
    """The API server answers, as the administrator sees it."""
    trust = ssl.create_default_context(cafile=certificates.certificate("ca"))
    trust.load_cert_chain(certificates.certificate("admin"), certificates.key("admin"))
    connection = http.client.HTTPSConnection(NODE_ADDRESS, API_PORT, context=trust, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start_controllers(folders: Folders, binaries: Binaries, certificates: Certificates) -> None:
    """Controller manager and scheduler."""
    manager = certificates.kubeconfig("controller-manager")
    daemons.start(
        folders,
        "kube-controller-manager",
        [
            str(binaries.path("kube-controller-manager")),
            f"--kubeconfig={manager}",
            f"--authentication-kubeconfig={manager}",
            f"--authorization-kubeconfig={manager}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            f"--service-account-private-key-file={certificates.key('service-accounts')}",
            f"--root-ca-file={certificates.certificate('ca')}",
            "--use-service-account-credentials=true",
            # A killed node is told after 20 s instead of 40.
            "--node-monitor-grace-period=20s",
        ],
    )
    scheduler = certificates.kubeconfig("scheduler")
    daemons.start(
        folders,
        "kube-scheduler",
        [
            str(binaries.path("kube-scheduler")),
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
    )


def start_kubelet(folders: Folders, binaries: Binaries, certificates: Certificates) -> None:
    config = folders.run / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(folders, certificates), indent=1), "utf-8")
    daemons.start(
        folders,
        "kubelet",
        [
            str(binaries.path("kubelet")),
            f"--config={config}",
            f"--kubeconfig={certificates.kubeconfig('kubelet')}",
            f"--root-dir={folders.run / 'kubelet'}",
            f"--cert-dir={folders.run / 'kubelet-certificates'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ],
    )


def _kubelet_config(folders: Folders, certificates: Certificates) -> object:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{folders.socket}",
        "address": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": certificates.certificate("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": DOMAIN,
        # What a machine needs whose cgroups are not ours to arrange.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        # Without the second the kubelet of 1.34.4 ends by a nil pointer (doPodResizeAction, called by
        # SyncPod though nobody resizes) where cgroupsPerQOS is off and a pod was deleted by force.
        "featureGates": {"KubeletInUserNamespace": True, "InPlacePodVerticalScaling": False},
        "localStorageCapacityIsolation": False,
        # The disk is shared with others: neither images nor pods go because of their files.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        **ROTATION,
    }


def start_proxy(folders: Folders, binaries: Binaries, certificates: Certificates) -> None:
    daemons.start(
        folders,
        "kube-proxy",
        [
            str(binaries.path("kube-proxy")),
            f"--kubeconfig={certificates.kubeconfig('proxy')}",
            "--proxy-mode=nftables",
            f"--hostname-override={NODE_NAME}",
            f"--cluster-cidr={POD_NETWORK}",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
            # Those would need rights over the machine's kernel that a test should not have.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
    )


def start_dns(folders: Folders, coredns: Path, certificates: Certificates) -> None:
    """On the node, for its pods: Services by name, everything else from outside."""
    file = folders.run / "Corefile"
    kubeconfig = certificates.kubeconfig("dns")
    file.write_text(
        f"""
{DOMAIN}:53 in-addr.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} spanyard-test
        ttl 1
    }}
}}
.:53 {{
    bind {NODE_ADDRESS}
    errors
    cache 30
    forward . /etc/resolv.conf
}}
""",
        "utf-8",
    )
    daemons.start(folders, "coredns", [str(coredns), "-conf", str(file)])


def kubectl(binaries: Binaries, kubeconfig: Path, *arguments: str, given: str | None = None) -> str:
    """The output of the real kubectl. Raises RuntimeError with its error text."""
    done = subprocess.run(
        [str(binaries.path("kubectl")), f"--kubeconfig={kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        input=given,
    )
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def volumes(folders: Folders) -> str:
    """A default storage class without a provisioner, and volumes that its claims bind to."""
    made: list[object] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    terms = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}]
    for number in range(VOLUMES):
        place = folders.run / "volumes" / str(number)
        place.mkdir(parents=True)
        place.chmod(0o777)
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": "100Gi"},
                    "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "standard",
                    "local": {"path": str(place)},
                    "nodeAffinity": {
                        "required": {"nodeSelectorTerms": [{"matchExpressions": terms}]}
                    },
                },
            }
        )
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
