//! A fresh database for each test.

use longshore::store::Store as _;
use longshore::store::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::keeper::Keeper;
use super::services::{PGBOUNCER, POSTGRES};

/// The database that the others are copied from: it has the schema and nothing else.
const TEMPLATE: &str = "longshore_template";

static IS_TEMPLATE_READY: OnceCell<()> = OnceCell::const_new();

/// A new database with the schema; its address.
pub(crate) async fn fresh_database() -> String {
    IS_TEMPLATE_READY.get_or_init(make_template).await;
    create("template longshore_template").await
}

/// A new database without any schema; its address.
pub(crate) async fn empty_database() -> String {
    create("template template0").await
}

/// Deletes a database, with those who are connected to it.
pub(crate) async fn drop_database(address: &str) {
    let name = address.rsplit('/').next().unwrap();
    admin(format!("drop database \"{name}\" with (force)")).await;
}

/// The address of another database on the same server, by the pooler if there is one.
pub(crate) fn address_of(database: &str) -> String {
    address_by(PGBOUNCER.as_ref().unwrap_or(&POSTGRES), database)
}

fn address_by(server: &Keeper, database: &str) -> String {
    let address = server.ready();
    let (server, _) = address.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

async fn make_template() {
    admin(format!("create database {TEMPLATE}")).await;
    // Nobody may be connected to it when it is copied, and a pooler stays.
    let address = address_by(&POSTGRES, TEMPLATE);
    let store = PostgresStore::connect(&address).await.unwrap();
    store.migrate().await.unwrap();
    store.close().await;
}

async fn create(template: &str) -> String {
    let name = format!("test_{}", Uuid::now_v7().simple());
    admin(format!("create database {name} {template}")).await;
    address_of(&name)
}

async fn admin(sql: String) {
    let mut connection = PgConnection::connect(&POSTGRES.ready()).await.unwrap();
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
}
