-- The tables in ClickHouse, in the order in which `flowmap fleet init` creates them. See README.md.
--
-- Statements after `-- version N` run once, if the tables are older. Those after `-- every version` run in every upgrade.
-- An interrupted upgrade starts again at the version that is not complete, so every statement can be repeated.
--
-- A name is a promise to every older flowmap: what it writes to a table, and reads from a table or view, keeps its
-- meaning. A change that keeps the promise (a column with a default, another table, another column of a view) is added
-- at the end of the tables, under the next version. A change that breaks it takes the name away as well
-- (`RENAME TABLE IF EXISTS ends_1 TO ends_2`): then the server refuses every older flowmap, and its flows wait.
--
-- A materialized view that an insert feeds is changed by `ALTER TABLE … MODIFY QUERY` under the next version, so that it
-- misses no insert. One that refreshes reads a plain view, and only that changes. For another interval,
-- `DROP VIEW IF EXISTS` is added under the next version.
--
-- {ends_days} and the like are filled in by `schema.py`.

-- version 1

CREATE TABLE IF NOT EXISTS schema_versions (
    version UInt32,
    at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY version;

-- One row for each connection that a host saw, as in its history. A row never changes, except by a later revision.
CREATE TABLE IF NOT EXISTS ends_1 (
    -- Identity of the row: the flow of this number in this history file of this host.
    host LowCardinality(String),
    spool UInt64,
    number UInt64,
    revision UInt32 DEFAULT 0,

    -- The two endpoints in order, as the network between the hosts sees them: so all hosts of a connection agree. The
    -- client is `low`, unless `swapped`. IPv4 is ::ffff:a.b.c.d; ports are 0 for protocols without.
    network LowCardinality(String),
    network_namespace LowCardinality(String) DEFAULT '',
    zone UInt16,
    protocol UInt8,
    low IPv6,
    low_port UInt16,
    high IPv6,
    high_port UInt16,
    swapped Bool,
    -- If this host translated addresses, the client before that and the server after that; else zero.
    translated Bool,
    inner_network LowCardinality(String),
    inner_client IPv6,
    inner_client_port UInt16,
    inner_server IPv6,
    inner_server_port UInt16,

    -- The endpoints as the client knows them, and (zero if no address was translated) as the server knows them.
    client IPv6 ALIAS if(translated, inner_client, if(swapped, high, low)),
    client_port UInt16 ALIAS if(translated, inner_client_port, if(swapped, high_port, low_port)),
    server IPv6 ALIAS if(swapped, low, high),
    server_port UInt16 ALIAS if(swapped, low_port, high_port),
    translated_client IPv6 ALIAS if(translated, if(swapped, high, low), toIPv6('::')),
    translated_client_port UInt16 ALIAS if(translated, if(swapped, high_port, low_port), 0),
    translated_server IPv6 ALIAS inner_server,
    translated_server_port UInt16 ALIAS inner_server_port,

    -- It began in (started_after, started] and ended in [ended_after, ended], by the clock of the host.
    started DateTime64(6, 'UTC'),
    ended DateTime64(6, 'UTC'),
    started_within UInt64,
    ended_within UInt64,
    started_after DateTime64(6, 'UTC') ALIAS started - toIntervalMicrosecond(started_within),
    ended_after DateTime64(6, 'UTC') ALIAS ended - toIntervalMicrosecond(ended_within),
    preexisting Bool,
    unbounded Bool,
    cut Bool,
    guessed Bool,

    transmit_bytes UInt64,
    receive_bytes UInt64,
    transmit_packets UInt64,
    receive_packets UInt64,
    -- `ip` or `payload`: never add one kind to the other.
    bytes LowCardinality(String),
    source LowCardinality(String),

    -- Whose it is: keys of `deployments`, and why.
    state LowCardinality(String),
    deployments Array(LowCardinality(String)),
    rule LowCardinality(String),
    evidence LowCardinality(String),
    cause LowCardinality(String),
    peer LowCardinality(String),

    client_container LowCardinality(String),
    client_unit LowCardinality(String),
    client_workload LowCardinality(String),
    server_container LowCardinality(String),
    server_unit LowCardinality(String),
    server_workload LowCardinality(String),

    arrived DateTime('UTC') DEFAULT now('UTC'),

    INDEX arrived arrived TYPE minmax,
    INDEX deployments deployments TYPE bloom_filter,
    INDEX started started TYPE minmax
) ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMMDD(ended)
ORDER BY (network, protocol, low, high, low_port, high_port, started, host, spool, number)
TTL toDateTime(ended) + toIntervalDay({ends_days})
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- What deployments are called: the newest name. Rows of `ends_1` have keys only, so a rename rewrites nothing.
CREATE TABLE IF NOT EXISTS deployment_names_1 (
    key String,
    workspace LowCardinality(String),
    namespace LowCardinality(String),
    deployment_id String,
    name String,
    seen DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(seen) ORDER BY key;

-- How far each host is: everything that ended before `complete_until` is in `ends_1`, or counted in `lost`. In 2200: the
-- host was stopped and has sent everything.
CREATE TABLE IF NOT EXISTS hosts_1 (
    host LowCardinality(String),
    spool UInt64,
    seen DateTime64(6, 'UTC'),
    complete_until DateTime64(6, 'UTC'),
    sent UInt64,
    lost UInt64,
    waiting UInt64,
    source LowCardinality(String),
    flowmap LowCardinality(String),
    arrived DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree(arrived) ORDER BY host
TTL toDateTime(arrived) + toIntervalDay({ends_days});

-- Rollups without addresses. A connection counts with all its bytes in the minute in which it ended.
--
-- Rows of a minute are computed again as a whole when an end of one of its connections arrives late: a new set of rows
-- with a later `made` replaces the former one. `versions_1` has the newest `made` of each minute. So it does not matter
-- how often or in which order rows arrive. Read the views `minutes`, `hours` and `days`.
CREATE TABLE IF NOT EXISTS versions_1 (
    step LowCardinality(String),
    start DateTime('UTC'),
    made DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(made) ORDER BY (step, start) TTL start + toIntervalDay({days_days});

CREATE TABLE IF NOT EXISTS minutes_1 (
    start DateTime('UTC'),
    network LowCardinality(String),
    state LowCardinality(String),
    deployments Array(LowCardinality(String)),
    peer LowCardinality(String),
    protocol UInt8,
    server_port UInt16,
    bytes LowCardinality(String),
    connections UInt64,
    transmit_bytes UInt64,
    receive_bytes UInt64,
    transmit_packets UInt64,
    receive_packets UInt64,
    made DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(made)
PARTITION BY toYYYYMM(start)
ORDER BY (start, network, state, deployments, peer, protocol, server_port, bytes)
TTL start + toIntervalDay({ends_days});

CREATE MATERIALIZED VIEW IF NOT EXISTS minutes_versions TO versions_1 AS
SELECT 'minute' AS step, start, max(made) AS made FROM minutes_1 GROUP BY start;

CREATE TABLE IF NOT EXISTS hours_1 (
    start DateTime('UTC'),
    network LowCardinality(String),
    state LowCardinality(String),
    deployments Array(LowCardinality(String)),
    peer LowCardinality(String),
    protocol UInt8,
    server_port UInt16,
    bytes LowCardinality(String),
    connections UInt64,
    transmit_bytes UInt64,
    receive_bytes UInt64,
    transmit_packets UInt64,
    receive_packets UInt64,
    made DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(made)
PARTITION BY toYYYYMM(start)
ORDER BY (start, network, state, deployments, peer, protocol, server_port, bytes)
TTL start + toIntervalDay({hours_days});

CREATE MATERIALIZED VIEW IF NOT EXISTS hours_versions TO versions_1 AS
SELECT 'hour' AS step, start, max(made) AS made FROM hours_1 GROUP BY start;

CREATE TABLE IF NOT EXISTS days_1 (
    start DateTime('UTC'),
    network LowCardinality(String),
    state LowCardinality(String),
    deployments Array(LowCardinality(String)),
    peer LowCardinality(String),
    protocol UInt8,
    server_port UInt16,
    bytes LowCardinality(String),
    connections UInt64,
    transmit_bytes UInt64,
    receive_bytes UInt64,
    transmit_packets UInt64,
    receive_packets UInt64,
    made DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(made)
PARTITION BY toYYYYMM(start)
ORDER BY (start, network, state, deployments, peer, protocol, server_port, bytes)
TTL start + toIntervalDay({days_days});

CREATE MATERIALIZED VIEW IF NOT EXISTS days_versions TO versions_1 AS
SELECT 'day' AS step, start, max(made) AS made FROM days_1 GROUP BY start;

-- every version

CREATE OR REPLACE VIEW deployments AS SELECT * FROM deployment_names_1 FINAL;

CREATE OR REPLACE VIEW hosts AS SELECT * FROM hosts_1 FINAL;

CREATE OR REPLACE VIEW ends AS
SELECT
    host, spool, number, revision, arrived, network, network_namespace, zone, protocol, low, low_port, high, high_port,
    client, client_port, server, server_port,
    translated, translated_client, translated_client_port, translated_server, translated_server_port,
    started, ended, started_after, ended_after, preexisting, unbounded, cut, guessed,
    transmit_bytes, receive_bytes, transmit_packets, receive_packets, bytes, source,
    state, deployments, rule, evidence, cause, peer,
    client_container, client_unit, client_workload, server_container, server_unit, server_workload
FROM ends_1 FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW connections AS
{connections};

-- The same, of one deployment: its key in `deployments`.
CREATE OR REPLACE VIEW connections_of AS
{connections_of};

CREATE OR REPLACE VIEW minutes AS
SELECT * EXCEPT made FROM minutes_1 FINAL
WHERE state != '' AND (start, made) IN (SELECT start, max(made) FROM versions_1 WHERE step = 'minute' GROUP BY start);

CREATE OR REPLACE VIEW hours AS
SELECT * EXCEPT made FROM hours_1 FINAL
WHERE state != '' AND (start, made) IN (SELECT start, max(made) FROM versions_1 WHERE step = 'hour' GROUP BY start);

CREATE OR REPLACE VIEW days AS
SELECT * EXCEPT made FROM days_1 FINAL
WHERE state != '' AND (start, made) IN (SELECT start, max(made) FROM versions_1 WHERE step = 'day' GROUP BY start);

-- The minutes (hours, days) that changed, and what adds them to their tables.
CREATE OR REPLACE VIEW minutes_changed AS
{minutes};

CREATE OR REPLACE VIEW hours_changed AS
{hours};

CREATE OR REPLACE VIEW days_changed AS
{days};

CREATE MATERIALIZED VIEW IF NOT EXISTS minutes_refresh REFRESH EVERY 5 MINUTE APPEND TO minutes_1 AS
SELECT * FROM minutes_changed;

CREATE MATERIALIZED VIEW IF NOT EXISTS hours_refresh REFRESH EVERY 15 MINUTE APPEND TO hours_1 AS
SELECT * FROM hours_changed;

CREATE MATERIALIZED VIEW IF NOT EXISTS days_refresh REFRESH EVERY 1 HOUR APPEND TO days_1 AS
SELECT * FROM days_changed;
