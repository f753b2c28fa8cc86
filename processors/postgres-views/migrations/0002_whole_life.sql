-- Payments, waitlist, pause, restock, archive.
ALTER TABLE view_v1.drops
    ADD COLUMN offer_seconds integer NOT NULL DEFAULT 600,
    ADD COLUMN waitlist boolean NOT NULL DEFAULT false,
    ADD COLUMN payment_attempts integer NOT NULL DEFAULT 3,
    ADD COLUMN archive_at timestamptz;

ALTER TABLE view_v1.variants
    ADD COLUMN restocked bigint NOT NULL DEFAULT 0,
    ADD COLUMN withdrawn bigint NOT NULL DEFAULT 0;

-- `payment_state` is that of the last attempt; `details` has every attempt and the marks that only an order's own page shows.
ALTER TABLE view_v1.orders
    ADD COLUMN offer_expires_at timestamptz,
    ADD COLUMN payment_state text,
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}';
CREATE INDEX orders_waiting ON view_v1.orders (drop_id, intent_offset) WHERE status = 'WAITLISTED';
