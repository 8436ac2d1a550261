-- Tasks, executors, queues, timers and logs: the same tables as in PostgreSQL.
--
-- Ids are blobs of 16 bytes; times are microseconds since 1970, UTC.

create table task (
    id blob primary key not null,
    action text not null,
    queue text not null,
    state text not null check (state in (
        'scheduled', 'blocked', 'ready', 'running', 'suspended', 'paused', 'succeeded', 'failed', 'cancelled'
    )),
    attempt integer not null default 0,
    failures integer not null default 0,
    executor blob,
    priority integer not null,
    parent blob,
    root blob not null,
    origin text,
    created_at integer not null,
    ready_at integer,
    run_at integer,
    deadline integer,
    started_at integer,
    finished_at integer,
    cancel_requested_at integer,
    cancel_cause text, -- The error that the task gets when it is cancelled, as in `error`.
    labels text, -- A JSON object; absent when there are none.
    options text, -- A JSON object; absent when all are the default.
    input text not null,
    output text,
    error text -- A JSON object.
) strict;

-- The search for lost announcements.
create index task_ready on task (queue, priority desc, ready_at, id);
create index task_parent on task (parent) where parent is not null;
-- Retention.
create index task_created on task (created_at);

-- What is due, and when: `start` of a scheduled task, `deadline` of an open one.
create table timer (
    task blob not null,
    kind text not null check (kind in ('start', 'deadline')),
    due_at integer not null,
    primary key (task, kind)
) strict, without rowid;
create index timer_due on timer (due_at);

-- Running tasks that somebody wants cancelled: what a heartbeat looks through instead of all tasks.
create table cancel_request (
    task blob primary key not null
) strict, without rowid;

create table queue (
    name text primary key not null
) strict, without rowid;
insert into queue (name) values ('default');

create table executor (
    id blob primary key not null,
    name text not null,
    host text not null,
    pid integer not null,
    version text not null,
    slots text not null, -- A JSON object: queue and number.
    actions text not null, -- A JSON array.
    started_at integer not null,
    lease_ends_at integer not null,
    lost_at integer, -- When its lease was found ended; from then on its tasks are others'.
    released_at integer -- When the last of its tasks was released.
) strict;

create table known_action (
    name text primary key not null
) strict, without rowid;

create table task_log (
    task blob not null,
    attempt integer not null,
    log_offset integer not null,
    stream text not null,
    at integer not null,
    text text not null,
    primary key (task, attempt, log_offset)
) strict, without rowid;
