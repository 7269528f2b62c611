-- An account's owner can agree that owners see single requests of members. The release before gives no such consent and
-- goes by none: it shows members' requests to nobody else.
ALTER TABLE consent DROP CONSTRAINT consent_purpose_check;
ALTER TABLE consent ADD CONSTRAINT consent_purpose_check CHECK (purpose IN (
    'training', 'benchmarking', 'provider_retention', 'debug_capture', 'product_mail', 'member_requests'
));
