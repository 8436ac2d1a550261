-- Queues that an operator has paused: their tasks wait, and nobody takes them.
alter table queue
    add column paused_at timestamptz,
    add column paused_by text;
