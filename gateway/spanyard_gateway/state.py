"""What handlers find in the application: typed keys, resources opened and closed in order."""

from aiohttp import web

from spanyard_core.clock import Clock
from spanyard_core.storage import Storage
from spanyard_gateway.ingester_client import IngesterClient
from spanyard_gateway.metrics import GatewayMetrics
from spanyard_gateway.reader import Reader
from spanyard_gateway.sources import SourceFinder

READER = web.AppKey("reader", Reader)
STORAGE = web.AppKey("storage", Storage)
INGESTER = web.AppKey("ingester", IngesterClient)
CLOCK = web.AppKey("clock", Clock)
SOURCES = web.AppKey("sources", SourceFinder)
METRICS = web.AppKey("metrics", GatewayMetrics)
