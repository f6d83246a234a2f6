-- outbox 2: the operator's hand on the relays (pause, rate, drain, dead letters, blocked keys), and who did what.

-- ---- outbox.audit: who did what, and why ------------------------------------------------------------------------

CREATE TABLE outbox.audit (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    db_role text NOT NULL DEFAULT session_user,
    actor text DEFAULT nullif(pg_catalog.current_setting('outbox.actor', true), ''),
    client text NOT NULL DEFAULT coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'local'),
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    reason text,

    CONSTRAINT audit_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE outbox.audit IS
    'What operators did, one line each, written in the transaction that did it. The relay''s role may add lines, not change or delete them.';
COMMENT ON COLUMN outbox.audit.id IS 'Order of arrival.';
COMMENT ON COLUMN outbox.audit.at IS 'When, by the database''s clock.';
COMMENT ON COLUMN outbox.audit.db_role IS 'The role that was logged in.';
COMMENT ON COLUMN outbox.audit.actor IS
    'Who that was on the machine outbox-relay ran on, as user@host, by its own word; NULL: not done with outbox-relay.';
COMMENT ON COLUMN outbox.audit.client IS 'The network address it came from; local: the server''s own socket.';
COMMENT ON COLUMN outbox.audit.action IS 'pause, resume, rate, control (anything else in outbox.control), dlq_requeue, dlq_discard, unblock.';
COMMENT ON COLUMN outbox.audit.target IS 'The topic it was about; * is everything.';
COMMENT ON COLUMN outbox.audit.detail IS 'What changed: of outbox.control old and new, of dead letters and keys which ones. Never a payload.';
COMMENT ON COLUMN outbox.audit.reason IS 'Why, in the operator''s words.';

-- What a line says of its origin is not for its writer to choose: only the defaults count, whatever the INSERT says.
CREATE FUNCTION outbox.audit_stamp()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_role := session_user;
    NEW.client := coalesce(host(inet_client_addr()), 'local');
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION outbox.audit_stamp() IS 'Trigger of outbox.audit: time, role and address of a line are the session''s own.';
REVOKE EXECUTE ON FUNCTION outbox.audit_stamp() FROM PUBLIC;

CREATE TRIGGER audit_stamp BEFORE INSERT ON outbox.audit FOR EACH ROW EXECUTE FUNCTION outbox.audit_stamp();

-- ---- outbox.control: revisions, and an audit line for every change ----------------------------------------------

-- Rates of single topics were accepted and never followed.
UPDATE outbox.control SET max_rows_per_second = NULL WHERE topic <> '*';

ALTER TABLE outbox.control
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT "max_rows_per_second is for topic * only" CHECK (topic = '*' OR max_rows_per_second IS NULL);

COMMENT ON COLUMN outbox.control.revision IS
    'Goes up with every change of the table, in the order of commits: a worker that has acted on it has acted on all before it.';

CREATE SEQUENCE outbox.control_revision_seq OWNED BY outbox.control.revision;

COMMENT ON SEQUENCE outbox.control_revision_seq IS 'Draws outbox.control.revision.';

-- One transaction at a time, from here to its end: otherwise a lower revision could commit after a higher one, and a
-- worker that has seen the higher one would pass for having seen both. Per statement, because a row's trigger runs
-- when the row is locked already, and then two transactions could wait for each other.
CREATE FUNCTION outbox.control_serialize()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('outbox.control', 0));
    RETURN NULL;
END
$$;

-- SECURITY DEFINER here and below: whoever may change the table, by whatever grant, is recorded.
CREATE FUNCTION outbox.control_stamp()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.changed_by := session_user;
    NEW.changed_at := clock_timestamp();
    NEW.revision := nextval('outbox.control_revision_seq');
    RETURN NEW;
END
$$;

CREATE FUNCTION outbox.control_audit()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A row that is not there pauses nothing and limits nothing. OLD and NEW are NULL where there is none.
    paused_changes CONSTANT boolean := coalesce(OLD.paused, false) <> coalesce(NEW.paused, false);
    rate_changes CONSTANT boolean := OLD.max_rows_per_second IS DISTINCT FROM NEW.max_rows_per_second;
BEGIN
    INSERT INTO outbox.audit (action, target, detail, reason)
    VALUES (
        CASE
            WHEN paused_changes AND NOT rate_changes THEN CASE WHEN coalesce(NEW.paused, false) THEN 'pause' ELSE 'resume' END
            WHEN rate_changes AND NOT paused_changes THEN 'rate'
            ELSE 'control'
        END,
        coalesce(NEW.topic, OLD.topic),
        jsonb_build_object('old', to_jsonb(OLD) - 'topic', 'new', to_jsonb(NEW) - 'topic'),
        NEW.reason
    );
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION outbox.control_serialize() IS 'Trigger of outbox.control: changes commit in the order of their revisions.';
COMMENT ON FUNCTION outbox.control_stamp() IS 'Trigger of outbox.control: who, when, and the next revision.';
COMMENT ON FUNCTION outbox.control_audit() IS 'Trigger of outbox.control: a line in outbox.audit for each row that changes.';

