-- Executors of whose death the broker could tell nobody: as in PostgreSQL.

-- Whether it holds no token, because its broker is away. It renews its lease several times a second as long as this is so.
alter table executor add column lacks_token integer not null default 0;
