"""The proof that nothing is missing (I6)."""

from typing import Any

from aiohttp import web

from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.rights import READ, Across, InPath
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.items import Proof
from spanyard_gateway.params import Query
from spanyard_gateway.queries.proof import prove
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER, STORAGE, TENANTS


async def _all(request: web.Request, query: Query) -> Any:
    app = request.app
    sight = Caller.of(request).sight()
    tenants = await app[TENANTS].where(sight)
    return await prove(app[READER], app[STORAGE], None, tenants, sight)


async def _project(request: web.Request, query: Query) -> Any:
    app, project = request.app, project_of(request)
    proof = await prove(app[READER], app[STORAGE], project)
    if not proof.writers and not proof.gaps:
        # To say of nothing that it is complete would be a proof of a misspelt name.
        return problem(
            404,
            "No such project",
            f"Nothing is known of a project {project!r}: no record, no object, no loss. "
            "`/projects` lists those that have stored records.",
        )
    return proof


_TEXT = (
    "Per writer: expected, stored, quarantined, pending, missing, doubled; every told gap; writers "
    "without an end are open."
)
ENDPOINTS = [
    Endpoint(
        "GET",
        "/proof",
        "What is stored of everything",
        Proof,
        _all,
        "proof",
        _TEXT,
        check=Across((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/proof",
        "What is stored of a project",
        Proof,
        _project,
        "proof",
        _TEXT,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
        errors=(400, 404),
    ),
]
