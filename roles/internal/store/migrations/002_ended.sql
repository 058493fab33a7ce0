-- What has ended cannot be cancelled; earlier programs left that to be guessed.
UPDATE operation SET cancellable = 0 WHERE state NOT IN ('pending', 'running');
CREATE INDEX audit_time ON audit (time);
CREATE INDEX idempotency_created ON idempotency (created);
