-- name: housekeeping_lock
-- One process keeps house at a time; the lock goes with the transaction.
SELECT pg_try_advisory_xact_lock(hashtext('dagmaster.housekeeping')) AS mine;

-- name: prune_jobs
-- Finished jobs that are older than wanted, some at a time.
SELECT dagmaster.prune_jobs(clock_timestamp() - %(keep)s::interval, %(most)s) AS pruned;

-- name: drop_event_partitions
-- Days of events that are older than wanted.
SELECT dagmaster.drop_event_partitions(clock_timestamp() - %(keep)s::interval) AS dropped;

-- name: prune_quarantine
-- Messages set aside longer ago than wanted.
DELETE FROM dagmaster.quarantine WHERE quarantined_at < clock_timestamp() - %(keep)s::interval;

-- name: tidy_progress
-- Progress of attempts that have ended.
DELETE FROM dagmaster.progress p WHERE NOT EXISTS (
    SELECT 1 FROM dagmaster.task t WHERE t.job_id = p.job_id AND t.ordinal = p.ordinal AND t.item = p.item);
