"""`spanyard-server`: gateway, ingester and embedded ClickHouse in one pod, to try Spanyard out."""
