-- Executors of whose death the broker could tell nobody.

alter table executor
    -- Whether it holds no token, because its broker is away. It renews its lease several times a second as long as this is so.
    add column lacks_token boolean not null default false;
