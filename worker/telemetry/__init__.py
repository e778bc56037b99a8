"""What the services tell of themselves: metrics for a scrape, spans for an OTLP receiver, a line a batch. None of it can stop a batch."""
