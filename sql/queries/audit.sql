-- outcomes --
-- Every outcome, by the record it belongs to.
SELECT tenant_id, intent_id, content_hash, topic, partition, "offset", outcome, code, fact_ids FROM inbox;

-- outbox_ids --
-- Every fact and rejection that was ever to go out.
SELECT id FROM outbox;
