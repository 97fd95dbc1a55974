-- name: clock
-- The one clock: read once per tick.
SELECT clock_timestamp();

-- name: hold_shards
-- The fence: fails unless all shards are still held with these epochs; keeps a takeover waiting until commit.
SELECT dagmaster.hold_shards(%(owner)s, %(shards)s::smallint[], %(epochs)s::bigint[]);

-- name: fetch_messages
-- The oldest waiting messages of my shards.
SELECT shard, id, job_id::text, kind, body FROM dagmaster.message
WHERE shard = ANY (%(shards)s::smallint[]) ORDER BY id LIMIT %(limit)s;

-- name: delete_messages
-- Consumed messages go in the transaction that acts on them.
DELETE FROM dagmaster.message m USING unnest(%(shards)s::smallint[], %(ids)s::bigint[]) AS used (shard, id)
WHERE m.shard = used.shard AND m.id = used.id;

-- name: insert_message
-- One message into a job's inbox; the job knows its shard.
INSERT INTO dagmaster.message (shard, job_id, kind, body)
SELECT shard, job_id, %(kind)s, %(body)s::jsonb FROM dagmaster.job WHERE job_id = %(job_id)s::uuid
RETURNING shard;

-- name: quarantine_messages
-- Messages nobody can act on are set aside with the reason.
INSERT INTO dagmaster.quarantine (job_id, kind, body, reason)
SELECT * FROM unnest(%(job_ids)s::uuid[], %(kinds)s::text[], %(bodies)s::jsonb[], %(reasons)s::text[]);

-- name: load_jobs
-- Jobs that a tick needs and does not hold in memory.
SELECT job_id::text, shard, digest, status, priority, inputs,
       (SELECT coalesce(max(e.seq), 0) FROM dagmaster.event e WHERE e.job_id = j.job_id) AS seq
FROM dagmaster.job j WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: load_nodes
-- Nodes that have moved.
SELECT job_id::text, ordinal, item, status, attempt, spent, not_before, started_at, finished_at, error
FROM dagmaster.node WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: load_outputs
-- The effective results.
SELECT job_id::text, ordinal, item, output
FROM dagmaster.attempt WHERE job_id = ANY (%(job_ids)s::uuid[]) AND outcome = 'COMPLETED';

-- name: load_tasks
-- Live tasks, for their clocks.
SELECT job_id::text, ordinal, item, attempt, timeout_seconds, queued_at, claimed_by, claimed_at, lease_until
FROM dagmaster.task WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: live_jobs
-- Jobs of newly taken shards that have not ended.
SELECT job_id::text FROM dagmaster.job WHERE finished_at IS NULL AND shard = ANY (%(shards)s::smallint[]);

-- name: task_leases
-- How long the leases of these attempts run now; a row that is gone has none.
SELECT t.job_id::text, t.ordinal, t.item, t.attempt, t.lease_until
FROM dagmaster.task t
JOIN unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[]) AS k (job_id, ordinal, item)
    USING (job_id, ordinal, item);

-- name: write_nodes
-- Net moves of nodes. The trigger refuses an illegal one.
INSERT INTO dagmaster.node AS n
    (job_id, ordinal, item, status, attempt, spent, not_before, started_at, finished_at, error)
SELECT * FROM unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(statuses)s::text[],
    %(attempts)s::smallint[], %(spents)s::smallint[], %(not_befores)s::timestamptz[], %(started_ats)s::timestamptz[],
    %(finished_ats)s::timestamptz[], %(errors)s::jsonb[])
ON CONFLICT (job_id, ordinal, item) DO UPDATE SET
    status = excluded.status, attempt = excluded.attempt, spent = excluded.spent, not_before = excluded.not_before,
    started_at = excluded.started_at, finished_at = excluded.finished_at, error = excluded.error;

-- name: write_attempts
-- Ended attempts, for ever. A second row for one attempt, or a second effective result, is refused.
INSERT INTO dagmaster.attempt (job_id, ordinal, item, attempt, outcome, worker, started_at, finished_at, output, error)
SELECT * FROM unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(attempts)s::smallint[],
    %(outcomes)s::text[], %(workers)s::text[], %(started_ats)s::timestamptz[], %(finished_ats)s::timestamptz[],
    %(outputs)s::jsonb[], %(errors)s::jsonb[]);

-- name: delete_tasks
-- Ended or revoked attempts leave the queue.
DELETE FROM dagmaster.task t
USING unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[]) AS k (job_id, ordinal, item)
WHERE t.job_id = k.job_id AND t.ordinal = k.ordinal AND t.item = k.item;

-- name: write_tasks
-- New attempts. Those that the tick gave to a worker are claimed at once.
INSERT INTO dagmaster.task (job_id, ordinal, item, attempt, shard, queue, priority, handler, node_id, params,
                            timeout_seconds, queued_at, claimed_by, claimed_at, lease_until)
