"""What every part of Spanyard shares: records, object names, storage, ClickHouse, settings, seams."""

__version__ = "0.1.0"
