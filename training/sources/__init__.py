"""A shop's data in, the canonical tables out; `stratagem ingest` calls shop.ingest, training calls shop.read_shop."""
