-- name: load_definitions
-- Definitions by digest.
SELECT digest, document FROM dagmaster.definition WHERE digest = ANY (%(digests)s::text[]);

-- name: definition_versions
-- All stored definitions of a workflow, newest first.
SELECT digest, version, created_at FROM dagmaster.definition WHERE workflow_id = %(workflow_id)s
ORDER BY created_at DESC;

-- name: insert_job
-- A job, its definition if that is new, and the message that tells its orchestrator, in one statement; the same key
-- again changes nothing.
WITH defined AS (
    INSERT INTO dagmaster.definition (digest, workflow_id, version, document, created_at)
    VALUES (%(digest)s, %(workflow_id)s, %(version)s, %(document)s::jsonb, clock_timestamp())
    ON CONFLICT (digest) DO NOTHING
), made AS (
    INSERT INTO dagmaster.job (job_id, shard, digest, workflow_id, workflow_version, priority, inputs, idempotency_key,
                               request_digest, correlation_id, rerun_of, created_at)
    VALUES (%(job_id)s::uuid, %(shard)s, %(digest)s, %(workflow_id)s, %(version)s, %(priority)s, %(inputs)s::jsonb,
            %(idempotency_key)s, %(request_digest)s, %(correlation_id)s, %(rerun_of)s::uuid, clock_timestamp())
    ON CONFLICT DO NOTHING
    RETURNING job_id, shard
)
INSERT INTO dagmaster.message (shard, job_id, kind, body) SELECT shard, job_id, 'submitted', '{}' FROM made
RETURNING job_id::text;

-- name: find_job_by_key
-- The job that an idempotency key made.
SELECT job_id::text, request_digest FROM dagmaster.job WHERE idempotency_key = %(idempotency_key)s;

-- name: get_job
-- One job.
SELECT job_id::text, shard, digest, workflow_id, workflow_version, status, priority, inputs, error, correlation_id,
       rerun_of::text, created_at, started_at, finished_at, clock_timestamp() AS now
FROM dagmaster.job WHERE job_id = %(job_id)s::uuid;

-- name: get_nodes
-- The nodes of a job that have moved, with the output of their effective attempt and the progress of the running one.
SELECT n.ordinal, n.item, n.status, n.attempt, n.spent, n.not_before, n.started_at, n.finished_at, n.error,
       a.output, p.percent, p.message, t.queued_at, t.claimed_by
FROM dagmaster.node n
LEFT JOIN dagmaster.attempt a ON a.job_id = n.job_id AND a.ordinal = n.ordinal AND a.item = n.item AND a.outcome = 'COMPLETED'
LEFT JOIN dagmaster.progress p ON p.job_id = n.job_id AND p.ordinal = n.ordinal AND p.item = n.item AND p.attempt = n.attempt
    AND n.finished_at IS NULL
LEFT JOIN dagmaster.task t ON t.job_id = n.job_id AND t.ordinal = n.ordinal AND t.item = n.item
WHERE n.job_id = %(job_id)s::uuid AND (%(children)s OR n.item = -1)
ORDER BY n.ordinal, n.item;

-- name: count_children
-- Children of the fan-outs of a job, by status.
SELECT ordinal, status, count(*)::int AS count FROM dagmaster.node
WHERE job_id = %(job_id)s::uuid AND item >= 0 GROUP BY ordinal, status ORDER BY ordinal, status;

-- name: get_attempts
-- Every attempt of a job's node.
SELECT attempt, outcome, worker, started_at, finished_at, output, error FROM dagmaster.attempt
WHERE job_id = %(job_id)s::uuid AND ordinal = %(ordinal)s AND item = %(item)s ORDER BY attempt;

-- name: get_events
-- The history of a job after a sequence number.
SELECT seq, at, kind, ordinal, item, attempt, from_status, to_status, data FROM dagmaster.event
WHERE job_id = %(job_id)s::uuid AND seq > %(after)s ORDER BY seq LIMIT %(limit)s;

-- name: list_jobs
-- Jobs, newest first, by keyset.
SELECT job_id::text, workflow_id, workflow_version, status, error, correlation_id, created_at, started_at, finished_at
FROM dagmaster.job
WHERE (%(status)s::text IS NULL OR status = %(status)s) AND (%(workflow_id)s::text IS NULL OR workflow_id = %(workflow_id)s)
  AND (%(before)s::timestamptz IS NULL OR (created_at, job_id) < (%(before)s::timestamptz, %(before_id)s::uuid))
ORDER BY created_at DESC, job_id DESC LIMIT %(limit)s;

-- name: artifacts_of_job
-- What a job made visible.
SELECT container, path, size_bytes FROM dagmaster.artifact WHERE job_id = %(job_id)s::uuid ORDER BY container, path;

-- name: health
-- Does the database answer, and is anybody working?
SELECT (SELECT count(*) FROM dagmaster.orchestrator WHERE lease_until > clock_timestamp())::int AS orchestrators,
       (SELECT count(*) FROM dagmaster.worker WHERE lease_until > clock_timestamp())::int AS workers,
       current_setting('server_version') AS postgres;
