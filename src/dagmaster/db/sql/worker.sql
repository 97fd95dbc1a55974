-- name: register_worker
-- A worker announces itself, its queues and its handlers.
INSERT INTO dagmaster.worker (worker_id, started_at, lease_until, slots, queues, handlers)
VALUES (%(worker)s, clock_timestamp(), clock_timestamp() + %(lease)s::interval, %(slots)s, %(queues)s::text[], %(handlers)s::jsonb)
ON CONFLICT (worker_id) DO UPDATE SET lease_until = excluded.lease_until, slots = excluded.slots,
    queues = excluded.queues, handlers = excluded.handlers;

-- name: claim_tasks
-- Claim waiting tasks of these queues. SKIP LOCKED keeps workers out of each other's way; the message tells the
-- orchestrator that the attempt's clock runs.
WITH picked AS (
    SELECT job_id, ordinal, item FROM dagmaster.task
    WHERE claimed_by IS NULL AND queue = ANY (%(queues)s::text[]) AND handler = ANY (%(handlers)s::text[])
    ORDER BY priority DESC, queued_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE dagmaster.task t SET claimed_by = %(worker)s, claimed_at = clock_timestamp(),
        lease_until = clock_timestamp() + %(lease)s::interval
    FROM picked p WHERE t.job_id = p.job_id AND t.ordinal = p.ordinal AND t.item = p.item
    RETURNING t.*
), told AS (
    INSERT INTO dagmaster.message (shard, job_id, kind, body)
    SELECT shard, job_id, 'started', jsonb_build_object('ordinal', ordinal, 'item', item, 'attempt', attempt,
        'worker', claimed_by, 'at', claimed_at, 'timeout_seconds', timeout_seconds) FROM claimed
)
SELECT job_id::text, ordinal, item, attempt, shard, node_id, handler, queue, priority, params, timeout_seconds,
       queued_at, (SELECT jsonb_build_object('phase', phase, 'data', data) FROM dagmaster.checkpoint c
                   WHERE c.job_id = claimed.job_id AND c.ordinal = claimed.ordinal AND c.item = claimed.item) AS checkpoint
FROM claimed;

-- name: waiting_tasks
-- Is there anything left to claim?
SELECT EXISTS (SELECT 1 FROM dagmaster.task WHERE claimed_by IS NULL AND queue = ANY (%(queues)s::text[])) AS waiting;

-- name: renew_worker
-- The worker's own lease and those of all its attempts; what does not come back has been taken away.
WITH me AS (
    UPDATE dagmaster.worker SET lease_until = clock_timestamp() + %(lease)s::interval WHERE worker_id = %(worker)s
)
UPDATE dagmaster.task SET lease_until = clock_timestamp() + %(lease)s::interval
WHERE claimed_by = %(worker)s
RETURNING job_id::text, ordinal, item, attempt;

-- name: report
-- How attempts ended: one immutable message each.
INSERT INTO dagmaster.message (shard, job_id, kind, body)
SELECT coalesce(r.s, j.shard), r.j, 'report', r.b
FROM json_to_recordset(%(reports)s::json) AS r (j uuid, s smallint, b jsonb)
LEFT JOIN dagmaster.job j ON r.s IS NULL AND j.job_id = r.j
WHERE coalesce(r.s, j.shard) IS NOT NULL;

-- name: save_checkpoint
-- Only the holder of the attempt saves, and phases only grow.
INSERT INTO dagmaster.checkpoint AS c (job_id, ordinal, item, attempt, phase, data, saved_at)
SELECT job_id, ordinal, item, attempt, %(phase)s, %(data)s::jsonb, clock_timestamp() FROM dagmaster.task
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item = %(item)s AND attempt = %(attempt)s
  AND claimed_by = %(worker)s FOR KEY SHARE
ON CONFLICT (job_id, ordinal, item) DO UPDATE SET attempt = excluded.attempt, phase = excluded.phase, data = excluded.data,
    saved_at = excluded.saved_at WHERE c.phase <= excluded.phase AND c.attempt <= excluded.attempt
RETURNING attempt;

-- name: save_progress
-- How far attempts are.
INSERT INTO dagmaster.progress (job_id, ordinal, item, attempt, percent, message, at)
SELECT job_id, ordinal, item, attempt, percent, message, clock_timestamp()
FROM unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(attempts)s::smallint[], %(percents)s::real[],
            %(messages)s::text[]) AS p (job_id, ordinal, item, attempt, percent, message)
ON CONFLICT (job_id, ordinal, item) DO UPDATE SET attempt = excluded.attempt, percent = excluded.percent,
    message = excluded.message, at = excluded.at WHERE progress.attempt <= excluded.attempt;

-- name: leave_worker
-- This worker goes; rows of long-dead ones with it.
DELETE FROM dagmaster.worker WHERE worker_id = %(worker)s OR lease_until < clock_timestamp() - interval '1 hour';

-- name: live_workers
-- Workers whose lease runs.
SELECT worker_id, started_at, lease_until, slots, queues, handlers FROM dagmaster.worker
WHERE lease_until > clock_timestamp() ORDER BY started_at;

-- name: expire_leases
-- Workers known to be dead lose their attempts at once.
UPDATE dagmaster.task SET lease_until = clock_timestamp() WHERE claimed_by LIKE %(pattern)s;

-- name: ended_jobs
-- Of these ids, those that no live job has.
SELECT id FROM unnest(%(job_ids)s::text[]) AS given (id)
WHERE NOT EXISTS (SELECT 1 FROM dagmaster.job WHERE job_id = CASE WHEN id ~ '^[0-9a-f-]{36}$' THEN id::uuid END
                  AND finished_at IS NULL);
