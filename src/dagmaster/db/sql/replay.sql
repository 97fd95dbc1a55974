-- name: replay_job
-- Where a job stands by its row, and how its events are numbered.
SELECT j.status, j.error, j.finished_at, n.count, n.first, n.last
FROM dagmaster.job j,
     LATERAL (SELECT count(*) AS count, coalesce(min(seq), 1) AS first, coalesce(max(seq), 0) AS last
              FROM dagmaster.event WHERE job_id = j.job_id) n
WHERE j.job_id = %(job_id)s::uuid;

-- name: replay_moves
-- All moves of a job, those of each node together and in order; first those of the job itself.
SELECT coalesce(ordinal, -1) AS ordinal, coalesce(item, -1) AS item, seq, at, attempt, from_status, to_status, data
FROM dagmaster.event WHERE job_id = %(job_id)s::uuid AND kind IN ('job', 'node') AND to_status IS NOT NULL
ORDER BY 1, 2, 3;

-- name: replay_rows
-- All nodes of a job, in the order of the moves.
SELECT ordinal, item, status, attempt, spent, not_before, finished_at, error
FROM dagmaster.node WHERE job_id = %(job_id)s::uuid ORDER BY 1, 2;
