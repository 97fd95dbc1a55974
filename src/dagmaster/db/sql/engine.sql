-- name: clock
-- The one clock: read once per tick.
SELECT clock_timestamp();

-- name: tick
-- One tick: the fence, everything its decisions wrote, and a look at the inbox. The clock in its answer is the one clock.
SELECT now, waiting, publications FROM dagmaster.tick(
    %(owner)s, %(touched)s::smallint[], %(epochs)s::bigint[], %(at)s::timestamptz, %(lease)s::interval, %(dropped)s::json,
    %(revoked)s::json, %(nodes)s::json, %(effects)s::json, %(tasks)s::json, %(attempts)s::json, %(events)s::json,
    %(jobs)s::json, %(quarantined)s::json, %(used)s::json, %(looked)s::smallint[], %(look_limit)s);

-- name: insert_message
-- One message into a job's inbox; the job knows its shard.
INSERT INTO dagmaster.message (shard, job_id, kind, body)
SELECT shard, job_id, %(kind)s, %(body)s::jsonb FROM dagmaster.job WHERE job_id = %(job_id)s::uuid
RETURNING shard;

-- name: load_jobs
-- Jobs that a tick needs and does not hold in memory.
SELECT job_id::text, shard, digest, status, priority, inputs,
       (SELECT coalesce(max(e.seq), 0) FROM dagmaster.event e WHERE e.job_id = j.job_id) AS seq
FROM dagmaster.job j WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: load_nodes
-- Nodes that have moved; of the children of fan-outs those that still live.
SELECT job_id::text, ordinal, item, status, attempt, spent, not_before, started_at, finished_at, error
FROM dagmaster.node WHERE job_id = ANY (%(job_ids)s::uuid[]) AND (item = -1 OR finished_at IS NULL);

-- name: load_fans
-- The children of fan-outs in numbers.
SELECT job_id::text, ordinal, max(item) + 1 AS created, count(*) FILTER (WHERE status = 'COMPLETED')::int AS completed,
       count(*) FILTER (WHERE finished_at IS NOT NULL AND status <> 'COMPLETED')::int AS failed
FROM dagmaster.node WHERE job_id = ANY (%(job_ids)s::uuid[]) AND item >= 0 GROUP BY job_id, ordinal;

-- name: load_outputs
-- The effective results that expressions may still read; of children only those that wait for their publication.
SELECT a.job_id::text, a.ordinal, a.item, a.output FROM dagmaster.attempt a
WHERE a.job_id = ANY (%(job_ids)s::uuid[]) AND a.outcome = 'COMPLETED' AND (a.item = -1 OR EXISTS (
    SELECT 1 FROM dagmaster.node n WHERE n.job_id = a.job_id AND n.ordinal = a.ordinal AND n.item = a.item
    AND n.status = 'WAITING'));

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

-- name: notify
-- Wake whoever listens.
SELECT pg_notify(channel, '') FROM unnest(%(channels)s::text[]) AS c (channel);

-- name: children_outputs
-- What the children of one fan-out returned, in the order of their items, page by page.
SELECT item, output FROM dagmaster.attempt
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item > %(after)s AND outcome = 'COMPLETED'
ORDER BY job_id, ordinal, item LIMIT %(limit)s;

-- name: children_errors
-- The children of one fan-out that did not complete, in the order of their items.
SELECT item, error FROM dagmaster.node
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item >= 0 AND status <> 'COMPLETED' ORDER BY item;
