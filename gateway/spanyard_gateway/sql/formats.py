"""Formats in which a result may be asked for, and their media types.

Left out are those that read a file (Template, Protobuf, CapnProto) or ask an address
(AvroConfluent), and those of other wire protocols.
"""

from spanyard_gateway.sql.text import SqlRefusedError

_TYPES = {
    "application/json; charset=UTF-8": """
        JSON JSONStrings JSONCompact JSONCompactStrings JSONColumns JSONCompactColumns
        JSONColumnsWithMetadata JSONObjectEachRow PrettyJSONEachRow PrettyJSONLines PrettyNDJSON
        GeoJSON
    """,
    "application/x-ndjson; charset=UTF-8": """
        JSONEachRow JSONLines JSONL NDJSON JSONStringsEachRow JSONCompactEachRow
        JSONCompactEachRowWithNames JSONCompactEachRowWithNamesAndTypes JSONCompactStringsEachRow
        JSONCompactStringsEachRowWithNames JSONCompactStringsEachRowWithNamesAndTypes
        JSONEachRowWithProgress JSONStringsEachRowWithProgress JSONCompactEachRowWithProgress
        JSONCompactStringsEachRowWithProgress
    """,
    "text/csv; charset=UTF-8; header=absent": "CSV",
    "text/csv; charset=UTF-8; header=present": "CSVWithNames CSVWithNamesAndTypes",
    "text/tab-separated-values; charset=UTF-8": """
        TabSeparated TSV TabSeparatedRaw TSVRaw Raw TabSeparatedWithNames TSVWithNames
        TabSeparatedWithNamesAndTypes TSVWithNamesAndTypes TabSeparatedRawWithNames
        TSVRawWithNames RawWithNames TabSeparatedRawWithNamesAndTypes TSVRawWithNamesAndTypes
        RawWithNamesAndTypes TSKV
    """,
    "application/xml; charset=UTF-8": "XML",
    "text/markdown; charset=UTF-8": "Markdown MD",
    "text/plain; charset=UTF-8": """
        CustomSeparated CustomSeparatedWithNames CustomSeparatedWithNamesAndTypes LineAsString
        LineAsStringWithNames LineAsStringWithNamesAndTypes Null Pretty PrettyCompact
        PrettyCompactMonoBlock PrettyCompactNoEscapes PrettyCompactNoEscapesMonoBlock
        PrettyMonoBlock PrettyNoEscapes PrettyNoEscapesMonoBlock PrettySpace PrettySpaceMonoBlock
        PrettySpaceNoEscapes PrettySpaceNoEscapesMonoBlock SQLInsert Values Vertical Prometheus
    """,
    "application/octet-stream": """
        Native RowBinary RowBinaryWithNames RowBinaryWithNamesAndTypes RawBLOB Arrow ArrowStream
        Parquet ORC Avro MsgPack BSONEachRow Npy
    """,
}
_BY_NAME = {
    name.lower(): (name, media) for media, names in _TYPES.items() for name in names.split()
}


def known_format(name: str) -> tuple[str, str]:
    """The format's proper name and media type. Raises SqlRefusedError."""
    try:
        return _BY_NAME[name.lower()]
    except KeyError:
        raise SqlRefusedError(
            f"the format {name[:80]!r} is not available here; JSON, JSONEachRow, CSVWithNames, "
            "TabSeparatedWithNames, Native, Parquet and most others are"
        ) from None
