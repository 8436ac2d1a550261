-- Crashes counted apart from failures, trials of suspects, and idempotency keys: as in PostgreSQL.

-- Executors that died while this task was the only one that can have killed them.
alter table task add column crashes integer not null default 0;
-- Executors that died while this task ran beside others.
alter table task add column suspicions integer not null default 0;
alter table task add column idempotency_key text;

create unique index task_idempotency_key on task (idempotency_key) where idempotency_key is not null;

-- The suspect that runs on trial: if the executor dies, it is to blame.
alter table executor add column trial blob;
-- When it was found dead before its lease had ended. What may run only once is left to it until then.
alter table executor add column dead_at integer;