REVOKE EXECUTE ON FUNCTION outbox.control_serialize() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION outbox.control_stamp() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION outbox.control_audit() FROM PUBLIC;

CREATE TRIGGER control_serialize BEFORE INSERT OR UPDATE OR DELETE ON outbox.control
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.control_serialize();
CREATE TRIGGER control_stamp BEFORE INSERT OR UPDATE ON outbox.control
    FOR EACH ROW EXECUTE FUNCTION outbox.control_stamp();
CREATE TRIGGER control_audit AFTER INSERT OR UPDATE OR DELETE ON outbox.control
    FOR EACH ROW EXECUTE FUNCTION outbox.control_audit();

-- ---- outbox.relay: what each worker is at -----------------------------------------------------------------------

ALTER TABLE outbox.relay
    ADD COLUMN lease_ttl_ms integer NOT NULL DEFAULT 3000,
    ADD COLUMN in_flight_rows integer NOT NULL DEFAULT 0,
    ADD COLUMN control_revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN attempting_from bigint,
    ADD COLUMN attempting_upto bigint;

COMMENT ON TABLE outbox.relay IS
    'One row per worker of a relay, kept for an hour after its last sign of life; the living ones share the lanes.';
COMMENT ON COLUMN outbox.relay.lease_ttl_ms IS 'A worker not seen for this long is not living any more.';
COMMENT ON COLUMN outbox.relay.in_flight_rows IS 'Rows handed to Kafka whose deletion is not done yet, as of seen_at.';
COMMENT ON COLUMN outbox.relay.control_revision IS 'The highest outbox.control.revision this worker has acted on.';
COMMENT ON COLUMN outbox.relay.attempting_from IS
    'Lowest message id this worker is trying with care, because a worker ended while it was in flight. NULL: none.';
COMMENT ON COLUMN outbox.relay.attempting_upto IS 'Highest such message id. NULL: none.';

-- ---- outbox.blocked_key: keys that wait for an operator ---------------------------------------------------------

-- Written where the relay's poison.policy is block-key. Small: the relay reads around it only while it is not empty.
CREATE TABLE outbox.blocked_key (
    topic text NOT NULL,
    key text NOT NULL,
    lane smallint NOT NULL,
    message_id bigint NOT NULL,
    event_id uuid NOT NULL,
    error_code text NOT NULL,
    error_text text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    blocked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),

    CONSTRAINT blocked_key_pkey PRIMARY KEY (topic, key)
);

COMMENT ON TABLE outbox.blocked_key IS
    'Keys whose first row cannot be published: it and all later rows of the key wait in outbox.message. Deleting a line releases the key.';
COMMENT ON COLUMN outbox.blocked_key.topic IS 'As in outbox.message.';
COMMENT ON COLUMN outbox.blocked_key.key IS 'As in outbox.message. Rows without a key have no order to keep, and keys above 2000 bytes fit no index: those rows become dead letters.';
COMMENT ON COLUMN outbox.blocked_key.lane IS 'The key''s lane.';
COMMENT ON COLUMN outbox.blocked_key.message_id IS 'outbox.message.id of the row that cannot be published.';
COMMENT ON COLUMN outbox.blocked_key.event_id IS 'Its event id.';
COMMENT ON COLUMN outbox.blocked_key.error_code IS 'Kafka''s name of the error, such as MSG_SIZE_TOO_LARGE, or the relay''s own.';
COMMENT ON COLUMN outbox.blocked_key.error_text IS 'The error in words.';
COMMENT ON COLUMN outbox.blocked_key.attempts IS 'How often publishing was tried. An outage is not an attempt.';
COMMENT ON COLUMN outbox.blocked_key.blocked_at IS 'When, by the database''s clock.';

-- ---- outbox.requeue: a dead letter gets another chance ----------------------------------------------------------

-- SECURITY DEFINER, because the relay's role may not insert into outbox.message, and this is the one way it may.
CREATE FUNCTION outbox.requeue(dead_letter_id bigint)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM outbox.dead_letter AS d WHERE d.id = requeue.dead_letter_id
        RETURNING d.event_id, d.topic, d.key, d.payload, d.headers, d.created_at
    )
    INSERT INTO outbox.message (event_id, topic, key, payload, headers, created_at)
    SELECT gone.event_id, gone.topic, gone.key, gone.payload, gone.headers, gone.created_at FROM gone
    RETURNING id
$$;

COMMENT ON FUNCTION outbox.requeue(bigint) IS
    'Moves one dead letter back to outbox.message, as the same event under a new message id, which is returned. NULL: no such dead letter.';
REVOKE EXECUTE ON FUNCTION outbox.requeue(bigint) FROM PUBLIC;
