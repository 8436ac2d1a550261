-- Schedules, and what became of their firings.

create table schedule (
    name text collate "C" primary key,
    timing text not null, -- A JSON object.
    task text not null, -- What each firing submits: a JSON object, as a submission is on the wire.
    overlap text not null,
    catch_up text not null,
    paused boolean not null default false,
    error text, -- Why it was paused, when nobody asked for that.
    next_at timestamptz, -- When it fires next; none when it is paused or nothing is left.
    look_at timestamptz, -- When it is to be looked at: then, or sooner when firings wait.
    last_task uuid, -- The task of the last firing. It may be deleted.
    created_at timestamptz not null,
    created_by text not null
);
create index schedule_look on schedule (look_at) where look_at is not null;

-- The key is the guard: a time fires once, however many executors see that it is due.
create table schedule_firing (
    schedule text collate "C" not null,
    due_at timestamptz not null,
    state text not null check (state in ('waiting', 'fired', 'skipped')),
    task uuid,
    at timestamptz not null,
    primary key (schedule, due_at)
);
-- Retention.
create index schedule_firing_at on schedule_firing (at);
