-- The minutes that changed, each as a whole: rows that arrived since the last time changed the minutes of all rows of
-- their connections. `schema.py` fills in the connections.
WITH
    (SELECT max(made) - toIntervalMinute(30) FROM minutes_1) AS since,
    now() - toIntervalSecond(10) AS settled,  -- a query reads a table several times: later rows wait for the next one
    fresh AS (
        SELECT network, protocol, low, low_port, high, high_port FROM ends_1 WHERE arrived >= since AND arrived < settled
        UNION ALL
        SELECT
            network, protocol, pair[1].1 AS low, pair[1].2 AS low_port, pair[2].1 AS high, pair[2].2 AS high_port
        FROM (
            SELECT
                inner_network AS network, protocol,
                if(swapped, (high, high_port), (low, low_port)) AS outside,
                if(swapped, (low, low_port), (high, high_port)) AS called,
                arrayJoin([
                    arraySort([(inner_client, inner_client_port), called]),
                    arraySort([outside, (inner_server, inner_server_port)])
                ]) AS pair
            FROM ends_1 WHERE arrived >= since AND arrived < settled AND translated
        )
    ),
    touched AS (
        SELECT network, protocol, low, low_port, high, high_port, started, toStartOfMinute(ended) AS minute FROM ends_1
        WHERE (network, protocol, low, low_port, high, high_port) IN fresh
            AND ended >= now() - toIntervalDay({recent_days})
    ),
    changed AS (SELECT DISTINCT minute FROM touched),
    of_changed AS (
        SELECT network, protocol, low, low_port, high, high_port, started FROM ends_1
        WHERE toStartOfMinute(ended) IN changed
    ),
    connections_of_changed AS (
        {connections}
    )
SELECT
    toStartOfMinute(ended) AS start, network, state, deployments, peer, protocol,
    if(guessed, 0, server_port) AS server_port, bytes,
    sum(NOT preexisting) AS connections,
    sum(transmit_bytes) AS transmit_bytes, sum(receive_bytes) AS receive_bytes,
    sum(transmit_packets) AS transmit_packets, sum(receive_packets) AS receive_packets,
    now64(3, 'UTC') AS made
FROM connections_of_changed
GROUP BY start, network, state, deployments, peer, protocol, server_port, bytes
UNION ALL
SELECT minute AS start, '', '', [], '', 0, 0, '', 0, 0, 0, 0, 0, now64(3, 'UTC') FROM changed
