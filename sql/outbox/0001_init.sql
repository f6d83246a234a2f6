-- outbox 1: the tables between the applications that commit events and the relay that publishes them.
-- For Postgres 13 and later. Every name is qualified, so the search_path of whoever applies it does not matter.

-- CREATE SCHEMA IF NOT EXISTS wants CREATE on the database even when there is nothing to create; this way a DBA may
-- create the schema beforehand for a role that cannot.
DO $$
BEGIN
    IF pg_catalog.to_regnamespace('outbox') IS NULL THEN
        CREATE SCHEMA outbox;
    END IF;
END
$$;

COMMENT ON SCHEMA outbox IS
    'Transactional outbox: events committed together with business rows, published to Kafka by outbox-relay.';

-- ---- outbox.message: the queue ----------------------------------------------------------------------------------

-- INSERT and DELETE only: there is no status column, so no row is ever rewritten. The primary key is the only index;
-- the relay reads in id order, and a second index would cost every INSERT and every DELETE.
-- The names of the constraints are what a writer sees when a row is refused, so each one states its rule.
CREATE TABLE outbox.message (
    -- CACHE 1: a session that caches ids would insert low ids long after higher ones were read.
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    lane smallint NOT NULL GENERATED ALWAYS AS (
        (CASE WHEN key IS NULL THEN id & 63 ELSE pg_catalog.hashtextextended(key, 0) & 63 END)::smallint
    ) STORED,
    event_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    topic text NOT NULL,
    key text,
    payload bytea,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT message_pkey PRIMARY KEY (id),

    -- Kafka's rule for names. The length is a test of its own: a counted pattern is slow to compile in each session.
    CONSTRAINT "topic is 1 to 249 of a-z A-Z 0-9 . _ - and is not . or .." CHECK (
        pg_catalog.octet_length(topic) BETWEEN 1 AND 249
        AND topic COLLATE "C" !~ '[^a-zA-Z0-9._-]'
        AND topic NOT IN ('.', '..')
    ),
    CONSTRAINT "topic does not begin with __ (internal to Kafka)" CHECK (
        pg_catalog.left(topic, 2) <> '__'
    ),
    CONSTRAINT "key is at most 16 KiB" CHECK (
        pg_catalog.octet_length(key) <= 16384
    ),
    -- Brokers take 1 MiB unless told otherwise, and rarely more than a few tens of MiB. The relay must hold at least
    -- one whole message in memory, so there has to be some bound, and this one is far above what a broker is set to.
    CONSTRAINT "payload is at most 64 MiB" CHECK (
        pg_catalog.octet_length(payload) <= 67108864
    ),
    -- "strict", because a lax path looks into arrays and would let {"a": ["b"]} pass. The comparison with '{}' comes
    -- first in this and the next two: most rows carry no headers and then pay for nothing else.
    CONSTRAINT "headers is an object of strings" CHECK (
        headers = '{}'
        OR (
            pg_catalog.jsonb_typeof(headers) = 'object'
            AND NOT pg_catalog.jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')
        )
    ),
    CONSTRAINT "headers is at most 32 KiB as text" CHECK (
        headers = '{}' OR pg_catalog.octet_length(headers::text) <= 32768
    ),
    CONSTRAINT "headers id and created_at are set by the relay" CHECK (
        headers = '{}' OR (headers -> 'id' IS NULL AND headers -> 'created_at' IS NULL)
    )
) WITH (
    -- A queue turns over many times its own size, so a share of the table says nothing: vacuum after a number of
    -- dead rows, however large the backlog is.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    -- Inserted rows: marks a growing backlog as visible once, so that later vacuums skip those pages.
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    -- Never throttled: dead rows must go faster than they come, and the table is small and cached.
    autovacuum_vacuum_cost_delay = 0,
    -- Giving empty pages back takes an ACCESS EXCLUSIVE lock, which stops every writer, and the next burst needs the
    -- pages again.
    vacuum_truncate = off,
    -- The statistics hardly matter (there is one index and one way to read), so they are refreshed by rows, rarely.
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    -- Large payloads live in the TOAST table and die as fast.
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_cost_delay = 0,
    toast.vacuum_truncate = off
);

COMMENT ON TABLE outbox.message IS
    'Events that are committed and not yet acknowledged by Kafka. Applications insert, the relay deletes; nobody updates.';
COMMENT ON COLUMN outbox.message.id IS
    'Order of publication within a key. Drawn at INSERT, so it follows commit order only where writers of one key serialise.';
COMMENT ON COLUMN outbox.message.lane IS
    'The key''s lane, 0 to 63, by hash; rows without a key are spread by id. A lane has one publisher at a time.';
