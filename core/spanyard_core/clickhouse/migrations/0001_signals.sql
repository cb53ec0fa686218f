-- Version 1: the signals, what the ingester keeps about them, and the views for readers.
--
-- Every statement may run again. `$replicated`, `$on_cluster` and `$signal_settings` are filled
-- in by spanyard_core.clickhouse.schema, which says what they mean.
--
-- One table per signal, because one object of the bucket holds one signal and becomes, with the
-- others of its batch, one part (ADR 0011). Partitions are days of ingestion, fixed in the plan,
-- so that a bad clock never makes hundreds of them. The tenant stands first in every sort key.

-- Log lines and OTLP log records.
CREATE TABLE IF NOT EXISTS logs $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    level LowCardinality(String) CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    attribute_map Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attribute_text String ALIAS substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4),
    resource String CODEC(ZSTD(1)),
    scope_name LowCardinality(String) CODEC(ZSTD(1)),
    scope_version LowCardinality(String) CODEC(ZSTD(1)),
    marks Array(LowCardinality(String)) CODEC(ZSTD(1)),
    INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1,
    INDEX trace_id_bloom trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    -- Case is folded by the expression, not by the index's own preprocessor, so that parts whose
    -- index is not built yet give the same answer.
    INDEX message_index lower(message) TYPE text(tokenizer = splitByNonAlpha),
    INDEX attribute_index substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4)
        TYPE text(tokenizer = splitByString(['\',\''])),
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT level_known CHECK level IN ('debug', 'info', 'warn', 'error', 'fatal'),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, timestamp, writer, seq)
SETTINGS $signal_settings;

-- Spans. A start or update (`ended = 0`) lies apart from ended ones; roots lie apart from the rest,
-- so that a list of traces reads nothing else.
CREATE TABLE IF NOT EXISTS spans $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    ended UInt8 CODEC(ZSTD(1)),
    root UInt8 CODEC(ZSTD(1)),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Of an open span: its start.
    end_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    parent_span_id String CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    status LowCardinality(String) CODEC(ZSTD(1)),
    status_message String CODEC(ZSTD(1)),
    span_kind LowCardinality(String) CODEC(ZSTD(1)),
    trace_state String CODEC(ZSTD(1)),
    events String CODEC(ZSTD(1)),
    links String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    attribute_map Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attribute_text String ALIAS substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4),
    resource String CODEC(ZSTD(1)),
    scope_name LowCardinality(String) CODEC(ZSTD(1)),
    scope_version LowCardinality(String) CODEC(ZSTD(1)),
    -- What LLM spans say, from gen_ai.* attributes and their common variants.
    operation LowCardinality(String) CODEC(ZSTD(1)),
    provider LowCardinality(String) CODEC(ZSTD(1)),
    model LowCardinality(String) CODEC(ZSTD(1)),
    agent LowCardinality(String) CODEC(ZSTD(1)),
    tool LowCardinality(String) CODEC(ZSTD(1)),
    conversation String CODEC(ZSTD(1)),
    input_tokens UInt64 CODEC(T64, ZSTD(1)),
    output_tokens UInt64 CODEC(T64, ZSTD(1)),
    cost Float64 CODEC(ZSTD(1)),
    -- Apart, so that lists never read them.
    input String CODEC(ZSTD(1)),
    output String CODEC(ZSTD(1)),
    INDEX start_time_minmax start_time TYPE minmax GRANULARITY 1,
    INDEX duration_minmax duration_ns TYPE minmax GRANULARITY 1,
    INDEX trace_id_bloom trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX id_bloom id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX input_index lower(input) TYPE text(tokenizer = splitByNonAlpha),
    INDEX output_index lower(output) TYPE text(tokenizer = splitByNonAlpha),
    INDEX attribute_index substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4)
        TYPE text(tokenizer = splitByString(['\',\''])),
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT id_given CHECK notEmpty(id),
    CONSTRAINT trace_id_given CHECK notEmpty(trace_id),
    CONSTRAINT status_known CHECK status IN ('ok', 'error', 'unset'),
    CONSTRAINT span_kind_known CHECK
        span_kind IN ('internal', 'server', 'client', 'producer', 'consumer'),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, ended, root, start_time, trace_id, id, writer, seq)
SETTINGS $signal_settings;

