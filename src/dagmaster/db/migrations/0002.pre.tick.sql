-- A whole tick as one call: fence, writes, deletion of what was used, and a look at the inbox.
-- depends: 0001.pre.control-plane

-- Each json argument is an array of rows, or null when there are none. One call is one transaction and one round trip.
-- Attempts that ended leave the queue first, because a retry in the same tick puts the node's next attempt there.
CREATE FUNCTION dagmaster.tick(
    held_by text, touched smallint[], epochs bigint[], at timestamptz, lease interval,
    dropped json, revoked json, nodes json, effects json, tasks json, attempts json, events json, jobs json,
    quarantined json, used json, looked smallint[], look_limit integer,
    OUT now timestamptz, OUT waiting json, OUT publications boolean
) LANGUAGE plpgsql AS $$
BEGIN
    IF touched IS NOT NULL THEN
        PERFORM dagmaster.hold_shards(held_by, touched, epochs);
    END IF;
    IF dropped IS NOT NULL THEN
        DELETE FROM dagmaster.task t USING json_to_recordset(dropped) AS k (j uuid, o int, i int)
        WHERE t.job_id = k.j AND t.ordinal = k.o AND t.item = k.i;
    END IF;
    IF revoked IS NOT NULL THEN
        DELETE FROM dagmaster.effect e USING json_to_recordset(revoked) AS k (j uuid, o int, i int)
        WHERE e.job_id = k.j AND e.ordinal = k.o AND e.item = k.i;
    END IF;
    IF nodes IS NOT NULL THEN
        INSERT INTO dagmaster.node AS n
            (job_id, ordinal, item, status, attempt, spent, not_before, started_at, finished_at, error)
        SELECT j, o, i, s, coalesce(a, 0), coalesce(p, 0), nb, sa, fa, e FROM json_to_recordset(nodes)
            AS r (j uuid, o int, i int, s text, a smallint, p smallint, nb timestamptz, sa timestamptz, fa timestamptz, e jsonb)
        ON CONFLICT (job_id, ordinal, item) DO UPDATE SET
            status = excluded.status, attempt = excluded.attempt, spent = excluded.spent,
            not_before = excluded.not_before, started_at = excluded.started_at, finished_at = excluded.finished_at,
            error = excluded.error;
    END IF;
    IF effects IS NOT NULL THEN
        INSERT INTO dagmaster.effect (shard, job_id, ordinal, item, attempt, position, kind, body, due_at)
        SELECT sh, j, o, i, a, n, k, b, at FROM json_to_recordset(effects)
            AS r (sh smallint, j uuid, o int, i int, a smallint, n smallint, k text, b jsonb);
    END IF;
    IF tasks IS NOT NULL THEN
        INSERT INTO dagmaster.task (job_id, ordinal, item, attempt, shard, queue, priority, handler, node_id, params,
                                    timeout_seconds, queued_at, claimed_by, claimed_at, lease_until)
        SELECT j, o, i, a, sh, q, coalesce(pr, 0), h, n, p, t, at, w,
               CASE WHEN w IS NOT NULL THEN at END, CASE WHEN w IS NOT NULL THEN at + lease END
        FROM json_to_recordset(tasks) AS r (j uuid, o int, i int, a smallint, sh smallint, q text, pr smallint, h text,
                                            n text, p jsonb, t float8, w text);
    END IF;
    IF attempts IS NOT NULL THEN
        INSERT INTO dagmaster.attempt
            (job_id, ordinal, item, attempt, outcome, worker, started_at, finished_at, output, error)
        SELECT j, o, i, a, s, w, sa, fa, coalesce(r, CASE s WHEN 'COMPLETED' THEN 'null'::jsonb END), e
        FROM json_to_recordset(attempts) AS r (j uuid, o int, i int, a smallint, s text, w text, sa timestamptz,
                                               fa timestamptz, r jsonb, e jsonb);
    END IF;
    IF events IS NOT NULL THEN
        INSERT INTO dagmaster.event (job_id, seq, at, kind, ordinal, item, attempt, from_status, to_status, data)
        SELECT j, n, tick.at, k, o, i, a, f, t, d FROM json_to_recordset(events)
            AS r (j uuid, n int, k text, o int, i int, a smallint, f text, t text, d jsonb);
    END IF;
    IF jobs IS NOT NULL THEN
        UPDATE dagmaster.job SET status = r.s, error = r.e, started_at = coalesce(job.started_at, tick.at),
               finished_at = CASE WHEN r.f THEN tick.at END
        FROM json_to_recordset(jobs) AS r (j uuid, s text, e jsonb, f bool) WHERE job.job_id = r.j;
    END IF;
    IF quarantined IS NOT NULL THEN
        INSERT INTO dagmaster.quarantine (job_id, kind, body, reason)
        SELECT j, k, b, r FROM json_to_recordset(quarantined) AS q (j uuid, k text, b jsonb, r text);
    END IF;
    IF used IS NOT NULL THEN
        DELETE FROM dagmaster.message m USING json_to_recordset(used) AS u (s smallint, n bigint)
        WHERE m.shard = u.s AND m.id = u.n;
    END IF;
    now := clock_timestamp();
    IF looked IS NOT NULL THEN
        SELECT json_agg(json_build_array(shard, id, job_id, kind, body, head) ORDER BY id) INTO waiting FROM (
            SELECT m.shard, m.id, m.job_id, m.kind, m.body,
                   (SELECT json_build_array(j.digest, j.priority, j.inputs) FROM dagmaster.job j
                    WHERE m.kind = 'submitted' AND j.job_id = m.job_id AND j.status = 'PENDING') AS head
            FROM dagmaster.message m WHERE m.shard = ANY (looked) ORDER BY m.id LIMIT look_limit) AS found;
        publications := EXISTS (SELECT 1 FROM dagmaster.effect e WHERE e.due_at <= tick.now);
    END IF;
END $$;
