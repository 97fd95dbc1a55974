-- name: renew
-- Heartbeat of this orchestrator and renewal of all its leases in one statement.
WITH me AS (
    INSERT INTO dagmaster.orchestrator (orchestrator_id, liveness_key, started_at, lease_until)
    VALUES (%(owner)s, %(liveness_key)s, clock_timestamp(), clock_timestamp() + %(lease)s::interval)
    ON CONFLICT (orchestrator_id) DO UPDATE SET lease_until = excluded.lease_until
)
UPDATE dagmaster.shard SET lease_until = clock_timestamp() + %(lease)s::interval
WHERE owner = %(owner)s
RETURNING shard, epoch;

-- name: survey
-- Who is alive, and which shards may be taken: lease over, or the owner's liveness lock has vanished.
WITH gone AS (
    SELECT orchestrator_id FROM dagmaster.orchestrator o
    WHERE NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND (l.classid::bigint << 32 | l.objid::bigint) = o.liveness_key)
)
SELECT (SELECT count(*) FROM dagmaster.orchestrator o WHERE lease_until > clock_timestamp()
        AND orchestrator_id NOT IN (SELECT orchestrator_id FROM gone))::int AS live,
       coalesce(array_agg(shard ORDER BY shard) FILTER (
           WHERE owner IS NULL OR lease_until <= clock_timestamp() OR owner IN (SELECT orchestrator_id FROM gone)
                 OR owner NOT IN (SELECT orchestrator_id FROM dagmaster.orchestrator)), '{}')::int[] AS free
FROM dagmaster.shard;

-- name: lock_shards
-- A takeover waits for a running tick of the former owner.
SELECT shard FROM dagmaster.shard WHERE shard = ANY (%(shards)s::smallint[]) ORDER BY shard FOR UPDATE;

-- name: take
-- Take shards over: the epoch grows, so nothing that the former owner decided can be written any more.
UPDATE dagmaster.shard s SET owner = %(owner)s, epoch = epoch + 1, lease_until = clock_timestamp() + %(lease)s::interval
WHERE shard = ANY (%(shards)s::smallint[])
RETURNING shard, epoch;

-- name: release
-- Give shards back at once.
UPDATE dagmaster.shard SET owner = NULL, lease_until = '-infinity'
WHERE owner = %(owner)s AND shard = ANY (%(shards)s::smallint[]);

-- name: leave
-- This orchestrator goes; and rows of long-dead ones with it.
DELETE FROM dagmaster.orchestrator WHERE orchestrator_id = %(owner)s OR lease_until < clock_timestamp() - interval '1 hour';

-- name: hold_liveness
-- A session lock on a direct connection: a hint that this process lives, without authority.
SELECT pg_advisory_lock(%(liveness_key)s);

-- name: orchestrators
-- Who is registered, with its shards.
SELECT o.orchestrator_id, o.started_at, o.lease_until, count(s.shard)::int AS shards
FROM dagmaster.orchestrator o LEFT JOIN dagmaster.shard s ON s.owner = o.orchestrator_id
GROUP BY o.orchestrator_id ORDER BY o.started_at;

-- name: ensure_event_partition
-- The partition of one day of events.
SELECT dagmaster.ensure_event_partition(%(day)s::date);

-- name: lock_migrations
-- One process migrates at a time; the lock goes with the session, however that ends.
SELECT pg_advisory_lock(hashtext('dagmaster.migrations'));
