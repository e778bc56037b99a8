-- The read side: schema sre_query, one function an operation. What it reads of slo is all but the ledger's sums.

CREATE SCHEMA sre_query;
COMMENT ON SCHEMA sre_query IS
    'Reads of committed state. A wrong argument raises SRE01 TENANT_REQUIRED, SRE02 PAGE_SIZE_INVALID or SRE03 PAGE_TOKEN_INVALID, '
    'SQLSTATE and code; the message starts with the code.';

CREATE INDEX slo_by_creation ON slo (tenant_id, created_at, slo_id);

CREATE FUNCTION sre_query.require_tenant(tenant text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF (tenant COLLATE "C" ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE01', MESSAGE = 'TENANT_REQUIRED: tenant must be present and well-formed';
    END IF;
END $$;
COMMENT ON FUNCTION sre_query.require_tenant IS 'Raises SRE01 unless the tenant has the shape of one; whether it exists is not asked.';

CREATE FUNCTION sre_query.page_token(list text, tenant text, created_at timestamptz, aggregate_id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT left(encode(sha256(convert_to(concat_ws(E'\n', list, tenant, micros, aggregate_id), 'UTF8')), 'hex'), 16)
        || '_' || micros || '_' || aggregate_id
    FROM (SELECT (extract(epoch FROM created_at) * 1000000)::bigint AS micros) AS instant;
END;
COMMENT ON FUNCTION sre_query.page_token IS
    'A row''s place in one list of one tenant; the digest tells a token from a mistaken one, it keeps no secret. Null for a null place.';

CREATE FUNCTION sre_query.page_start(
    list text, tenant text, page_size integer, after text, OUT created_at timestamptz, OUT aggregate_id text
)
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    place text[];
BEGIN
    PERFORM sre_query.require_tenant(tenant);
    IF page_size IS NULL OR page_size NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE02', MESSAGE = 'PAGE_SIZE_INVALID: page_size must be 1 to 200';
    END IF;
    IF after IS NULL THEN
        created_at := '-infinity';
        aggregate_id := '';
        RETURN;
    END IF;
    place := regexp_match(after COLLATE "C", '^[0-9a-f]{16}_(-[0-9]{1,17}|[0-9]{1,18})_([a-z0-9-]{1,64})$');
    created_at := timestamptz 'epoch' + (place[1] || ' microseconds')::interval;
    aggregate_id := place[2];
    IF after IS DISTINCT FROM sre_query.page_token(list, tenant, created_at, aggregate_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE03', MESSAGE = 'PAGE_TOKEN_INVALID: after must be a token of this tenant''s list';
    END IF;
END $$;
COMMENT ON FUNCTION sre_query.page_start IS 'The place in a list behind which a page begins; raises SRE01, SRE02 or SRE03.';

CREATE TYPE sre_query.slo AS (
    tenant_id text,
    slo_id text,
    version bigint,
    created_at timestamptz,
    updated_at timestamptz,
    name text,
    description text,
    owner text,
    scope text,
    target numeric(9, 6),
    "window" text,
    sli_good text,
    sli_total text,
    budgeting_method text,
    slice_seconds integer,
    slice_target numeric(9, 6),
    budget_status text,
    current_budget_remaining numeric(18, 6),
    budget_consumed numeric(18, 6),
    as_of timestamptz,
    measured_from timestamptz,
    page_token text
);
COMMENT ON TYPE sre_query.slo IS
    'An SLO''s definition and error budget; target, remaining and consumed in percent. With page_token list_slos goes on behind the row.';

CREATE FUNCTION sre_query.get_slo(tenant text, slo_id text) RETURNS SETOF sre_query.slo
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT
        slo.tenant_id, slo.slo_id, slo.version, slo.created_at, slo.updated_at, slo.name, slo.description, slo.owner, slo.scope,
        slo.target, slo."window", slo.sli_good, slo.sli_total, slo.budgeting_method, slo.slice_seconds, slo.slice_target,
        slo.budget_status, slo.current_budget_remaining, slo.budget_consumed, slo.as_of, slo.measured_from,
        sre_query.page_token('slo', slo.tenant_id, slo.created_at, slo.slo_id)
    FROM slo
    WHERE slo.tenant_id = tenant AND slo.slo_id = get_slo.slo_id;
END;
COMMENT ON FUNCTION sre_query.get_slo IS 'The SLO, or no row. Raises SRE01.';

CREATE FUNCTION sre_query.list_slos(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL) RETURNS SETOF sre_query.slo
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
BEGIN ATOMIC
    -- Lateral, so that the arguments are checked before a row is read, and the order of the index is that of the page.
    SELECT page.*
    FROM sre_query.page_start('slo', tenant, page_size, after) AS start
    CROSS JOIN LATERAL (
        SELECT
            slo.tenant_id, slo.slo_id, slo.version, slo.created_at, slo.updated_at, slo.name, slo.description, slo.owner, slo.scope,
            slo.target, slo."window", slo.sli_good, slo.sli_total, slo.budgeting_method, slo.slice_seconds, slo.slice_target,
            slo.budget_status, slo.current_budget_remaining, slo.budget_consumed, slo.as_of, slo.measured_from,
            sre_query.page_token('slo', slo.tenant_id, slo.created_at, slo.slo_id)
        FROM slo
        WHERE slo.tenant_id = tenant AND (slo.created_at, slo.slo_id) > (start.created_at, start.aggregate_id)
        ORDER BY slo.created_at, slo.slo_id
        LIMIT page_size
    ) AS page;
END;
COMMENT ON FUNCTION sre_query.list_slos IS
    'A tenant''s SLOs by (created_at, slo_id), those behind the token `after`, at most page_size. Raises SRE01, SRE02 or SRE03.';
