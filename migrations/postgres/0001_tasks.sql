-- Tasks, executors, queues, timers and logs.
--
-- The table `task` is hot: each task is written three times (submitted, claimed, settled). So that the last two
-- stay on their page and touch no index (heap-only tuples), half of each page is left free and no index
-- mentions a column that they change: not in its columns, not in its condition. An index on the state costs
-- a factor of two.

create table task (
    id uuid primary key,
    action text not null,
    queue text not null,
    state text not null check (state in (
        'scheduled', 'blocked', 'ready', 'running', 'suspended', 'paused', 'succeeded', 'failed', 'cancelled'
    )),
    attempt integer not null default 0,
    failures integer not null default 0,
    executor uuid,
    priority smallint not null,
    parent uuid,
    root uuid not null,
    origin text,
    created_at timestamptz not null,
    ready_at timestamptz,
    run_at timestamptz,
    deadline timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_cause text, -- The error that the task gets when it is cancelled, as in `error`.
    labels text, -- A JSON object; absent when there are none.
    options text, -- A JSON object; absent when all are the default.
    input text not null,
    output text,
    error text -- A JSON object.
) with (fillfactor = 50);

-- The search for lost announcements. Set when a task becomes ready; claim and settle leave it alone.
create index task_ready on task (queue, priority desc, ready_at, id);
create index task_parent on task (parent) where parent is not null;
-- Retention. By creation, because `finished_at` changes when a task is settled.
create index task_created on task (created_at);

-- What is due, and when: `start` of a scheduled task, `deadline` of an open one.
create table timer (
    task uuid not null,
    kind text not null check (kind in ('start', 'deadline')),
    due_at timestamptz not null,
    primary key (task, kind)
);
create index timer_due on timer (due_at);

-- Running tasks that somebody wants cancelled: what a heartbeat looks through instead of all tasks.
create table cancel_request (
    task uuid primary key
);

create table queue (
    name text primary key
);
insert into queue (name) values ('default');

create table executor (
    id uuid primary key,
    name text not null,
    host text not null,
    pid bigint not null,
    version text not null,
    slots text not null, -- A JSON object: queue and number.
    actions text not null, -- A JSON array.
    started_at timestamptz not null,
    lease_ends_at timestamptz not null,
    lost_at timestamptz, -- When its lease was found ended; from then on its tasks are others'.
    released_at timestamptz -- When the last of its tasks was released.
);

create table known_action (
    name text primary key
);

create table task_log (
    task uuid not null,
    attempt integer not null,
    log_offset bigint not null,
    stream text not null,
    at timestamptz not null,
    text text not null,
    primary key (task, attempt, log_offset)
);
