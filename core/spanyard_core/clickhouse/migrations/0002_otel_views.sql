-- Version 2: views with the names and columns of OpenTelemetry's ClickHouse exporter (from 0.151),
-- so that Grafana's ClickHouse data source works in its OpenTelemetry mode, unmodified.
--
-- `Timestamp` is the only time column of logs and traces: Grafana filters by `TimestampTime` where
-- it sees one, and ours would be no sort column. `project` is extra, for filters by tenant.
-- Ended spans only; attributes are read from the JSON, whole.

CREATE OR REPLACE VIEW otel_logs $on_cluster AS
SELECT
    timestamp AS Timestamp,
    trace_id AS TraceId,
    span_id AS SpanId,
    toUInt8(0) AS TraceFlags,
    CAST(upper(level), 'LowCardinality(String)') AS SeverityText,
    CAST(
        transform(level, ['debug', 'info', 'warn', 'error', 'fatal'], [5, 9, 13, 17, 21], 0), 'UInt8'
    ) AS SeverityNumber,
    if(notEmpty(service), service, deployment) AS ServiceName,
    message AS Body,
    CAST('', 'LowCardinality(String)') AS ResourceSchemaUrl,
    CAST(
        mapUpdate(
            mapFilter(
                (k, v) -> notEmpty(v),
                map(
                    'service.name', toString(if(notEmpty(service), service, deployment)),
                    'k8s.namespace.name', splitByChar('.', toString(project))[1],
                    'k8s.deployment.name', toString(deployment),
                    'k8s.pod.name', toString(pod),
                    'k8s.container.name', toString(container),
                    'log.iostream', toString(stream),
                    'spanyard.project', toString(project),
                    'spanyard.build', toString(build)
                )
            ),
            JSONExtract(resource, 'Map(String, String)')
        ),
        'Map(LowCardinality(String), String)'
    ) AS ResourceAttributes,
    CAST('', 'LowCardinality(String)') AS ScopeSchemaUrl,
    toString(scope_name) AS ScopeName,
    scope_version AS ScopeVersion,
    CAST(map(), 'Map(LowCardinality(String), String)') AS ScopeAttributes,
    JSONExtract(attributes, 'Map(LowCardinality(String), String)') AS LogAttributes,
    '' AS EventName,
    project
FROM logs;

CREATE OR REPLACE VIEW otel_traces $on_cluster AS
WITH
    JSONExtract(
        events,
        'Array(Tuple(timestamp String, name String, attributes Map(LowCardinality(String), String)))'
    ) AS span_events,
    JSONExtract(
        links,
        'Array(Tuple(traceId String, spanId String, traceState String, attributes Map(LowCardinality(String), String)))'
    ) AS span_links
SELECT
    start_time AS Timestamp,
    trace_id AS TraceId,
    id AS SpanId,
    parent_span_id AS ParentSpanId,
    trace_state AS TraceState,
    name AS SpanName,
    CAST(initcap(span_kind), 'LowCardinality(String)') AS SpanKind,
    if(notEmpty(service), service, deployment) AS ServiceName,
    CAST(
        mapUpdate(
            mapFilter(
                (k, v) -> notEmpty(v),
                map(
                    'service.name', toString(if(notEmpty(service), service, deployment)),
                    'k8s.namespace.name', splitByChar('.', toString(project))[1],
                    'k8s.deployment.name', toString(deployment),
                    'k8s.pod.name', toString(pod),
                    'k8s.container.name', toString(container),
                    'spanyard.project', toString(project)
                )
            ),
            JSONExtract(resource, 'Map(String, String)')
        ),
        'Map(LowCardinality(String), String)'
    ) AS ResourceAttributes,
    toString(scope_name) AS ScopeName,
    toString(scope_version) AS ScopeVersion,
    JSONExtract(attributes, 'Map(LowCardinality(String), String)') AS SpanAttributes,
    duration_ns AS Duration,
    CAST(initcap(status), 'LowCardinality(String)') AS StatusCode,
    status_message AS StatusMessage,
    arrayMap(e -> parseDateTime64BestEffortOrZero(e.timestamp, 9, 'UTC'), span_events)
        AS `Events.Timestamp`,
    arrayMap(e -> CAST(e.name, 'LowCardinality(String)'), span_events) AS `Events.Name`,
    arrayMap(e -> e.attributes, span_events) AS `Events.Attributes`,
    arrayMap(l -> l.traceId, span_links) AS `Links.TraceId`,
    arrayMap(l -> l.spanId, span_links) AS `Links.SpanId`,
    arrayMap(l -> l.traceState, span_links) AS `Links.TraceState`,
    arrayMap(l -> l.attributes, span_links) AS `Links.Attributes`,
    project
