-- Views folded from the decision topics. Everything here can be thrown away and rebuilt from the log.
CREATE SCHEMA view_v1;

-- How far each partition is folded; written in the same transaction as the rows.
CREATE TABLE view_v1.position (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    seq bigint NOT NULL,
    next_intent_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE view_v1.drops (
    id uuid PRIMARY KEY,
    creator_id uuid NOT NULL,
    product_id uuid NOT NULL,
    title text NOT NULL,
    status text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    time_zone text,
    currency text NOT NULL,
    limit_per_user integer,
    hold_seconds integer NOT NULL,
    low_stock_threshold bigint NOT NULL,
    payment_required boolean NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    opened_at timestamptz,
    ended_at timestamptz,
    seq bigint NOT NULL
);
CREATE INDEX drops_by_status ON view_v1.drops (status, starts_at, id);
CREATE INDEX drops_by_creator ON view_v1.drops (creator_id, starts_at DESC, id);

-- A negative counter is impossible; the checks are an alarm, not a rule.
CREATE TABLE view_v1.variants (
    drop_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL DEFAULT '',
    price bigint NOT NULL DEFAULT 0,
    initial bigint NOT NULL,
    available bigint NOT NULL CHECK (available >= 0),
    reserved bigint NOT NULL CHECK (reserved >= 0),
    sold bigint NOT NULL CHECK (sold >= 0),
    seq bigint NOT NULL,
    PRIMARY KEY (drop_id, id)
);

CREATE TABLE view_v1.orders (
    id uuid PRIMARY KEY,
    drop_id uuid NOT NULL,
    user_id uuid NOT NULL,
    product_id uuid NOT NULL,
    status text NOT NULL,
    reason text,
    currency text NOT NULL,
    total bigint NOT NULL,
    payment_method text,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    hold_expires_at timestamptz,
    held_order_id uuid,
    missing jsonb NOT NULL,
    intent_offset bigint NOT NULL,
    seq bigint NOT NULL
);
CREATE INDEX orders_by_user ON view_v1.orders (user_id, created_at DESC, id);
CREATE INDEX orders_by_drop ON view_v1.orders (drop_id, status);

CREATE TABLE view_v1.order_lines (
    order_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    qty integer NOT NULL,
    unit_price bigint NOT NULL,
    PRIMARY KEY (order_id, variant_id)
);

CREATE TABLE view_v1.follows (
    creator_id uuid NOT NULL,
    user_id uuid NOT NULL,
    following boolean NOT NULL,
    since timestamptz NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (creator_id, user_id)
);
CREATE INDEX follows_of_creator ON view_v1.follows (creator_id, since DESC, user_id) WHERE following;
CREATE INDEX follows_by_user ON view_v1.follows (user_id, since DESC, creator_id) WHERE following;

CREATE TABLE view_v1.creators (
    id uuid PRIMARY KEY,
    followers bigint NOT NULL CHECK (followers >= 0),
    seq bigint NOT NULL
);
