-- Steps, signals, and sub-tasks that are spawned together: as in PostgreSQL.

-- What wakes a suspended task: marks between blanks, such as ` signal:approved timer `.
alter table task add column waiting_for text;
-- The name by which its parent spawned it with others, and which of them it is. Neither ever changes.
alter table task add column fan_out text;
alter table task add column place integer;
-- Whether it goes on when its parent has ended.
alter table task add column outlives_parent integer not null default 0;
-- Whether there may be tasks below it.
alter table task add column has_subtasks integer not null default 0;

drop index task_parent;
create index task_parent on task (parent, place) where parent is not null;

create table timer_new (
    task blob not null,
    kind text not null check (kind in ('start', 'deadline', 'wake')),
    due_at integer not null,
    primary key (task, kind)
) strict, without rowid;
insert into timer_new select task, kind, due_at from timer;
drop table timer;
alter table timer_new rename to timer;
create index timer_due on timer (due_at);

-- The outcomes of steps, by which an attempt goes on where the last one was.
create table step (
    task blob not null,
    name text not null,
    kind text not null,
    state text not null check (state in ('waiting', 'done', 'failed', 'retryable', 'skipped', 'expired')),
    place integer, -- Which of the task's steps it was to end; null while it waits.
    tries integer not null default 0, -- Tries that failed.
    due_at integer, -- Until when it waits.
    output text,
    error text, -- A JSON object.
    primary key (task, name)
) strict, without rowid;

create table signal (
    id integer primary key autoincrement,
    task blob not null,
    name text not null,
    key text,
    payload text not null,
    at integer not null,
    step text -- The step that took it; null while it waits for one.
) strict;
create index signal_task on signal (task, id);
create unique index signal_key on signal (task, key) where key is not null;

-- Sub-tasks that were spawned together, counted: each end of one of them changes one row.
create table fan_out (
    task blob not null,
    name text not null,
    in_flight_max integer,
    on_failure text not null,
    stored integer not null default 0,
    is_complete integer not null default 0,
    granted integer not null default 0,
    in_flight integer not null default 0,
    open integer not null default 0,
    failed integer not null default 0,
    primary key (task, name)
) strict, without rowid;

-- Tasks that have ended, and below which something may still be open.
create table ended_parent (
    task blob primary key not null
) strict, without rowid;
