-- Every table and column says purpose, legal basis, retention class and subject link, in the form
--   purpose: ... | basis: contract|legal_obligation|legitimate_interest|none | retention: <class> | subject: account|key|none|...
-- Inventory, export, erasure and retention are driven from these comments; tests/store fails when one is missing.
-- `subject` names the column's link to a person or account ("self" when the row is the subject itself).

CREATE TABLE installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id uuid NOT NULL DEFAULT gen_random_uuid(),
    pepper_fingerprint bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation DEFAULT VALUES;
COMMENT ON TABLE installation IS 'purpose: identity of this installation | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN installation.only_row IS 'purpose: keeps the table at one row | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN installation.installation_id IS 'purpose: salt of the lookup hash key | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN installation.pepper_fingerprint IS 'purpose: refuse to start with another pepper | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN installation.created_at IS 'purpose: age of the installation | basis: none | retention: forever | subject: none';

CREATE TABLE account (
    account_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE account IS 'purpose: who keys and usage belong to | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN account.account_id IS 'purpose: link of keys and usage | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN account.name IS 'purpose: name the operator gave the account | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN account.status IS 'purpose: whether keys of the account work | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN account.created_at IS 'purpose: age of the account | basis: contract | retention: account | subject: self';

CREATE TABLE change_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL DEFAULT 0
);
INSERT INTO change_version DEFAULT VALUES;
COMMENT ON TABLE change_version IS 'purpose: order of changes to keys and accounts, so that processes re-read only what is new | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN change_version.only_row IS 'purpose: keeps the table at one row | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN change_version.version IS 'purpose: last change | basis: none | retention: forever | subject: none';

CREATE TABLE api_key (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[0-9A-Za-z]{12}$'),
    account_id bigint NOT NULL REFERENCES account,
    name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    bcrypt_hash text NOT NULL CHECK (bcrypt_hash LIKE '$2b$%'),
    lookup_hash bytea NOT NULL UNIQUE CHECK (octet_length(lookup_hash) = 32),
    pepper_fingerprint bytea NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'revoked')),
    not_before timestamptz,
    expires_at timestamptz,
    rotated_from text REFERENCES api_key,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX api_key_version ON api_key (version);
CREATE INDEX api_key_account ON api_key (account_id);
COMMENT ON TABLE api_key IS 'purpose: authentication of requests | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.key_id IS 'purpose: public part of the key, its name in usage and revocation | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.account_id IS 'purpose: whose key it is | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.name IS 'purpose: name the owner gave the key | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.bcrypt_hash IS 'purpose: proof of the key that no reader can invert | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.lookup_hash IS 'purpose: keyed hash that finds the key in memory | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.pepper_fingerprint IS 'purpose: which pepper made the lookup hash | basis: none | retention: account | subject: none';
COMMENT ON COLUMN api_key.status IS 'purpose: whether the key works | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.not_before IS 'purpose: start of validity | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.expires_at IS 'purpose: end of validity | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.rotated_from IS 'purpose: the key this one replaces | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.revoked_at IS 'purpose: when the key was revoked | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.last_used_at IS 'purpose: find unused keys, written in batches | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.created_at IS 'purpose: age of the key | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.version IS 'purpose: change order for incremental reloads | basis: none | retention: account | subject: none';

