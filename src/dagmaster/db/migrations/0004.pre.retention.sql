-- Letting go of what is old: finished jobs in small batches, days of events as a whole.
-- depends: 0001.pre.control-plane

-- Deletes up to `most` jobs that ended before `cutoff` and have nothing left to publish, with all that belongs to them
-- but for their events, which go by the day. What they published stays. Returns how many.
CREATE FUNCTION dagmaster.prune_jobs(cutoff timestamptz, most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    old uuid[];
BEGIN
    SELECT array_agg(job_id) INTO old FROM (
        SELECT job_id FROM dagmaster.job j WHERE created_at < cutoff AND finished_at < cutoff
        AND NOT EXISTS (SELECT 1 FROM dagmaster.effect e WHERE e.job_id = j.job_id)
        ORDER BY created_at, job_id LIMIT most FOR UPDATE SKIP LOCKED) AS found;
    IF old IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM dagmaster.node WHERE job_id = ANY (old);
    DELETE FROM dagmaster.attempt WHERE job_id = ANY (old);
    DELETE FROM dagmaster.checkpoint WHERE job_id = ANY (old);
    DELETE FROM dagmaster.progress WHERE job_id = ANY (old);
    DELETE FROM dagmaster.log WHERE job_id = ANY (old);
    DELETE FROM dagmaster.job WHERE job_id = ANY (old);
    RETURN cardinality(old);
END $$;

-- Drops the event partitions of days that ended before `cutoff`, but for those in which a job that still lives may have
-- events: they begin when it was created. Returns the names of what was dropped.
CREATE FUNCTION dagmaster.drop_event_partitions(cutoff timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    day_ended timestamptz;
    oldest_live timestamptz := coalesce(
        (SELECT min(created_at) FROM dagmaster.job WHERE finished_at IS NULL), 'infinity'::timestamptz);
BEGIN
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'dagmaster.event'::regclass AND c.relname ~ '^event_[0-9]{8}$' ORDER BY c.relname
    LOOP
        day_ended := (to_date(substr(partition, 7), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC';
        IF day_ended <= least(cutoff, oldest_live) THEN
            EXECUTE format('DROP TABLE dagmaster.%I', partition);
            RETURN NEXT partition;
        END IF;
    END LOOP;
END $$;
