-- The control plane and the embedded catalog, as first released.
-- depends:

CREATE SCHEMA dagmaster;
CREATE SCHEMA catalog;

-- Definitions, stored once by the digest of their normalised document. Jobs point here.
CREATE TABLE dagmaster.definition (
    digest      text PRIMARY KEY CHECK (length(digest) = 64),
    workflow_id text NOT NULL,
    version     integer NOT NULL CHECK (version >= 1),
    document    jsonb NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX definition_by_workflow ON dagmaster.definition (workflow_id, created_at);

-- One run of a workflow. `finished_at` is set exactly when the status is terminal; live jobs are found by it,
-- so that a change of status alone touches no index.
CREATE TABLE dagmaster.job (
    job_id           uuid PRIMARY KEY,
    shard            smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),
    digest           text NOT NULL REFERENCES dagmaster.definition (digest),
    workflow_id      text NOT NULL,
    workflow_version integer NOT NULL,
    status           text NOT NULL DEFAULT 'PENDING',
    priority         smallint NOT NULL DEFAULT 0,
    inputs           jsonb NOT NULL,
    error            jsonb,
    idempotency_key  text,
    request_digest   text,
    correlation_id   text,
    rerun_of         uuid,
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    finished_at      timestamptz,
    CONSTRAINT job_status CHECK (status IN ('PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED')),
    CONSTRAINT job_finished_when_terminal CHECK ((finished_at IS NOT NULL) = (status IN ('COMPLETED', 'FAILED', 'CANCELLED')))
) WITH (fillfactor = 80);
CREATE INDEX job_live ON dagmaster.job (shard) WHERE finished_at IS NULL;
CREATE INDEX job_by_time ON dagmaster.job (created_at, job_id);
CREATE UNIQUE INDEX job_idempotency ON dagmaster.job (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- A node of a job: static nodes have item -1, children of a fan-out the index of their item.
-- A node that has not moved yet has no row and counts as PENDING.
CREATE TABLE dagmaster.node (
    job_id      uuid NOT NULL,
    ordinal     integer NOT NULL,
    item        integer NOT NULL DEFAULT -1 CHECK (item >= -1),
    status      text NOT NULL,
    attempt     smallint NOT NULL DEFAULT 0,
    spent       smallint NOT NULL DEFAULT 0,
    not_before  timestamptz,
    started_at  timestamptz,
    finished_at timestamptz,
    error       jsonb,
    PRIMARY KEY (job_id, ordinal, item),
    CONSTRAINT node_status CHECK (status IN ('PENDING', 'READY', 'DISPATCHED', 'RUNNING', 'WAITING',
                                             'COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')),
    CONSTRAINT node_finished_when_terminal
        CHECK ((finished_at IS NOT NULL) = (status IN ('COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- How each attempt ended, with what it returned. Insert-only. Nodes that run in the engine itself have attempt 0.
CREATE TABLE dagmaster.attempt (
    job_id      uuid NOT NULL,
    ordinal     integer NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('COMPLETED', 'FAILED', 'TIMED_OUT', 'LOST', 'RELEASED', 'CANCELLED')),
    worker      text,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    output      jsonb,
    error       jsonb,
    PRIMARY KEY (job_id, ordinal, item, attempt)
);
-- Exactly one effective result per node.
CREATE UNIQUE INDEX attempt_effective ON dagmaster.attempt (job_id, ordinal, item) WHERE outcome = 'COMPLETED';

-- Live tasks: the queue and the leases. A row goes when its attempt ends; a worker whose row is gone has lost its attempt.
CREATE TABLE dagmaster.task (
    job_id          uuid NOT NULL,
    ordinal         integer NOT NULL,
    item            integer NOT NULL,
    attempt         smallint NOT NULL,
    shard           smallint NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL DEFAULT 0,
    handler         text NOT NULL,
    node_id         text NOT NULL,
    params          jsonb NOT NULL,
    timeout_seconds double precision NOT NULL,
    queued_at       timestamptz NOT NULL,
    claimed_by      text,
    claimed_at      timestamptz,
    lease_until     timestamptz,
    PRIMARY KEY (job_id, ordinal, item),
    CONSTRAINT task_claim CHECK ((claimed_by IS NULL) = (lease_until IS NULL) AND (claimed_by IS NULL) = (claimed_at IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX task_waiting ON dagmaster.task (queue, priority DESC, queued_at) WHERE claimed_by IS NULL;

-- How far a long task has come, by phase; written only by the holder of the attempt, read by the next one.
CREATE TABLE dagmaster.checkpoint (
    job_id   uuid NOT NULL,
    ordinal  integer NOT NULL,
    item     integer NOT NULL,
    attempt  smallint NOT NULL,
    phase    integer NOT NULL CHECK (phase >= 1),
    data     jsonb NOT NULL,
    saved_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, ordinal, item)
) WITH (fillfactor = 50);

-- The inbox of the orchestrators: submissions, claims, reports, commands. Deleted in the deciding transaction.
CREATE TABLE dagmaster.message (
    shard       smallint NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    job_id      uuid NOT NULL,
    kind        text NOT NULL,
    body        jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Messages that could not be read or decided on, kept with the reason; they never block others.
CREATE TABLE dagmaster.quarantine (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id         uuid NOT NULL,
    kind           text NOT NULL,
    body           jsonb NOT NULL,
    reason         text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Publications asked for by accepted attempts; the publisher applies them and answers with a message.
CREATE TABLE dagmaster.effect (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard      smallint NOT NULL,
    job_id     uuid NOT NULL,
    ordinal    integer NOT NULL,
    item       integer NOT NULL,
    attempt    smallint NOT NULL,
    position   smallint NOT NULL,
    kind       text NOT NULL,
    body       jsonb NOT NULL,
    failures   smallint NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL,
    UNIQUE (job_id, ordinal, item, attempt, position)
);

-- What happened, in order, per job. Append-only, partitioned by day, dropped not deleted.
CREATE TABLE dagmaster.event (
    job_id  uuid NOT NULL,
    seq     integer NOT NULL,
    at      timestamptz NOT NULL,
    kind    text NOT NULL,
    ordinal integer,
    item    integer,
    attempt smallint,
    from_status text,
    to_status   text,
    data    jsonb,
    PRIMARY KEY (job_id, seq, at)
) PARTITION BY RANGE (at);
CREATE TABLE dagmaster.event_default PARTITION OF dagmaster.event DEFAULT;

-- Makes the partition of a day (UTC) unless it exists; events of a day without one lie in the default partition.
CREATE FUNCTION dagmaster.ensure_event_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'event_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass('dagmaster.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dagmaster.event'));
    EXECUTE format('CREATE TABLE IF NOT EXISTS dagmaster.%I PARTITION OF dagmaster.event FOR VALUES FROM (%L) TO (%L)',
                   partition, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
EXCEPTION WHEN check_violation THEN
    NULL;  -- the day's events have begun in the default partition, and stay there
END $$;

-- Who decides for which jobs. The lease alone has authority; the epoch grows with every change of owner.
CREATE TABLE dagmaster.shard (
    shard       smallint PRIMARY KEY,
    owner       text,
    epoch       bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
INSERT INTO dagmaster.shard (shard) SELECT generate_series(0, 63);

CREATE TABLE dagmaster.orchestrator (
    orchestrator_id text PRIMARY KEY,
    liveness_key    bigint NOT NULL,
    started_at      timestamptz NOT NULL,
    lease_until     timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Workers and what they announce.
CREATE TABLE dagmaster.worker (
    worker_id   text PRIMARY KEY,
    started_at  timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    slots       integer NOT NULL,
    queues      text[] NOT NULL,
    handlers    jsonb NOT NULL
) WITH (fillfactor = 50);

-- How far running attempts are. Unlogged: losing it costs nothing but a moment's display.
CREATE UNLOGGED TABLE dagmaster.progress (
    job_id  uuid NOT NULL,
    ordinal integer NOT NULL,
    item    integer NOT NULL,
    attempt smallint NOT NULL,
    percent real NOT NULL,
    message text NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (job_id, ordinal, item)
) WITH (fillfactor = 50);

-- What attempts said. Append-only.
CREATE TABLE dagmaster.log (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  uuid NOT NULL,
    ordinal integer NOT NULL,
    item    integer NOT NULL,
    attempt smallint NOT NULL,
    at      timestamptz NOT NULL,
    message text NOT NULL,
    fields  jsonb
);
CREATE INDEX log_by_job ON dagmaster.log (job_id, id);

-- Objects that are visible in the storage, with where they came from.
CREATE TABLE dagmaster.artifact (
    container    text NOT NULL,
    path         text NOT NULL,
    job_id       uuid NOT NULL,
    ordinal      integer NOT NULL,
    item         integer NOT NULL,
    attempt      smallint NOT NULL,
    size_bytes   bigint NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (container, path)
);

-- Legal moves, generated from contract/states.py; a row that would make another move is refused.
CREATE FUNCTION dagmaster.refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'illegal move of %: % -> %', TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN 'PENDING' ELSE OLD.status END, NEW.status
        USING ERRCODE = 'DM001';
END $$;

CREATE TRIGGER job_moves BEFORE UPDATE OF status ON dagmaster.job FOR EACH ROW WHEN (
    NEW.status <> OLD.status AND NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'PENDING>CANCELLED', 'PENDING>COMPLETED', 'PENDING>FAILED', 'PENDING>PAUSED', 'PENDING>RUNNING',
        'RUNNING>CANCELLED', 'RUNNING>COMPLETED', 'RUNNING>FAILED', 'RUNNING>PAUSED',
        'PAUSED>CANCELLED', 'PAUSED>RUNNING']))
    EXECUTE FUNCTION dagmaster.refuse_move();

CREATE TRIGGER node_moves BEFORE UPDATE OF status ON dagmaster.node FOR EACH ROW WHEN (
    NEW.status <> OLD.status AND NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'PENDING>CANCELLED', 'PENDING>COMPLETED', 'PENDING>DISPATCHED', 'PENDING>FAILED', 'PENDING>READY',
        'PENDING>RUNNING', 'PENDING>SKIPPED', 'PENDING>WAITING',
        'READY>CANCELLED', 'READY>DISPATCHED', 'READY>FAILED', 'READY>RUNNING', 'READY>SKIPPED',
        'DISPATCHED>CANCELLED', 'DISPATCHED>COMPLETED', 'DISPATCHED>FAILED', 'DISPATCHED>READY', 'DISPATCHED>RUNNING',
        'DISPATCHED>WAITING',
        'RUNNING>CANCELLED', 'RUNNING>COMPLETED', 'RUNNING>DISPATCHED', 'RUNNING>FAILED', 'RUNNING>READY',
        'RUNNING>WAITING',
        'WAITING>CANCELLED', 'WAITING>COMPLETED', 'WAITING>FAILED', 'WAITING>READY']))
    EXECUTE FUNCTION dagmaster.refuse_move();

-- The fence of every deciding transaction. KEY SHARE lets renewals pass and makes a takeover wait for this transaction.
CREATE FUNCTION dagmaster.hold_shards(held_by text, shards smallint[], epochs bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held integer;
BEGIN
    SELECT count(*) INTO held FROM (
        SELECT 1 FROM dagmaster.shard s JOIN unnest(shards, epochs) AS mine (shard, epoch) USING (shard)
        WHERE s.owner = held_by AND s.epoch = mine.epoch ORDER BY s.shard FOR KEY SHARE OF s) AS locked;
    IF held <> cardinality(shards) THEN
        RAISE EXCEPTION 'shards are no longer held by %', held_by USING ERRCODE = 'DM002';
    END IF;
END $$;

-- The embedded catalog: plain rows with what a search needs beside the document.
CREATE TABLE catalog.collection (
    id            text PRIMARY KEY,
    document      jsonb NOT NULL,
    attempt_token text,
    updated_at    timestamptz NOT NULL
);
CREATE TABLE catalog.item (
    collection_id text NOT NULL REFERENCES catalog.collection (id),
    id            text NOT NULL,
    west          double precision NOT NULL,
    south         double precision NOT NULL,
    east          double precision NOT NULL,
    north         double precision NOT NULL,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    document      jsonb NOT NULL,
    attempt_token text,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (collection_id, id)
);
CREATE INDEX item_by_time ON catalog.item (starts_at, collection_id, id);
