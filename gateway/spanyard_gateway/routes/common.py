"""What routes share: the project in the path, limits of a query."""

from typing import Any

from aiohttp import web

from spanyard_core.object_names import check_project
from spanyard_gateway.state import SETTINGS

PROJECT_PATH = {"id": "Id of the project, `{namespace}.{name}`."}


def project_of(request: web.Request) -> str:
    """The project in the path. Raises BadRecordError when it is not a project's id."""
    return check_project(request.match_info["id"])


def query_settings(request: web.Request) -> dict[str, Any]:
    """Bounds on time and memory that every query of a user runs with; it can only read."""
    settings = request.app[SETTINGS]
    return {
        "max_execution_time": settings.query_timeout,
        "max_memory_usage": settings.query_memory,
        "readonly": 2,
    }
