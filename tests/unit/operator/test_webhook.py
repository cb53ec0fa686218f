"""The webhook's patch and its certificate, by value."""

import copy
import datetime as dt
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from spanyard_operator.pod.collector import CollectorOptions
from spanyard_operator.webhook.certificates import RENEW_DAYS, VALID_DAYS, made
from spanyard_operator.webhook.patch import (
    NotCollectedError,
    Operation,
    additions,
    asked,
    asks,
    warnings,
)

OPTIONS = CollectorOptions(image="i", storage="gateway+http://g", gateway="http://g")


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "generateName": "web-7d9c8b6f5-",
            "annotations": {"spanyard.dev/collect": "true", "spanyard.dev/project": "shop"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
    }


def patched(document: dict[str, Any], operations: list[Operation]) -> dict[str, Any]:
    """RFC 6902, as far as the patch uses it: `add`."""
    document = copy.deepcopy(document)
    for operation in operations:
        assert operation["op"] == "add", "it only adds"
        *path, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        target: Any = document
        for part in path:
            target = target[int(part) if isinstance(target, list) else part]
        if isinstance(target, list):
            target.insert(len(target) if last == "-" else int(last), operation["value"])
        else:
            assert last not in target, "nothing is replaced"
            target[last] = operation["value"]
    return document


def observed(document: dict[str, Any], capture: Any = "hostPath") -> dict[str, Any]:
    return patched(document, additions(document, asked(document, "team"), OPTIONS, capture))


def test_a_bare_pod_gets_a_collector_and_its_containers_know_where_it_is() -> None:
    made_ = observed(pod())
    (collector,) = made_["spec"]["initContainers"]
    assert collector["name"] == "spanyard-collector"
    environment = {one["name"]: one.get("value") for one in collector["env"]}
    assert environment["SPANYARD_PROJECT"] == "team.shop"
    assert environment["SPANYARD_DEPLOYMENT"] == "web"
    (app,) = made_["spec"]["containers"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in {one["name"] for one in app["env"]}
    assert made_["metadata"]["labels"] == {"spanyard.dev/project": "shop"}
    assert made_["metadata"]["annotations"]["spanyard.dev/collector"] == "hostPath"
    volumes = {volume["name"] for volume in made_["spec"]["volumes"]}
    assert {mount["name"] for mount in collector["volumeMounts"]} == volumes


def test_what_is_there_stays_and_the_collector_comes_first() -> None:
    before = pod(
        initContainers=[{"name": "migrate", "env": [{"name": "OTEL_SERVICE_NAME", "value": "m"}]}],
        volumes=[{"name": "data", "emptyDir": {}}],
        terminationGracePeriodSeconds=60,
    )
    before["metadata"]["labels"] = {"app.kubernetes.io/name": "Web_1", "app": "web"}
    after = observed(before, "api")
    names = [one["name"] for one in after["spec"]["initContainers"]]
    assert names == ["spanyard-collector", "migrate"]
    migrate = after["spec"]["initContainers"][1]
    assert [one for one in migrate["env"] if one["name"] == "OTEL_SERVICE_NAME"] == [
        {"name": "OTEL_SERVICE_NAME", "value": "m"}
    ]
    assert after["spec"]["volumes"][0] == {"name": "data", "emptyDir": {}}
    assert after["metadata"]["labels"]["app"] == "web"
    environment = {
        one["name"]: one.get("value") for one in after["spec"]["initContainers"][0]["env"]
    }
    assert environment["SPANYARD_GRACE"] == "58s"


def test_a_second_time_it_adds_nothing() -> None:
    assert asks(pod())
    assert not asks(observed(pod()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spanyard.dev/project": ""}, "names no project"),
        ({"spanyard.dev/project": "Not A Name"}, "spanyard.dev/project"),
        ({"spanyard.dev/capture": "magic"}, "neither hostPath nor api"),
    ],
)
def test_who_asks_wrongly_is_told_what_is_wrong(change: dict[str, str], said: str) -> None:
    wrong = pod()
    wrong["metadata"]["annotations"].update(change)
    with pytest.raises(NotCollectedError, match=said):
        asked(wrong, "team")


def test_a_pod_on_the_nodes_network_is_left_alone() -> None:
    with pytest.raises(NotCollectedError, match="node's network"):
        asked(pod(hostNetwork=True), "team")


def test_a_port_that_is_taken_is_told() -> None:
    taken = pod(containers=[{"name": "app", "ports": [{"containerPort": 4318}]}])
    assert "4318" in warnings(taken)[0]


class TestCertificates:
    NOW = datetime(2026, 11, 21, tzinfo=UTC)
    HOST = "spanyard-operator.spanyard.svc"

    def test_one_is_renewed_in_time_and_the_authority_before_stays_for_a_while(self) -> None:
        first = made(self.HOST, self.NOW)
        assert first.fits(self.HOST, self.NOW)
        assert not first.fits("other.spanyard.svc", self.NOW)
        late = self.NOW + dt.timedelta(days=VALID_DAYS - RENEW_DAYS + 1)
        assert not first.fits(self.HOST, late)
        second = made(self.HOST, late, before=first.bundle)
        third = made(self.HOST, late, before=second.bundle)
        bundles = [x509.load_pem_x509_certificates(one.bundle) for one in (first, second, third)]
        assert [len(one) for one in bundles] == [1, 2, 2]
        assert bundles[1][1] == bundles[0][0]
        assert bundles[2][1] == bundles[1][0]

    def test_python_trusts_the_certificate_by_the_bundle(self, tmp_path: Any) -> None:
        pair = made(self.HOST, datetime.now(UTC))
        (tmp_path / "crt").write_bytes(pair.certificate)
        (tmp_path / "key").write_bytes(pair.key)
        server, client = (
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            ssl.create_default_context(cadata=pair.bundle.decode()),
        )
        server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = server.wrap_bio(to_server, to_client, server_side=True)
        theirs = client.wrap_bio(to_client, to_server, server_hostname=self.HOST)
        done: set[Any] = set()
        for _ in range(10):
            for side in (theirs, ours):
                if side not in done:
                    try:
                        side.do_handshake()
                        done.add(side)
                    except ssl.SSLWantReadError:
                        pass
        assert len(done) == 2
