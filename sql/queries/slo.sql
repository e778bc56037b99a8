-- lock_rows --
-- The rows of these SLOs, locked in the one order that all workers take.
SELECT
    tenant_id, slo_id, version, created_at, updated_at, name, description, target, "window", sli_good, sli_total, budgeting_method,
    slice_seconds, slice_target, owner, scope, budget_status, current_budget_remaining, budget_consumed, as_of, measured_from,
    counted_good, counted_total, counted_slices, counted_bad_slices, counted_ratios
FROM slo
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, slo_id) USING (tenant_id, slo_id)
ORDER BY tenant_id, slo_id
FOR UPDATE OF slo;

-- ledger_hours --
-- Those hours of the ledger that the batch can read or change.
SELECT tenant_id, slo_id, hour, slots, good, total, slices, bad_slices, ratios
FROM sli_ledger
JOIN unnest(%(tenant_ids)b::text[], %(slo_ids)b::text[], %(hours)b::timestamptz[]) AS batch (tenant_id, slo_id, hour)
    USING (tenant_id, slo_id, hour);

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO slo (
    tenant_id, slo_id, version, created_at, updated_at, name, description, target, "window", sli_good, sli_total, budgeting_method,
    slice_seconds, slice_target, owner, scope, budget_status, current_budget_remaining, budget_consumed, as_of, measured_from,
    counted_good, counted_total, counted_slices, counted_bad_slices, counted_ratios
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(slo_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(name)b::text[], %(description)b::text[], %(target)b::numeric[], %(window)b::text[], %(sli_good)b::text[], %(sli_total)b::text[],
    %(budgeting_method)b::text[], %(slice_seconds)b::int4[], %(slice_target)b::numeric[], %(owner)b::text[], %(scope)b::text[],
    %(budget_status)b::text[], %(current_budget_remaining)b::numeric[], %(budget_consumed)b::numeric[], %(as_of)b::timestamptz[],
    %(measured_from)b::timestamptz[], %(counted_good)b::int8[], %(counted_total)b::int8[], %(counted_slices)b::int4[],
    %(counted_bad_slices)b::int4[], %(counted_ratios)b::numeric[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them.
UPDATE slo SET
    version = row.version,
    updated_at = row.updated_at,
    name = row.name,
    description = row.description,
    target = row.target,
    "window" = row."window",
    sli_good = row.sli_good,
    sli_total = row.sli_total,
    budgeting_method = row.budgeting_method,
    slice_seconds = row.slice_seconds,
    slice_target = row.slice_target,
    owner = row.owner,
    scope = row.scope,
    budget_status = row.budget_status,
    current_budget_remaining = row.current_budget_remaining,
    budget_consumed = row.budget_consumed,
    as_of = row.as_of,
    measured_from = row.measured_from,
    counted_good = row.counted_good,
    counted_total = row.counted_total,
    counted_slices = row.counted_slices,
    counted_bad_slices = row.counted_bad_slices,
    counted_ratios = row.counted_ratios
FROM unnest(
    %(tenant_id)b::text[], %(slo_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(name)b::text[], %(description)b::text[], %(target)b::numeric[], %(window)b::text[], %(sli_good)b::text[], %(sli_total)b::text[],
    %(budgeting_method)b::text[], %(slice_seconds)b::int4[], %(slice_target)b::numeric[], %(owner)b::text[], %(scope)b::text[],
    %(budget_status)b::text[], %(current_budget_remaining)b::numeric[], %(budget_consumed)b::numeric[], %(as_of)b::timestamptz[],
    %(measured_from)b::timestamptz[], %(counted_good)b::int8[], %(counted_total)b::int8[], %(counted_slices)b::int4[],
    %(counted_bad_slices)b::int4[], %(counted_ratios)b::numeric[]
) AS row (
    tenant_id, slo_id, version, created_at, updated_at, name, description, target, "window", sli_good, sli_total, budgeting_method,
    slice_seconds, slice_target, owner, scope, budget_status, current_budget_remaining, budget_consumed, as_of, measured_from,
    counted_good, counted_total, counted_slices, counted_bad_slices, counted_ratios
)
WHERE slo.tenant_id = row.tenant_id AND slo.slo_id = row.slo_id;

-- update_budgets --
-- Rows that the batch locked and whose definition stands.
UPDATE slo SET
    version = row.version,
    updated_at = row.updated_at,
    budget_status = row.budget_status,
    current_budget_remaining = row.current_budget_remaining,
    budget_consumed = row.budget_consumed,
    as_of = row.as_of,
    measured_from = row.measured_from,
    counted_good = row.counted_good,
    counted_total = row.counted_total,
    counted_slices = row.counted_slices,
    counted_bad_slices = row.counted_bad_slices,
    counted_ratios = row.counted_ratios
FROM unnest(
    %(tenant_id)b::text[], %(slo_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[], %(budget_status)b::text[],
    %(current_budget_remaining)b::numeric[], %(budget_consumed)b::numeric[], %(as_of)b::timestamptz[], %(measured_from)b::timestamptz[],
    %(counted_good)b::int8[], %(counted_total)b::int8[], %(counted_slices)b::int4[], %(counted_bad_slices)b::int4[],
    %(counted_ratios)b::numeric[]
) AS row (
    tenant_id, slo_id, version, updated_at, budget_status, current_budget_remaining, budget_consumed, as_of, measured_from,
    counted_good, counted_total, counted_slices, counted_bad_slices, counted_ratios
)
WHERE slo.tenant_id = row.tenant_id AND slo.slo_id = row.slo_id;

-- save_ledger --
-- The hours whose windows the batch changed.
INSERT INTO sli_ledger (tenant_id, slo_id, hour, slots, good, total, slices, bad_slices, ratios)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(slo_id)b::text[], %(hour)b::timestamptz[], %(slots)b::bytea[], %(good)b::int8[], %(total)b::int8[],
    %(slices)b::int4[], %(bad_slices)b::int4[], %(ratios)b::numeric[]
)
ON CONFLICT (tenant_id, slo_id, hour) DO UPDATE SET
    slots = excluded.slots,
    good = excluded.good,
    total = excluded.total,
    slices = excluded.slices,
    bad_slices = excluded.bad_slices,
    ratios = excluded.ratios;

-- drop_ledger --
-- The hours that went out of the ledger.
DELETE FROM sli_ledger
USING unnest(%(tenant_ids)b::text[], %(slo_ids)b::text[], %(hours)b::timestamptz[]) AS batch (tenant_id, slo_id, hour)
WHERE sli_ledger.tenant_id = batch.tenant_id AND sli_ledger.slo_id = batch.slo_id AND sli_ledger.hour = batch.hour;

-- all_rows --
-- Every SLO, for an audit.
SELECT
    tenant_id, slo_id, version, created_at, updated_at, name, description, target, "window", sli_good, sli_total, budgeting_method,
    slice_seconds, slice_target, owner, scope, budget_status, current_budget_remaining, budget_consumed, as_of, measured_from,
    counted_good, counted_total, counted_slices, counted_bad_slices, counted_ratios
FROM slo;

-- whole_ledger --
-- Every hour of every ledger, for an audit.
SELECT tenant_id, slo_id, hour, slots, good, total, slices, bad_slices, ratios FROM sli_ledger;
