"""ClickHouse's HTTP protocol in front of the embedded engine, for Grafana, DBeaver and `curl`.

It lives beside the gateway and not in the laptop's package, because whoever composes gateway and
ingester over an embedded engine needs it: `spanyard up` today, an evaluation pod of the chart
later, whose image has no process runner. And it shares `spanyard_gateway.sql`, which decides what
may run, with the gateway's own `/sql`.
"""

from spanyard_gateway.front.app import DEFAULT_PORT, USER, FrontSettings, front_app
from spanyard_gateway.front.token import token_of

__all__ = ["DEFAULT_PORT", "USER", "FrontSettings", "front_app", "token_of"]