SELECT job_id, ordinal, item, attempt, shard, queue, priority, handler, node_id, params, timeout_seconds,
       %(now)s::timestamptz, claimed_by, CASE WHEN claimed_by IS NOT NULL THEN %(now)s::timestamptz END,
       CASE WHEN claimed_by IS NOT NULL THEN %(now)s::timestamptz + %(lease)s::interval END
FROM unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(attempts)s::smallint[], %(shards)s::smallint[],
            %(queues)s::text[], %(priorities)s::smallint[], %(handlers)s::text[], %(node_ids)s::text[], %(params)s::jsonb[],
            %(timeouts)s::float8[], %(claimants)s::text[])
    AS t (job_id, ordinal, item, attempt, shard, queue, priority, handler, node_id, params, timeout_seconds, claimed_by);

-- name: write_effects
-- The outbox.
INSERT INTO dagmaster.effect (shard, job_id, ordinal, item, attempt, position, kind, body, due_at)
SELECT shard, job_id, ordinal, item, attempt, position, kind, body, %(now)s::timestamptz
FROM unnest(%(shards)s::smallint[], %(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(attempts)s::smallint[],
            %(positions)s::smallint[], %(kinds)s::text[], %(bodies)s::jsonb[])
    AS e (shard, job_id, ordinal, item, attempt, position, kind, body);

-- name: write_events
-- History, in the deciding transaction.
INSERT INTO dagmaster.event (job_id, seq, at, kind, ordinal, item, attempt, from_status, to_status, data)
SELECT job_id, seq, %(now)s::timestamptz, kind, ordinal, item, attempt, before, after, data
FROM unnest(%(job_ids)s::uuid[], %(seqs)s::int[], %(kinds)s::text[], %(ordinals)s::int[], %(items)s::int[],
            %(attempts)s::smallint[], %(befores)s::text[], %(afters)s::text[], %(data)s::jsonb[])
    AS e (job_id, seq, kind, ordinal, item, attempt, before, after, data);

-- name: write_jobs
-- Jobs that started or ended.
UPDATE dagmaster.job j SET
    status = k.status, error = k.error,
    started_at = coalesce(j.started_at, %(now)s::timestamptz),
    finished_at = CASE WHEN k.finished THEN %(now)s::timestamptz END
FROM unnest(%(job_ids)s::uuid[], %(statuses)s::text[], %(errors)s::jsonb[], %(finished)s::bool[])
    AS k (job_id, status, error, finished)
WHERE j.job_id = k.job_id;

-- name: drop_progress
-- Progress of attempts that ended.
DELETE FROM dagmaster.progress p
USING unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[]) AS k (job_id, ordinal, item)
WHERE p.job_id = k.job_id AND p.ordinal = k.ordinal AND p.item = k.item;

-- name: due_effects
-- Publications that are due: all effects of the attempt that has waited longest, locked while they are applied.
SELECT id, shard, job_id::text, ordinal, item, attempt, position, kind, body, failures
FROM dagmaster.effect
WHERE (job_id, ordinal, item, attempt) = (
    SELECT job_id, ordinal, item, attempt FROM dagmaster.effect
    WHERE due_at <= clock_timestamp() AND position = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
ORDER BY position FOR UPDATE;

-- name: delete_effects
-- Applied publications.
DELETE FROM dagmaster.effect WHERE id = ANY (%(ids)s::bigint[]);

-- name: postpone_effects
-- Publications that failed and are tried again later.
UPDATE dagmaster.effect SET failures = failures + 1, due_at = clock_timestamp() + %(delay)s::interval
WHERE id = ANY (%(ids)s::bigint[]);

-- name: write_artifact
-- An object became visible.
INSERT INTO dagmaster.artifact (container, path, job_id, ordinal, item, attempt, size_bytes, published_at)
VALUES (%(container)s, %(path)s, %(job_id)s::uuid, %(ordinal)s, %(item)s, %(attempt)s, %(size_bytes)s, clock_timestamp())
ON CONFLICT (container, path) DO UPDATE SET job_id = excluded.job_id, ordinal = excluded.ordinal, item = excluded.item,
    attempt = excluded.attempt, size_bytes = excluded.size_bytes, published_at = excluded.published_at;

-- name: revoke_effects
-- Publications of nodes that were cancelled before they were applied.
DELETE FROM dagmaster.effect e
USING unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[]) AS k (job_id, ordinal, item)
WHERE e.job_id = k.job_id AND e.ordinal = k.ordinal AND e.item = k.item;

-- name: notify
-- Wake whoever listens.
SELECT pg_notify(channel, '') FROM unnest(%(channels)s::text[]) AS c (channel);
