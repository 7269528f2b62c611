-- What an account is charged for a month, frozen when the month is closed. What comes later, or is repriced, is a line of
-- the next statement, so that all lines of a month's usage together are what the ledger says of it.
CREATE TABLE statement (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    month date NOT NULL CHECK (month = date_trunc('month', month)),
    closed_at timestamptz NOT NULL DEFAULT now(),
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
    PRIMARY KEY (account_id, month)
);
COMMENT ON TABLE statement IS 'purpose: what an account is charged for a month, once the month is closed | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.account_id IS 'purpose: whose statement | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.month IS 'purpose: first day of the UTC month | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.closed_at IS 'purpose: when it was frozen | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.requests IS 'purpose: number of requests | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.cached_input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.cache_write_5m_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.cache_write_1h_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.input_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.output_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.reasoning_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.output_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement.cost_pico IS 'purpose: billing sum in pico-dollars | basis: legal_obligation | retention: account | subject: account_id';

CREATE TABLE statement_line (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    month date NOT NULL,
    number integer NOT NULL,
    usage_month date NOT NULL CHECK (usage_month = date_trunc('month', usage_month) AND usage_month <= month),
    model text NOT NULL,
    labels jsonb NOT NULL CHECK (jsonb_typeof(labels) = 'object'),
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
    PRIMARY KEY (account_id, month, number),
    FOREIGN KEY (account_id, month) REFERENCES statement ON DELETE CASCADE
);
CREATE INDEX statement_line_usage ON statement_line (account_id, usage_month);
COMMENT ON TABLE statement_line IS 'purpose: what a statement is made up of | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.account_id IS 'purpose: whose statement | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.month IS 'purpose: which statement | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.number IS 'purpose: place in the statement | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.usage_month IS 'purpose: the month of the usage; an earlier one: what came late or was repriced | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.model IS 'purpose: catalogue name of the model, or other | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.labels IS 'purpose: labels that the keys carried | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.requests IS 'purpose: number of requests | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.cached_input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.cache_write_5m_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.cache_write_1h_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.input_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.output_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.reasoning_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.output_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: account | subject: account_id';
COMMENT ON COLUMN statement_line.cost_pico IS 'purpose: billing sum in pico-dollars | basis: legal_obligation | retention: account | subject: account_id';

ALTER TABLE billing.invoice ADD COLUMN month date CHECK (month = date_trunc('month', month));
COMMENT ON COLUMN billing.invoice.month IS 'purpose: which month it bills, where it bills one | basis: legal_obligation | retention: invoice | subject: account_id';