FROM spans
WHERE ended = 1;

CREATE OR REPLACE VIEW otel_traces_trace_id_ts $on_cluster AS
SELECT
    trace_id AS TraceId,
    toDateTime(min(start_time)) AS Start,
    toDateTime(max(end_time)) AS End,
    project
FROM trace_index
GROUP BY trace_id, project;

-- What the three metric views share; not one of the exporter's names.
CREATE OR REPLACE VIEW otel_metrics_base $on_cluster AS
WITH
    JSONExtract(
        exemplars,
        'Array(Tuple(timestamp String, value Float64, traceId String, spanId String, attributes Map(LowCardinality(String), String)))'
    ) AS points
SELECT
    CAST(
        mapUpdate(
            mapFilter(
                (k, v) -> notEmpty(v),
                map(
                    'service.name', toString(if(notEmpty(service), service, deployment)),
                    'k8s.namespace.name', splitByChar('.', toString(project))[1],
                    'k8s.deployment.name', toString(deployment),
                    'k8s.pod.name', toString(pod),
                    'spanyard.project', toString(project)
                )
            ),
            JSONExtract(resource, 'Map(String, String)')
        ),
        'Map(LowCardinality(String), String)'
    ) AS ResourceAttributes,
    '' AS ResourceSchemaUrl,
    toString(scope_name) AS ScopeName,
    toString(scope_version) AS ScopeVersion,
    CAST(map(), 'Map(LowCardinality(String), String)') AS ScopeAttributes,
    toUInt32(0) AS ScopeDroppedAttrCount,
    '' AS ScopeSchemaUrl,
    if(notEmpty(service), service, deployment) AS ServiceName,
    toString(name) AS MetricName,
    toString(description) AS MetricDescription,
    toString(unit) AS MetricUnit,
    attribute_map AS Attributes,
    start_time AS StartTimeUnix,
    timestamp AS TimeUnix,
    toUInt32(0) AS Flags,
    arrayMap(p -> p.attributes, points) AS `Exemplars.FilteredAttributes`,
    arrayMap(p -> parseDateTime64BestEffortOrZero(p.timestamp, 9, 'UTC'), points)
        AS `Exemplars.TimeUnix`,
    arrayMap(p -> p.value, points) AS `Exemplars.Value`,
    arrayMap(p -> p.spanId, points) AS `Exemplars.SpanId`,
    arrayMap(p -> p.traceId, points) AS `Exemplars.TraceId`,
    CAST(transform(temporality, ['delta', 'cumulative'], [1, 2], 0), 'Int32') AS AggregationTemporality,
    kind,
    value,
    count,
    bucket_counts,
    bounds,
    min,
    max,
    project
FROM metrics;

CREATE OR REPLACE VIEW otel_metrics_gauge $on_cluster AS
SELECT
    * EXCEPT (AggregationTemporality, kind, value, count, bucket_counts, bounds, min, max),
    value AS Value
FROM otel_metrics_base
WHERE kind = 'gauge';

CREATE OR REPLACE VIEW otel_metrics_sum $on_cluster AS
SELECT
    * EXCEPT (kind, value, count, bucket_counts, bounds, min, max),
    value AS Value,
    CAST(kind = 'counter', 'Bool') AS IsMonotonic
FROM otel_metrics_base
WHERE kind IN ('counter', 'updowncounter');

CREATE OR REPLACE VIEW otel_metrics_histogram $on_cluster AS
SELECT
    * EXCEPT (kind, value, count, bucket_counts, bounds, min, max),
    count AS Count,
    value AS Sum,
    bucket_counts AS BucketCounts,
    bounds AS ExplicitBounds,
    ifNull(min, 0) AS Min,
    ifNull(max, 0) AS Max
FROM otel_metrics_base
WHERE kind = 'histogram';
