"""Types that several values of the chart share, and the settings that the chart sets itself."""

from typing import Any

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

DEFINITIONS: dict[str, Any] = {
    "any": {"type": "object"},
    "objects": {"type": "array", "items": {"type": "object"}},
    "strings": {"type": "object", "additionalProperties": {"type": "string"}},
    "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "replicas": {"type": "integer", "minimum": 0, "maximum": 20},
    "quantity": {"type": "string", "pattern": QUANTITY},
    "duration": {
        "type": ["string", "number"],
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d)?)+$",
        "minimum": 0,
    },
    "size": {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|[kKMGT]B|[KMGT]iB)?$",
        "minimum": 0,
    },
    "env": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "value": {"type": "string"},
                "valueFrom": {"type": "object"},
            },
        },
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            part: {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        {"type": "string", "pattern": QUANTITY},
                        {"type": "number", "minimum": 0},
                    ]
                },
            }
            for part in ("requests", "limits")
        },
    },
}

_GATEWAY = {
    "storage",
    "clickhouse",
    "ingester",
    "ingester_token",
    "listen",
    "port",
    "allow_remote",
    "same_user",
    "tls_cert",
    "tls_key",
    "auth",
    "signing_key",
    "kubernetes",
    "namespaces",
}
MANAGED: dict[str, set[str]] = {
    "spanyard_operator.settings:OperatorSettings": {
        "storage",
        "gateway",
        "kubeconfig",
        "context",
        "namespaces",
        "own_namespace",
        "listen",
        "port",
        "identity",
        "lease",
        "webhook_port",
        "webhook_service",
        "webhook_configuration",
        "sidecar_image",
        "image_pull_policy",
    },
    "spanyard_ingester.settings:IngesterSettings": {
        "storage",
        "clickhouse",
        "temp_dir",
        "listen",
        "port",
        "allow_remote",
        "token",
        "owner",
        "shard",
        "lease",
        "lease_name",
        "lease_namespace",
        "lease_address",
    },
    "spanyard_gateway.settings:GatewaySettings": _GATEWAY,
    "spanyard_local.evaluation.settings:ServerSettings": _GATEWAY | {"data"},
}
"""Settings that other values stand for, or that must be what the chart's objects say."""
