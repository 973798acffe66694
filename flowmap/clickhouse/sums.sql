-- The hours (days) that changed, each as a whole, from the minutes (hours). `schema.py` fills in the names.
WITH
    (SELECT max(made) - toIntervalHour(2) FROM {coarse}_1) AS since,
    changed AS (SELECT DISTINCT {beginning}(start) AS whole FROM versions_1 WHERE step = '{step}' AND made >= since)
SELECT
    whole AS start, network, state, deployments, peer, protocol, server_port, bytes,
    sum(connections) AS connections,
    sum(transmit_bytes) AS transmit_bytes, sum(receive_bytes) AS receive_bytes,
    sum(transmit_packets) AS transmit_packets, sum(receive_packets) AS receive_packets,
    now64(3, 'UTC') AS made
FROM (SELECT * EXCEPT start, {beginning}(start) AS whole FROM {fine})
WHERE whole IN changed
GROUP BY start, network, state, deployments, peer, protocol, server_port, bytes
UNION ALL
SELECT whole AS start, '', '', [], '', 0, 0, '', 0, 0, 0, 0, 0, now64(3, 'UTC') FROM changed
