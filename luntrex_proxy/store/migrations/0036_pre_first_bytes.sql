-- How long streamed answers took to begin, as counts by hour: what half and nearly all of them took can be said of a
-- month of millions of requests without reading them. A bucket is an eighth of a doubling of the microseconds.
CREATE TABLE first_byte (
    account_id bigint NOT NULL,
    at timestamptz NOT NULL,
    bucket smallint NOT NULL,
    answers bigint NOT NULL,
    PRIMARY KEY (account_id, at, bucket)
);
COMMENT ON TABLE first_byte IS 'purpose: how fast answers begin, as counts | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN first_byte.account_id IS 'purpose: whose answers | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN first_byte.at IS 'purpose: start of the hour | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN first_byte.bucket IS 'purpose: eighths of doublings of the microseconds to the first byte | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN first_byte.answers IS 'purpose: how many streamed answers began within it | basis: contract | retention: usage | subject: account_id';
