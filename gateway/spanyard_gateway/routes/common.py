"""What routes share: the project in the path."""

from aiohttp import web

from spanyard_core.object_names import check_project

PROJECT_PATH = {"id": "Id of the project, `{namespace}.{name}`."}


def project_of(request: web.Request) -> str:
    """The project in the path. Raises BadRecordError when it is not a project's id."""
    return check_project(request.match_info["id"])
