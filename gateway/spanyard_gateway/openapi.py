"""The OpenAPI 3.1 document, made from the endpoints, so that it cannot say anything else."""

import re
from typing import Any

import msgspec

from spanyard_core import __version__
from spanyard_gateway.auth.rights import Public
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.params import ALL_PARAMS, ATTRIBUTE_HELP

_REF = "#/components/schemas/{name}"

_PROBLEM = {
    "type": "object",
    "description": "An error by RFC 9457.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "What kind of error."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do."},
        "at": {
            "type": "object",
            "description": "Of a query `q`: its characters at fault, counted in UTF-16 units.",
            "required": ["start", "end"],
            "properties": {"start": {"type": "integer"}, "end": {"type": "integer"}},
        },
        "errors": {
            "type": "array",
            "description": "Of a resource: each wrong field.",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}
_ERRORS = {
    400: "A parameter is wrong; `detail` names it.",
    401: "Nobody is signed in, where the gateway asks who you are.",
    403: "You have not the right; `detail` names it and the namespace.",
    404: "There is no such thing.",
    409: "Not possible in its present state.",
    413: "The body is larger than this gateway takes.",
    415: "A POST without a body that a web page of another site could not send.",
    422: "A resource is not valid; `errors` names each wrong field.",
    501: "This gateway keeps no resources, or cannot do this.",
    502: "The ingester refused or did not answer.",
    503: "ClickHouse, the storage or the ingester is away; try again after `Retry-After` seconds.",
}
_TYPES = (str, int, float, bool, bytes, dict, list, type(None))


def openapi_document(endpoints: list[Endpoint], *, base_path: str = "") -> dict[str, Any]:
    """The document for the endpoints that are not internal."""
    public = [e for e in endpoints if not e.internal]
    types = {t for e in public for t in _named_types(e)}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda t: t.__name__), ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in public:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spanyard",
            "version": __version__,
            "description": "Logs, traces, metrics and scores of agent servers, and the proof of "
            "what is stored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(e.tag for e in public)],
        "paths": paths,
        "servers": [{"url": base_path or "/"}],
        "security": [{"bearer": []}, {"session": []}, {}],
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Kubernetes token.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "spanyard-session",
                    "description": "Set by `/login`; behind TLS with the prefix `__Host-`.",
                },
            },
        },
    }


def _named_types(endpoint: Endpoint) -> list[type]:
    answer = endpoint.answer.item if isinstance(endpoint.answer, PageOf) else endpoint.answer
    return [t for t in (answer, endpoint.body) if isinstance(t, type) and t not in _TYPES]


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in endpoint.path_params.items()
    ]
    parameters += [
        {
            "name": p.name,
            "in": "query",
            "required": p.required,
            "description": p.description,
            "schema": dict(p.schema),
        }
        for p in (ALL_PARAMS[name] for name in endpoint.params)
    ]
    if endpoint.attributes:
        parameters.append(
            {
                "name": "attributes",
                "in": "query",
                "required": False,
                "description": ATTRIBUTE_HELP,
                "style": "form",
                "explode": True,
                "schema": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "propertyNames": {"pattern": r"^attr\..+"},
                },
            }
        )
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": {
            "200": {
                "description": endpoint.summary,
                "content": {
                    kind: {"schema": _schema(endpoint.answer)} for kind in endpoint.media_types
                },
            },
            **{
                str(status): {
                    "description": _ERRORS[status],
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
                for status in sorted(
                    {
                        *endpoint.errors,
                        503,
                        *([404] if endpoint.path_params else []),
                        *([] if endpoint.check in {None, Public()} else [401, 403]),
                        *([415] if endpoint.method == "POST" else []),
                    }
                )
            },
        },
    }
    told = [endpoint.description, endpoint.check.text() if endpoint.check else ""]
    if any(told):
        operation["description"] = " ".join(text for text in told if text)
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {
                "application/octet-stream" if endpoint.body is bytes else "application/json": {
                    "schema": _schema(endpoint.body)
                }
            },
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"[A-Za-z]+", re.sub(r"\{[^}]*\}", " one ", endpoint.path))
    return endpoint.method.lower() + "".join(w.capitalize() for w in words)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _schema(answer: Any) -> dict[str, Any]:
    if isinstance(answer, PageOf):
        return {
            "type": "object",
            "required": ["items", "nextCursor"],
            "properties": {
                "items": {"type": "array", "items": _ref(answer.item.__name__)},
                "nextCursor": {
                    "type": ["string", "null"],
                    "description": "Send it as `cursor` for the next page; null on the last.",
                },
            },
        }
    if answer is str:
        return {"type": "string"}
    if answer is bytes:
        return {"type": "string", "format": "binary"}
    if answer is dict:
        return {"type": "object"}
    return _ref(answer.__name__)
