-- grant_every_tenant --
-- A development server's reader may read any tenant, one in a transaction.
INSERT INTO sre_query.reader_tenant (tenant, reader) VALUES ('*', %(reader)s::regrole) ON CONFLICT DO NOTHING;
