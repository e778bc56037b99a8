package sre.connect;

import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * The headers of a fact or a rejection (docs/contract.md, Envelope) out of the columns that the EventRouter has put into headers.
 *
 * <p>The EventRouter writes a null header for a column that is null, where the contract has none. Records that are no rows of the outbox
 * (heartbeats) are left as they are.
 */
public final class CloudEventHeaders implements Transformation<SourceRecord> {

    private static final String[] OPTIONAL = {"correlation_id", "causation_id", "traceparent", "tracestate", "principal"};

    @Override
    public SourceRecord apply(SourceRecord record) {
        Map<String, Object> columns = new HashMap<>(32);
        for (Header header : record.headers()) {
            columns.put(header.key(), header.value());
        }
        if (!columns.containsKey("ce_time")) {
            return record;
        }
        ConnectHeaders made = new ConnectHeaders();
        made.addString("ce_specversion", "1.0");
        made.addString("ce_id", (String) columns.get("id"));
        made.addString("ce_source", "/sre-domain");
        made.addString("ce_type", (String) columns.get("type"));
        made.addString("ce_time", (String) columns.get("ce_time"));
        if (columns.get("subject") instanceof String subject) {
            made.addString("ce_subject", subject);
        }
        if (columns.get("tenant_id") instanceof String tenant && !tenant.isEmpty()) {
            made.addString("ce_tenantid", tenant);
        }
        made.addString("content-type", "application/avro");
        for (String column : OPTIONAL) {
            if (columns.get(column) instanceof String value) {
                made.addString("ce_" + column.replace("_", ""), value);
            }
        }
        if (columns.get("aggregate_version") instanceof Long version) { // null for a rejection, which belongs to no aggregate
            made.addString("ce_aggregatetype", (String) columns.get("aggregatetype"));
            made.addString("ce_aggregateid", (String) columns.get("aggregateid"));
            made.addString("ce_aggregateversion", version.toString());
        }
        return record.newRecord(
                record.topic(), record.kafkaPartition(), record.keySchema(), record.key(), record.valueSchema(), record.value(),
                record.timestamp(), made);
    }

    @Override
    public ConfigDef config() {
        return new ConfigDef();
    }

    @Override
    public void configure(Map<String, ?> nothing) {}

    @Override
    public void close() {}
}
