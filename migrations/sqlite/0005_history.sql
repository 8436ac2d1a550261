-- What operators have done to a task, and how far its attempt says that it is: as in PostgreSQL.

-- Append only; bounded for each task, the oldest go.
create table task_history (
    task blob not null,
    entry integer not null, -- Counted from 1 for each task.
    at integer not null,
    what text not null,
    who text not null,
    note text,
    primary key (task, entry)
) strict, without rowid;

-- A JSON object.
alter table task add column progress text;
