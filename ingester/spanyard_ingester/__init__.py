"""The ingester: objects in the bucket become rows in ClickHouse, each once."""