-- One row per request of a known account, partitioned by day so that old days are dropped, keyed by account first.
CREATE TABLE usage (
    account_id bigint NOT NULL,
    started_at timestamptz NOT NULL,
    request_id uuid NOT NULL,
    key_id text NOT NULL,
    route text NOT NULL,
    model text NOT NULL,
    upstream text NOT NULL,
    status smallint NOT NULL,
    code text NOT NULL,
    ending text NOT NULL,
    streamed boolean NOT NULL,
    usage_source text NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    input_audio_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    output_audio_tokens bigint NOT NULL,
    cost_pico bigint NOT NULL,
    price_version text NOT NULL,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    events integer NOT NULL,
    attempts smallint NOT NULL,
    duration_us bigint NOT NULL,
    first_byte_us bigint NOT NULL,
    overhead_us bigint NOT NULL,
    PRIMARY KEY (account_id, started_at, request_id)
) PARTITION BY RANGE (started_at);
CREATE INDEX usage_started_at ON usage USING brin (started_at);
COMMENT ON TABLE usage IS 'purpose: usage, billing and routing metrics of one request, metadata only | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.account_id IS 'purpose: whose request it was | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.started_at IS 'purpose: when the request came | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.request_id IS 'purpose: find one request, the value of x-request-id | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.key_id IS 'purpose: which key was used | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.route IS 'purpose: which endpoint | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.model IS 'purpose: catalogue name of the model, or other | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.upstream IS 'purpose: which upstream served it | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.status IS 'purpose: HTTP status sent | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.code IS 'purpose: ok or the reason of refusal or failure | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.ending IS 'purpose: how the request ended | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.streamed IS 'purpose: whether the answer was a stream | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.usage_source IS 'purpose: whether the tokens are reported, estimated or unknown | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.input_tokens IS 'purpose: billing, all input tokens | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.cached_input_tokens IS 'purpose: billing, part of input read from a cache | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.cache_write_5m_tokens IS 'purpose: billing, part of input written to a short cache | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.cache_write_1h_tokens IS 'purpose: billing, part of input written to a long cache | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.input_audio_tokens IS 'purpose: billing, audio part of input | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.output_tokens IS 'purpose: billing, all output tokens | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.reasoning_tokens IS 'purpose: billing, reasoning part of output | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.output_audio_tokens IS 'purpose: billing, audio part of output | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.cost_pico IS 'purpose: billing, cost in pico-dollars | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.price_version IS 'purpose: billing, which prices were used | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.request_bytes IS 'purpose: routing metrics, size of the request body | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.response_bytes IS 'purpose: routing metrics, size of the answer | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.events IS 'purpose: routing metrics, events of the stream | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.attempts IS 'purpose: routing metrics, upstreams asked | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.duration_us IS 'purpose: routing metrics, whole duration in microseconds | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.first_byte_us IS 'purpose: routing metrics, time to the first answer byte in microseconds | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage.overhead_us IS 'purpose: routing metrics, own share of the time in microseconds | basis: contract | retention: usage | subject: account_id';

-- Hourly sums, changed only from rows really inserted into usage, in the same transaction.
CREATE TABLE usage_rollup (
    account_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    key_id text NOT NULL,
    model text NOT NULL,
    upstream text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    input_audio_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    output_audio_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, hour, key_id, model, upstream)
);
COMMENT ON TABLE usage_rollup IS 'purpose: usage and billing totals | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.account_id IS 'purpose: whose usage it is | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.hour IS 'purpose: start of the hour the sums cover | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.key_id IS 'purpose: which key was used | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.model IS 'purpose: catalogue name of the model, or other | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.upstream IS 'purpose: which upstream served it | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.requests IS 'purpose: number of requests | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.input_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.cached_input_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.cache_write_5m_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.cache_write_1h_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.input_audio_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.output_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.reasoning_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.output_audio_tokens IS 'purpose: billing sum | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_rollup.cost_pico IS 'purpose: billing sum in pico-dollars | basis: contract | retention: usage | subject: account_id';

CREATE TABLE spool_position (
    boot_id uuid PRIMARY KEY,
    segment integer NOT NULL,
    byte_offset bigint NOT NULL,
    closed boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE spool_position IS 'purpose: how far each spool directory has been stored, so that a replay changes nothing | basis: none | retention: usage | subject: none';
COMMENT ON COLUMN spool_position.boot_id IS 'purpose: the spool directory | basis: none | retention: usage | subject: none';
COMMENT ON COLUMN spool_position.segment IS 'purpose: segment number stored up to | basis: none | retention: usage | subject: none';
COMMENT ON COLUMN spool_position.byte_offset IS 'purpose: offset in the segment stored up to | basis: none | retention: usage | subject: none';
COMMENT ON COLUMN spool_position.closed IS 'purpose: whether recovery has finished this directory | basis: none | retention: usage | subject: none';
COMMENT ON COLUMN spool_position.updated_at IS 'purpose: age of the position | basis: none | retention: usage | subject: none';
