"""What routes share: the project in the path."""

from aiohttp import web

from spanyard_core.object_names import check_project
from spanyard_gateway.hanging import Patience
from spanyard_gateway.state import CLOCK, SETTINGS

PROJECT_PATH = {"id": "Id of the project, `{namespace}.{name}`."}


def project_of(request: web.Request) -> str:
    """The project in the path. Raises BadRecordError when it is not a project's id."""
    return check_project(request.match_info["id"])


def patience_of(request: web.Request) -> Patience:
    """How long spans may be silent before they count as hung, from now."""
    settings = request.app[SETTINGS]
    return Patience(request.app[CLOCK].time_ns(), round(settings.hung_after * 10**9))
