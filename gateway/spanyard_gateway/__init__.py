"""The gateway: REST over ClickHouse and the bucket."""