-- Traces as a whole, where an application reports them; else root spans serve.
CREATE TABLE IF NOT EXISTS traces $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    ended UInt8 CODEC(ZSTD(1)),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Of an open trace: its start.
    end_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    id String CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    status LowCardinality(String) CODEC(ZSTD(1)),
    input String CODEC(ZSTD(1)),
    output String CODEC(ZSTD(1)),
    metadata String CODEC(ZSTD(1)),
    INDEX start_time_minmax start_time TYPE minmax GRANULARITY 1,
    INDEX id_bloom id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT id_given CHECK notEmpty(id),
    CONSTRAINT status_known CHECK status IN ('ok', 'error', 'unset'),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, ended, start_time, id, writer, seq)
SETTINGS $signal_settings;

-- Metric points of all kinds: one object becomes one part of one table, so histograms are rows
-- with arrays. `series` is the hash of what makes a series; its labels are `attribute_map`.
CREATE TABLE IF NOT EXISTS metrics $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    value Float64 CODEC(Gorilla, ZSTD(1)),
    series UInt64 CODEC(ZSTD(1)),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    temporality LowCardinality(String) CODEC(ZSTD(1)),
    unit LowCardinality(String) CODEC(ZSTD(1)),
    description LowCardinality(String) CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    attribute_map Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attribute_text String ALIAS substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4),
    resource String CODEC(ZSTD(1)),
    scope_name LowCardinality(String) CODEC(ZSTD(1)),
    scope_version LowCardinality(String) CODEC(ZSTD(1)),
    count UInt64 CODEC(T64, ZSTD(1)),
    min Nullable(Float64) CODEC(ZSTD(1)),
    max Nullable(Float64) CODEC(ZSTD(1)),
    bounds Array(Float64) CODEC(ZSTD(1)),
    bucket_counts Array(UInt64) CODEC(ZSTD(1)),
    exemplars String CODEC(ZSTD(1)),
    INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1,
    INDEX attribute_index substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4)
        TYPE text(tokenizer = splitByString(['\',\''])),
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT name_given CHECK notEmpty(name),
    CONSTRAINT kind_known CHECK kind IN ('counter', 'gauge', 'histogram', 'updowncounter'),
    CONSTRAINT temporality_known CHECK temporality IN ('', 'delta', 'cumulative'),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, name, series, timestamp, writer, seq)
SETTINGS $signal_settings;

-- Judgements of traces and spans.
CREATE TABLE IF NOT EXISTS scores $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    value Float64 CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    comment String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    attribute_map Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attribute_text String ALIAS substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4),
    INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1,
    INDEX trace_id_bloom trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX attribute_index substring(toString(attribute_map), 3, length(toString(attribute_map)) - 4)
        TYPE text(tokenizer = splitByString(['\',\''])),
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT name_given CHECK notEmpty(name),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, name, timestamp, writer, seq)
SETTINGS $signal_settings;

-- The lives of writers: begin, end, and what was lost in between.
CREATE TABLE IF NOT EXISTS gaps $on_cluster (
    project LowCardinality(String) CODEC(ZSTD(1)),
    writer LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    batch UInt64 CODEC(Delta, ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    uid LowCardinality(String) CODEC(ZSTD(1)),
    deployment LowCardinality(String) CODEC(ZSTD(1)),
    build LowCardinality(String) CODEC(ZSTD(1)),
    pod LowCardinality(String) CODEC(ZSTD(1)),
    container LowCardinality(String) CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    recorded_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    event LowCardinality(String) CODEC(ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    subject String CODEC(ZSTD(1)),
    signal LowCardinality(String) CODEC(ZSTD(1)),
    cause LowCardinality(String) CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    after_seq UInt64 CODEC(ZSTD(1)),
    lines Nullable(UInt64) CODEC(ZSTD(1)),
    bytes Nullable(UInt64) CODEC(ZSTD(1)),
    from_time Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    to_time Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    source String CODEC(ZSTD(1)),
    from_offset Nullable(UInt64) CODEC(ZSTD(1)),
    to_offset Nullable(UInt64) CODEC(ZSTD(1)),
    continues String CODEC(ZSTD(1)),
    continues_seq UInt64 CODEC(ZSTD(1)),
    INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1,
    INDEX batch_minmax batch TYPE minmax GRANULARITY 64,
    CONSTRAINT project_given CHECK notEmpty(project) AND position(project, '\0') = 0,
    CONSTRAINT writer_given CHECK notEmpty(writer) AND position(writer, '\0') = 0,
    CONSTRAINT seq_from_one CHECK seq > 0,
    CONSTRAINT event_known CHECK event IN ('begin', 'end', 'gap'),
    CONSTRAINT subject_given CHECK notEmpty(subject),
    PROJECTION by_batch (
        SELECT
            ingest_day, batch, writer,
            count(), min(seq), max(seq), sum(seq), sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY ingest_day
ORDER BY (project, subject, timestamp, writer, seq)
SETTINGS $signal_settings;

-- Which trace lies where: lookups by id alone. Filled by the ingester after each batch, as often as
-- it likes; so only aggregates that bear repeats. Read it with GROUP BY.
CREATE TABLE IF NOT EXISTS trace_index $on_cluster (
    trace_id String CODEC(ZSTD(1)),
    project LowCardinality(String) CODEC(ZSTD(1)),
    ingest_day Date CODEC(ZSTD(1)),
    start_time SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1)),
    end_time SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1))
)
ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY ingest_day
ORDER BY (trace_id, project, ingest_day);

