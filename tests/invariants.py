"""What has to hold after any fault, told by the tables alone; no code of the engine takes part."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

TERMINAL_JOB = "('COMPLETED', 'FAILED', 'CANCELLED')"
TERMINAL_NODE = "('COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')"

RULES = {
    "I1 every job has ended": f"SELECT job_id, status FROM dagmaster.job WHERE status NOT IN {TERMINAL_JOB}",
    "I1 no node of an ended job is open": f"""
        SELECT job_id, ordinal, item, n.status FROM dagmaster.node n JOIN dagmaster.job j USING (job_id)
        WHERE j.status IN {TERMINAL_JOB} AND n.status NOT IN {TERMINAL_NODE}""",
    "I1 a completed job has a row for each of its nodes": """
        SELECT job_id FROM dagmaster.job j JOIN dagmaster.definition d USING (digest)
        WHERE j.status = 'COMPLETED'
          AND (SELECT count(*) FROM dagmaster.node n WHERE n.job_id = j.job_id AND item = -1)
              <> (SELECT count(*) FROM jsonb_object_keys(d.document -> 'nodes'))""",
    "I2 a node has one effective result": """
        SELECT job_id, ordinal, item FROM dagmaster.attempt WHERE outcome = 'COMPLETED'
        GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "I3 the children of a fan-out are 0 to N-1": """
        SELECT job_id, ordinal, count(*), max(item) FROM dagmaster.node WHERE item >= 0
        GROUP BY 1, 2 HAVING count(*) <> max(item) + 1""",
    "I3 a completed fan-out has a child for each item": """
        SELECT n.job_id, n.ordinal FROM dagmaster.node n JOIN dagmaster.attempt a USING (job_id, ordinal, item)
        WHERE n.item = -1 AND n.status = 'COMPLETED' AND a.outcome = 'COMPLETED' AND (a.output ->> 'count') ~ '^[0-9]+$'
          AND EXISTS (SELECT 1 FROM dagmaster.node c WHERE c.job_id = n.job_id AND c.ordinal = n.ordinal AND c.item >= 0)
          AND (a.output ->> 'count')::int
              <> (SELECT count(*) FROM dagmaster.node c WHERE c.job_id = n.job_id AND c.ordinal = n.ordinal AND c.item >= 0)""",
    "I4 events are numbered without gaps": """
        SELECT job_id, count(*), min(seq), max(seq) FROM dagmaster.event
        GROUP BY 1 HAVING count(*) <> max(seq) OR min(seq) <> 1 OR count(DISTINCT seq) <> count(*)""",
    "I4 the last event of a node is its state": """
        SELECT n.job_id, n.ordinal, n.item, n.status, e.to_status FROM dagmaster.node n LEFT JOIN LATERAL (
            SELECT to_status FROM dagmaster.event e WHERE e.job_id = n.job_id AND e.ordinal = n.ordinal
              AND e.item = n.item AND e.kind = 'node' ORDER BY seq DESC LIMIT 1) e ON true
        WHERE n.status IS DISTINCT FROM e.to_status""",
    "I5 nothing moves after its end": f"""
        SELECT job_id, ordinal, item, count(*) FROM dagmaster.event
        WHERE (kind = 'node' AND to_status IN {TERMINAL_NODE}) OR (kind = 'job' AND to_status IN {TERMINAL_JOB})
        GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "I6 the accepted attempt is the one that the node expected": """
        SELECT job_id, ordinal, item, n.attempt, a.attempt FROM dagmaster.node n
        JOIN dagmaster.attempt a USING (job_id, ordinal, item)
        WHERE a.outcome = 'COMPLETED' AND a.attempt <> n.attempt""",
    "I7 each attempt has ended, and only the last one well": """
        SELECT job_id, ordinal, item, n.attempt, array_agg(a.attempt ORDER BY a.attempt) FROM dagmaster.node n
        JOIN dagmaster.attempt a USING (job_id, ordinal, item) WHERE n.attempt > 0
        GROUP BY 1, 2, 3, 4 HAVING count(*) <> n.attempt OR max(a.attempt) <> n.attempt""",
    "I8 nothing of an ended job is left to do": f"""
        SELECT job_id, what FROM (SELECT job_id, 'task' AS what FROM dagmaster.task
                                  UNION ALL SELECT job_id, 'effect' FROM dagmaster.effect) w
        JOIN dagmaster.job USING (job_id) WHERE status IN {TERMINAL_JOB}""",
    "I9 what an accepted attempt published is there once": """
        SELECT container, path, count(*) FROM dagmaster.artifact GROUP BY 1, 2 HAVING count(*) > 1""",
    "I11 no shard has two owners, and every epoch grew with its owner": """
        SELECT shard FROM dagmaster.shard WHERE owner IS NOT NULL AND epoch < 1""",
}


def check(uri: str, acknowledged: Collection[str] = ()) -> None:
    """Errors: AssertionError that names the rule and the first rows that break it."""
    with psycopg.connect(uri, autocommit=True) as connection:
        for rule, text in RULES.items():
            broken = connection.execute(text.encode()).fetchmany(5)
            assert not broken, f"{rule}: {broken}"
        jobs = [row[0] for row in connection.execute("SELECT job_id::text FROM dagmaster.job")]
    assert set(acknowledged) <= set(jobs), "I12: an acknowledged submission is no job"
    assert not acknowledged or len(set(acknowledged)) == len(jobs), "I12: there are jobs that nobody submitted"


def retries(uri: str) -> list[tuple[str, int]]:
    """How attempts ended that were not the last ones, and how many."""
    with psycopg.connect(uri, autocommit=True) as connection:
        return connection.execute(
            "SELECT a.outcome, count(*) FROM dagmaster.attempt a JOIN dagmaster.node n USING (job_id, ordinal, item)"
            " WHERE a.attempt < n.attempt GROUP BY 1 ORDER BY 1"
        ).fetchall()