COMMENT ON COLUMN outbox.message.event_id IS
    'Identity of the event, sent as the record header "id": consumers recognise duplicates by it.';
COMMENT ON COLUMN outbox.message.topic IS 'Kafka topic, 1 to 249 bytes.';
COMMENT ON COLUMN outbox.message.key IS
    'Kafka record key, at most 16384 bytes of UTF-8. NULL: no key, and no order among such events.';
COMMENT ON COLUMN outbox.message.payload IS
    'Kafka record value, any bytes, at most 67108864. NULL is a tombstone; an empty value is an empty record.';
COMMENT ON COLUMN outbox.message.headers IS
    'Kafka record headers: a JSON object of strings, at most 32768 bytes as text. "id" and "created_at" are the relay''s.';
COMMENT ON COLUMN outbox.message.created_at IS
    'When the row was inserted, by the database''s clock; sent as the record header "created_at".';

-- ---- outbox.publish: the convenient way in ----------------------------------------------------------------------

-- Three overloads, so that jsonb, text and bytea all go in without a cast; a plain literal or NULL resolves to text.
-- SECURITY INVOKER: the caller's own INSERT privilege counts. The event id is made here rather than read back with
-- RETURNING, which would require SELECT on the table. PL/pgSQL, because it keeps the INSERT's plan.
CREATE FUNCTION outbox.publish(topic text, key text, payload bytea, headers jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
AS $$
DECLARE
    new_event_id CONSTANT uuid := pg_catalog.gen_random_uuid();
BEGIN
    INSERT INTO outbox.message (event_id, topic, key, payload, headers)
    VALUES (new_event_id, publish.topic, publish.key, publish.payload, publish.headers);
    RETURN new_event_id;
END
$$;

CREATE FUNCTION outbox.publish(topic text, key text, payload text, headers jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
AS $$
DECLARE
    new_event_id CONSTANT uuid := pg_catalog.gen_random_uuid();
BEGIN
    INSERT INTO outbox.message (event_id, topic, key, payload, headers)
    VALUES (new_event_id, publish.topic, publish.key, pg_catalog.convert_to(publish.payload, 'UTF8'), publish.headers);
    RETURN new_event_id;
END
$$;

CREATE FUNCTION outbox.publish(topic text, key text, payload jsonb, headers jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
AS $$
DECLARE
    new_event_id CONSTANT uuid := pg_catalog.gen_random_uuid();
BEGIN
    INSERT INTO outbox.message (event_id, topic, key, payload, headers)
    VALUES (new_event_id, publish.topic, publish.key, pg_catalog.convert_to(publish.payload::text, 'UTF8'), publish.headers);
    RETURN new_event_id;
END
$$;

COMMENT ON FUNCTION outbox.publish(text, text, bytea, jsonb) IS
    'Adds one event whose payload is these bytes (NULL: tombstone) and returns its event id. Call it in the business transaction.';
COMMENT ON FUNCTION outbox.publish(text, text, text, jsonb) IS
    'Adds one event whose payload is this text in UTF-8 (NULL: tombstone) and returns its event id. Call it in the business transaction.';
COMMENT ON FUNCTION outbox.publish(text, text, jsonb, jsonb) IS
    'Adds one event whose payload is this JSON as UTF-8 text (NULL: tombstone) and returns its event id. Call it in the business transaction.';

REVOKE EXECUTE ON FUNCTION outbox.publish(text, text, bytea, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION outbox.publish(text, text, text, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION outbox.publish(text, text, jsonb, jsonb) FROM PUBLIC;

-- ---- outbox.lane and outbox.relay: who publishes what -----------------------------------------------------------

-- Rewritten every second or so by each worker. Room on the page and no index on what changes: every update is a HOT
-- update, cleaned up by the next one, and the autovacuum settings only help out.
CREATE TABLE outbox.lane (
    lane smallint NOT NULL,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',

    CONSTRAINT lane_pkey PRIMARY KEY (lane),
    CONSTRAINT "lane is 0 to 63" CHECK (lane BETWEEN 0 AND 63)
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    vacuum_truncate = off
);

INSERT INTO outbox.lane (lane) SELECT n FROM pg_catalog.generate_series(0, 63) AS n;

COMMENT ON TABLE outbox.lane IS
    'One row per lane, 64 in all: the lease that lets one worker publish the lane''s messages. The number of rows is fixed.';
COMMENT ON COLUMN outbox.lane.lane IS 'Lane number, 0 to 63, as in outbox.message.lane.';
COMMENT ON COLUMN outbox.lane.owner IS 'The worker that publishes this lane (outbox.relay.id). NULL: released.';
COMMENT ON COLUMN outbox.lane.epoch IS 'Goes up by one whenever the owner changes, so that a former owner can be told from the current one.';
COMMENT ON COLUMN outbox.lane.expires_at IS
    'The lease ends here, by the database''s clock, unless renewed; afterwards any worker may take the lane.';

CREATE TABLE outbox.relay (
    id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT relay_pkey PRIMARY KEY (id)
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    vacuum_truncate = off
);

COMMENT ON TABLE outbox.relay IS 'One row per living worker of a relay; they share the lanes by counting these rows.';
COMMENT ON COLUMN outbox.relay.id IS 'Drawn anew by each worker at its start.';
COMMENT ON COLUMN outbox.relay.host IS 'Host name of the process.';
COMMENT ON COLUMN outbox.relay.pid IS 'Process id on that host.';
COMMENT ON COLUMN outbox.relay.version IS 'Version of outbox-relay.';
COMMENT ON COLUMN outbox.relay.started_at IS 'When the worker joined, by the database''s clock.';
COMMENT ON COLUMN outbox.relay.seen_at IS 'Last sign of life, by the database''s clock. Old: the worker is gone.';

-- ---- outbox.dead_letter: what can never be published ------------------------------------------------------------

-- Its own id, because a message id may be issued again after a failover. Listing goes by id, which is the order of
-- arrival, so no index by time is needed. No checks: whatever was refused must fit in here.
CREATE TABLE outbox.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY,
    message_id bigint NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    key text,
    payload bytea,
    headers jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    error_code text NOT NULL,
    error_text text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT dead_letter_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE outbox.dead_letter IS
    'Messages that can never be published as they are: moved here, whole, in the transaction that deletes them from outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.id IS 'Order of arrival here.';
COMMENT ON COLUMN outbox.dead_letter.message_id IS 'outbox.message.id of the row as it was.';
COMMENT ON COLUMN outbox.dead_letter.event_id IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.topic IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.key IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.payload IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.headers IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.created_at IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.dead_letter.error_code IS 'Kafka''s name of the error, such as MSG_SIZE_TOO_LARGE, or the relay''s own.';
COMMENT ON COLUMN outbox.dead_letter.error_text IS 'The error in words.';
COMMENT ON COLUMN outbox.dead_letter.attempts IS 'How often publishing was tried. An outage is not an attempt.';
COMMENT ON COLUMN outbox.dead_letter.first_failed_at IS 'First failed attempt, by the database''s clock.';
COMMENT ON COLUMN outbox.dead_letter.last_failed_at IS 'Last failed attempt, by the database''s clock.';

-- ---- outbox.control: what an operator told the relays -----------------------------------------------------------

CREATE TABLE outbox.control (
    topic text NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    max_rows_per_second integer,
    reason text,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT control_pkey PRIMARY KEY (topic),
    CONSTRAINT "max_rows_per_second is above 0 (NULL: no override)" CHECK (max_rows_per_second > 0)
);

COMMENT ON TABLE outbox.control IS 'Pauses and rate overrides. They survive restarts and hold for every relay of this database.';
COMMENT ON COLUMN outbox.control.topic IS 'The topic this row is about; * is everything.';
COMMENT ON COLUMN outbox.control.paused IS 'True: nothing is published to it, its rows wait.';
COMMENT ON COLUMN outbox.control.max_rows_per_second IS 'Ceiling in rows per second for all relays together; NULL: as configured.';
COMMENT ON COLUMN outbox.control.reason IS 'Why, in the operator''s words.';
COMMENT ON COLUMN outbox.control.changed_by IS 'The database role that changed it last.';
COMMENT ON COLUMN outbox.control.changed_at IS 'When it was changed last, by the database''s clock.';

-- ---- outbox.migration: what has been applied --------------------------------------------------------------------

CREATE TABLE outbox.migration (
    module text NOT NULL,
    version integer NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT migration_pkey PRIMARY KEY (module, version)
);

COMMENT ON TABLE outbox.migration IS 'The migrations that were applied, one row each. Written by "outbox-relay migrate".';
COMMENT ON COLUMN outbox.migration.module IS 'Folder of the migration: outbox, and later modules beside it.';
COMMENT ON COLUMN outbox.migration.version IS 'Number of the migration within its module, from 1.';
COMMENT ON COLUMN outbox.migration.checksum IS 'SHA-256 of the migration''s text in hex: an edited migration is refused.';
COMMENT ON COLUMN outbox.migration.applied_at IS 'When, by the database''s clock.';