-- What could not be loaded. Rows are replaced by id: read them with FINAL.
CREATE TABLE IF NOT EXISTS quarantine $on_cluster (
    id String,
    project LowCardinality(String),
    signal LowCardinality(String),
    key String,
    writer String,
    line UInt64,
    offset UInt64,
    reason String,
    -- The first 64 KiB of what was refused; binary, so read it as base64Encode(bytes).
    bytes String CODEC(ZSTD(1)),
    size UInt64,
    status LowCardinality(String),
    created_at DateTime64(3, 'UTC'),
    updated_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(updated_at)
ORDER BY (project, id);

-- A copy of the ingester's log in the bucket, for queries; it can be made again from there.
-- Rows are replaced by (shard, n, attempt, key): read them with FINAL.
CREATE TABLE IF NOT EXISTS ledger $on_cluster (
    shard UInt32,
    n UInt64,
    attempt UInt64,
    key String,
    writer LowCardinality(String),
    seq_from UInt64,
    seq_to UInt64,
    records UInt64,
    bad UInt64,
    source String,
    source_from UInt64,
    source_to UInt64,
    -- Offset and length of pieces read, but in no record yet.
    source_pending Array(Tuple(UInt64, UInt64)),
    signal LowCardinality(String),
    project LowCardinality(String),
    status LowCardinality(String),
    time DateTime64(3, 'UTC'),
    INDEX writer_bloom writer TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ${replicated}ReplacingMergeTree(time)
ORDER BY (shard, n, attempt, key);

CREATE OR REPLACE VIEW metric_points $on_cluster AS
SELECT * EXCEPT (count, min, max, bounds, bucket_counts) FROM metrics WHERE kind != 'histogram';

CREATE OR REPLACE VIEW metric_histograms $on_cluster AS
SELECT * EXCEPT (value), value AS sum FROM metrics WHERE kind = 'histogram';

-- Spans of one project that have begun since a time and not ended:
-- SELECT … FROM open_spans(project = {p:String}, since = {t:String})
CREATE OR REPLACE VIEW open_spans $on_cluster AS
SELECT
    trace_id,
    id,
    min(start_time) AS started,
    argMax(name, seq) AS name,
    argMax(parent_span_id, seq) AS parent_span_id,
    argMax(span_kind, seq) AS span_kind,
    argMax(status, seq) AS status,
    argMax(deployment, seq) AS deployment,
    argMax(service, seq) AS service,
    argMax(pod, seq) AS pod,
    argMax(attributes, seq) AS attributes,
    max(recorded_at) AS updated
FROM spans
WHERE project = {project:String}
    AND ended = 0
    AND start_time >= parseDateTime64BestEffort({since:String}, 9, 'UTC')
    AND (trace_id, id) NOT IN (
        SELECT trace_id, id
        FROM spans
        WHERE project = {project:String}
            AND ended = 1
            AND start_time >= parseDateTime64BestEffort({since:String}, 9, 'UTC')
    )
GROUP BY trace_id, id;
