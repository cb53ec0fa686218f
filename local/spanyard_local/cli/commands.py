"""All commands that this package has, in the order of `spanyard --help`."""

from spanyard_local.cli import (
    build_log,
    completion,
    deploy,
    export,
    login,
    logs,
    prune,
    quarantine,
    resources,
    signals,
    sql,
    top,
    traces,
)
from spanyard_local.cli.parser import Command

COMMANDS: list[Command] = [
    command
    for module in (
        deploy,
        resources,
        build_log,
        logs,
        traces,
        top,
        signals,
        quarantine,
        sql,
        export,
        prune,
        login,
        completion,
    )
    for command in module.COMMANDS
]
