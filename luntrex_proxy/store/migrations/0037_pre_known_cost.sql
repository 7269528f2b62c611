-- What a request costs of budgets is what its record says, also where it is an estimate: nothing is counted beside it.
-- No release has used these columns.
UPDATE budget_window SET spent_pico = spent_pico + unknown_pico WHERE unknown_pico > 0;
ALTER TABLE budget_window DROP COLUMN unknown_pico;
ALTER TABLE budget_lease DROP COLUMN unknown_pico;
