-- What operators have done to a task, and how far its attempt says that it is.

-- Append only; bounded for each task, the oldest go.
create table task_history (
    task uuid not null,
    entry bigint not null, -- Counted from 1 for each task.
    at timestamptz not null,
    what text not null,
    who text not null,
    note text,
    primary key (task, entry)
);

-- A JSON object. Written while the task runs, and so in no index.
alter table task add column progress text;
