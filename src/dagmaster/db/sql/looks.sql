-- name: list_nodes
-- Nodes across jobs by status, newest first.
SELECT n.job_id::text, j.workflow_id, j.digest, n.ordinal, n.item, n.status, n.attempt, n.started_at, n.finished_at, n.error
FROM dagmaster.node n JOIN dagmaster.job j USING (job_id)
WHERE n.status = %(status)s ORDER BY j.created_at DESC, n.ordinal, n.item LIMIT %(limit)s;

-- name: list_tasks
-- Live tasks: waiting ones first in the order of their claim, then running ones.
SELECT job_id::text, node_id, attempt, handler, queue, priority, queued_at, claimed_by, claimed_at, lease_until,
       clock_timestamp() AS now
FROM dagmaster.task
WHERE %(queue)s::text IS NULL OR queue = %(queue)s
ORDER BY claimed_by IS NOT NULL, priority DESC, queued_at LIMIT %(limit)s;

-- name: queue_depths
-- Depth and age of each queue.
SELECT queue, count(*) FILTER (WHERE claimed_by IS NULL)::int AS waiting,
       count(*) FILTER (WHERE claimed_by IS NOT NULL)::int AS running,
       extract(epoch FROM clock_timestamp() - min(queued_at) FILTER (WHERE claimed_by IS NULL))::float8 AS oldest_seconds
FROM dagmaster.task GROUP BY queue ORDER BY queue;

-- name: save_logs
-- Log lines of running attempts.
INSERT INTO dagmaster.log (job_id, ordinal, item, attempt, at, message, fields)
SELECT * FROM unnest(%(job_ids)s::uuid[], %(ordinals)s::int[], %(items)s::int[], %(attempts)s::smallint[],
                     %(ats)s::timestamptz[], %(messages)s::text[], %(fields)s::jsonb[]);

-- name: get_logs
-- What a job's attempts said, in order.
SELECT id, ordinal, item, attempt, at, message, fields FROM dagmaster.log
WHERE job_id = %(job_id)s::uuid AND id > %(after)s
  AND (%(ordinal)s::int IS NULL OR (ordinal = %(ordinal)s AND item = %(item)s)) ORDER BY id LIMIT %(limit)s;

-- name: node_events
-- The history of one node.
SELECT seq, at, kind, ordinal, item, attempt, from_status, to_status, data FROM dagmaster.event
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item = %(item)s ORDER BY seq LIMIT %(limit)s;

-- name: get_children
-- Children of one fan-out, by keyset.
SELECT ordinal, item, status, attempt, started_at, finished_at, error FROM dagmaster.node
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item > %(after)s
  AND (%(status)s::text IS NULL OR status = %(status)s) ORDER BY item LIMIT %(limit)s;
