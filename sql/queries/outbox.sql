-- insert_outbox --
-- Appends facts and rejections in the order in which they were decided.
INSERT INTO outbox (
    id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id,
    aggregate_version, ce_time, subject, correlation_id, causation_id, traceparent, tracestate, principal
)
SELECT
    id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id,
    aggregate_version, ce_time, subject, correlation_id, causation_id, traceparent, tracestate, principal
FROM unnest(
    %(id)b::uuid[], %(aggregatetype)b::text[], %(aggregateid)b::text[], %(type)b::text[], %(payload)b::bytea[], %(topic)b::text[],
    %(key)b::bytea[], %(partition)b::int4[], %(tenant_id)b::text[], %(aggregate_version)b::int8[], %(ce_time)b::text[],
    %(subject)b::text[], %(correlation_id)b::text[], %(causation_id)b::text[], %(traceparent)b::text[], %(tracestate)b::text[],
    %(principal)b::text[]
) WITH ORDINALITY AS row (
    id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id,
    aggregate_version, ce_time, subject, correlation_id, causation_id, traceparent, tracestate, principal, place
)
ORDER BY place;
