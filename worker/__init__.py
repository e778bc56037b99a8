"""System of record of an SRE organisation: intents in from Kafka, state in PostgreSQL, facts out through its WAL."""
