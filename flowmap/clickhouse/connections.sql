-- The connections among some rows of `ends_1`, each once. `schema.py` fills in which rows are near and which count.
--
-- A row is that of one daemon (a host and its history file), with its bytes. It is left out if another daemon has the
-- connection, too, and takes precedence: those that count IP bytes before those that count payload, then those that saw
-- the whole connection before those that were started or stopped meanwhile. Two rows are one connection if they are of
-- two daemons, have the same two endpoints and were open at the same moment, give or take a second for clocks that
-- differ. Two rows of one daemon never are: its ports were used again, or it was restarted. A host that
-- translates addresses also stands for the rows of those who see the connection before or after that (its shadows): it
-- takes precedence. The owner is that of the row with the best knowledge, and of equal ones the row nearest the client.
WITH
    near AS (
        SELECT * FROM ends_1 FINAL WHERE {near} AND {among} SETTINGS do_not_merge_across_partitions_select_final = 1
    ),
    shadows AS (
        SELECT
            network, protocol, pair[1].1 AS low, pair[1].2 AS low_port, pair[2].1 AS high, pair[2].2 AS high_port,
            groupArray((
                cityHash64(host, spool), toUnixTimestamp64Micro(started) - started_within, toUnixTimestamp64Micro(ended)
            )) AS shades
        FROM (
            SELECT
                inner_network AS network, protocol, host, spool, started, started_within, ended,
                if(swapped, (high, high_port), (low, low_port)) AS outside,
                if(swapped, (low, low_port), (high, high_port)) AS called,
                (inner_client, inner_client_port) AS before,
                (inner_server, inner_server_port) AS behind,
                arrayJoin(arrayFilter(
                    ends -> ends != arraySort([outside, called]), [arraySort([before, called]), arraySort([outside, behind])]
                )) AS pair
            -- Without FINAL, which would read the whole day: a row that was sent twice casts the same shadow.
            FROM ends_1
            WHERE translated AND {near}
        )
        WHERE {among}
        GROUP BY network, protocol, low, low_port, high, high_port
    ),
    groups AS (
        SELECT
            network, protocol, low, low_port, high, high_port,
            groupArray(cityHash64(host, spool)) AS observers,
            groupArray((bytes = 'ip', NOT (preexisting OR cut), cityHash64(host, spool))) AS ranks,
            groupArray(bytes = 'ip') AS whole,
            groupArray(toUnixTimestamp64Micro(started)) AS begins,
            groupArray(toUnixTimestamp64Micro(ended)) AS finishes,
            groupArray((transform(state, ['attributed', 'shared', 'internal', 'ambiguous', 'unknown'], [5, 4, 4, 3, 2], 1), translated, client_workload != '')) AS knowledge,
            groupArray(host) AS hosts,
            groupArray((spool, number, network_namespace, zone)) AS identities,
            groupArray(swapped) AS swaps,
            groupArray((translated, inner_client, inner_client_port, inner_server, inner_server_port)) AS translations,
            groupArray(started_within) AS begin_bounds,
            groupArray(ended_within) AS finish_bounds,
            groupArray((preexisting, unbounded, cut, guessed)) AS facts,
            groupArray(transmit_bytes) AS transmits,
            groupArray(receive_bytes) AS receives,
            groupArray(transmit_packets) AS packets_out,
            groupArray(receive_packets) AS packets_in,
            groupArray(source) AS sources,
            groupArray(state) AS states,
            groupArray(deployments) AS owners,
            groupArray(rule) AS rules,
            groupArray(evidence) AS reasons,
            groupArray(cause) AS causes,
            groupArray(peer) AS peers,
            groupArray((client_container, client_unit, client_workload, server_container, server_unit, server_workload)) AS locals
        FROM near
        GROUP BY network, protocol, low, low_port, high, high_port
    ),
    ordered AS (
        SELECT
            *,
            arrayJoin(arrayEnumerate(observers)) AS i,
            length(observers) = 1 ? [toUInt32(1)] : arrayFilter(
                j -> (j = i OR observers[j] != observers[i])
                    AND begins[j] - begin_bounds[j] <= finishes[i] + 1000000
                    AND finishes[j] >= begins[i] - begin_bounds[i] - 1000000,
                arrayEnumerate(observers)
            ) AS same,
            length(same) = 1 ? toUInt32(i) : arrayReverseSort(j -> (knowledge[j], j = i), same)[1] AS best
        FROM groups LEFT JOIN shadows USING (network, protocol, low, low_port, high, high_port)
    )
SELECT
    hosts[i] AS host, identities[i].1 AS spool, identities[i].2 AS number,
    network, identities[i].3 AS network_namespace, identities[i].4 AS zone, protocol,
    translations[i].1 AS translated,
    if(swaps[i], (high, high_port), (low, low_port)) AS outside,
    if(translated, (translations[i].2, translations[i].3), outside) AS inside,
    inside.1 AS client, inside.2 AS client_port,
    if(swaps[i], low, high) AS server, if(swaps[i], low_port, high_port) AS server_port,
    if(translated, outside.1, toIPv6('::')) AS translated_client, if(translated, outside.2, 0) AS translated_client_port,
    translations[i].4 AS translated_server, translations[i].5 AS translated_server_port,
    fromUnixTimestamp64Micro(begins[i], 'UTC') AS started, fromUnixTimestamp64Micro(finishes[i], 'UTC') AS ended,
    started - toIntervalMicrosecond(begin_bounds[i]) AS started_after,
    ended - toIntervalMicrosecond(finish_bounds[i]) AS ended_after,
    facts[i].1 AS preexisting, facts[i].2 AS unbounded, facts[i].3 AS cut, facts[i].4 AS guessed,
    transmits[i] AS transmit_bytes, receives[i] AS receive_bytes,
    packets_out[i] AS transmit_packets, packets_in[i] AS receive_packets,
    if(whole[i], 'ip', 'payload') AS bytes, sources[i] AS source,
    states[best] AS state, owners[best] AS deployments, rules[best] AS rule,
    reasons[best] AS evidence, causes[best] AS cause, hosts[best] AS named_by,
    peers[i] AS peer,
    arrayDistinct(arrayMap(j -> hosts[j], same)) AS seen_by,
    arrayMap(
        j -> (
            hosts[j], multiIf(locals[j].3 != '', 'client', locals[j].6 != '', 'server', ''), if(whole[j], 'ip', 'payload'),
            transmits[j], receives[j], packets_out[j], packets_in[j],
            states[j], sources[j], begins[j], finishes[j], facts[j].1, facts[j].3
        ),
        same
    ) AS observations,
    arrayExists(j -> states[j] = 'attributed' AND states[best] = 'attributed' AND owners[j] != owners[best], same) AS disagree,
    locals[arrayFirst(j -> locals[j].3 != '', arrayConcat([i], same))] AS of_client,
    locals[arrayFirst(j -> locals[j].6 != '', arrayConcat([i], same))] AS of_server,
    of_client.1 AS client_container, of_client.2 AS client_unit, of_client.3 AS client_workload,
    of_server.4 AS server_container, of_server.5 AS server_unit, of_server.6 AS server_workload
FROM ordered
WHERE {chosen}
    AND NOT arrayExists(j -> ranks[j] > ranks[i], same)
    AND NOT arrayExists(
        one -> one.1 != observers[i]
            AND one.2 <= finishes[i] + 1000000 AND one.3 >= begins[i] - begin_bounds[i] - 1000000,
        shades
    )
