-- Crashes counted apart from failures, trials of suspects, and idempotency keys.

alter table task
    -- Executors that died while this task was the only one that can have killed them.
    add column crashes smallint not null default 0,
    -- Executors that died while this task ran beside others.
    add column suspicions smallint not null default 0,
    add column idempotency_key text;

-- No column of it ever changes, so claim and settle leave it alone.
create unique index task_idempotency_key on task (idempotency_key) where idempotency_key is not null;

alter table executor
    -- The suspect that runs on trial: if the executor dies, it is to blame.
    add column trial uuid,
    -- When it was found dead before its lease had ended. What may run only once is left to it until then.
    add column dead_at timestamptz;
