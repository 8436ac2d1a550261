-- Steps, signals, and sub-tasks that are spawned together.

alter table task
    -- What wakes a suspended task: marks between blanks, such as ` signal:approved timer `.
    add column waiting_for text,
    -- The name by which its parent spawned it with others, and which of them it is. Neither ever changes.
    add column fan_out text,
    add column place integer,
    -- Whether it goes on when its parent has ended.
    add column outlives_parent boolean not null default false,
    -- Whether there may be tasks below it.
    add column has_subtasks boolean not null default false;

drop index task_parent;
create index task_parent on task (parent, place) where parent is not null;

alter table timer drop constraint timer_kind_check;
alter table timer add constraint timer_kind_check check (kind in ('start', 'deadline', 'wake'));

-- The outcomes of steps, by which an attempt goes on where the last one was.
create table step (
    task uuid not null,
    name text not null,
    kind text not null,
    state text not null check (state in ('waiting', 'done', 'failed', 'retryable', 'skipped', 'expired')),
    place integer, -- Which of the task's steps it was to end; null while it waits.
    tries integer not null default 0, -- Tries that failed.
    due_at timestamptz, -- Until when it waits.
    output text,
    error text, -- A JSON object.
    primary key (task, name)
);

create table signal (
    id bigint generated always as identity primary key,
    task uuid not null,
    name text not null,
    key text,
    payload text not null,
    at timestamptz not null,
    step text -- The step that took it; null while it waits for one.
);
create index signal_task on signal (task, id);
create unique index signal_key on signal (task, key) where key is not null;

-- Sub-tasks that were spawned together, counted: each end of one of them changes one row.
create table fan_out (
    task uuid not null,
    name text not null,
    in_flight_max integer,
    on_failure text not null,
    stored integer not null default 0,
    is_complete boolean not null default false,
    granted integer not null default 0,
    in_flight integer not null default 0,
    open integer not null default 0,
    failed integer not null default 0,
    primary key (task, name)
) with (fillfactor = 50);

-- Tasks that have ended, and below which something may still be open.
create table ended_parent (
    task uuid primary key
);
