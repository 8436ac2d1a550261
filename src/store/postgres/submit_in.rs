//! Storing new tasks in a transaction of the caller's own.

use sqlx::PgConnection;

use super::PostgresStore;
use super::read;
use super::submit::{Statements, submit};
use crate::domain::{Difference, IdempotencyKey, NewTask, TaskId, differences};
use crate::store::{Receipt, Refusal, StoreError, Submitted};

/// Why a transaction cannot hold a task. Roll it back.
#[derive(Debug, thiserror::Error)]
pub enum SubmitInError {
    /// The store does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its idempotency key belongs to a task that was asked for otherwise.
    #[error(
        "the idempotency key `{key}` belongs to the task `{task}`, which differs in {}",
        Difference::fields(.differences)
    )]
    KeyTaken {
        /// The key.
        key: IdempotencyKey,
        /// The task that has it.
        task: TaskId,
        /// What is asked for otherwise. The values may be secrets: the error names the fields only.
        differences: Vec<Difference>,
    },
    /// The statement failed, and the transaction with it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SubmitInError {
    /// Whether the same transaction may succeed when it is made again from its beginning.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(_) | Self::KeyTaken { .. } => false,
            Self::Store(error) => error.is_transient(),
        }
    }
}

impl PostgresStore {
    /// Stores tasks on a connection of the caller's, in the transaction that is open there: they are committed with the
    /// caller's own rows, or rolled back with them. Answers in order; one refusal is an error, and then no answer.
    ///
    /// The connection is one to the database that has the schema of Longshore, with its tables on the search path. Make
    /// the tasks with [`Client::prepare`](crate::client::Client::prepare), and call
    /// [`Client::announce`](crate::client::Client::announce) after the commit.
    ///
    /// Until the transaction ends, others who submit the same id or idempotency key wait for it, and so does the end of
    /// an attempt whose task is the parent of one of `tasks`: submit late and commit soon. Submit all in one call: two
    /// transactions that submit the same keys in another order wait for each other, and PostgreSQL ends one of them.
    ///
    /// ```no_run
    /// use longshore::client::Client;
    /// use longshore::domain::{ActionName, Payload, Submission};
    /// use longshore::store::postgres::{PostgresStore, sqlx};
    ///
    /// async fn order(pool: &sqlx::PgPool, client: &Client, item: &str) -> Result<(), Box<dyn std::error::Error>> {
    ///     let mut transaction = pool.begin().await?;
    ///     let insert = sqlx::query("insert into shop_order (item) values ($1)").bind(item);
    ///     insert.execute(&mut *transaction).await?;
    ///     let ship = Submission::new(ActionName::new("ship")?, Payload::of(item)?);
    ///     let task = client.prepare(ship).await?;
    ///     let receipts = PostgresStore::submit_in(&mut transaction, &[task]).await?;
    ///     transaction.commit().await?;
    ///     client.announce(&receipts).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SubmitInError`]. PostgreSQL takes no further statement in a transaction that had a failed one: roll back.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the transaction to be rolled back.
    pub async fn submit_in(
        connection: &mut PgConnection,
        tasks: &[NewTask],
    ) -> Result<Vec<Receipt>, SubmitInError> {
        let submitted = submit(connection, tasks, Statements::UsedOnce).await?;
        let mut receipts = Vec::with_capacity(tasks.len());
        for (task, submitted) in tasks.iter().zip(submitted) {
            receipts.push(match submitted {
                Submitted::Stored(task) => Receipt { task, is_new: true },
                Submitted::Known(known) => {
                    check_key(connection, task, known.id).await?;
                    Receipt {
                        task: known,
                        is_new: false,
                    }
                }
                Submitted::Refused(refusal) => return Err(refusal.into()),
            });
        }
        Ok(receipts)
    }
}

/// Refuses `task` when it has a key whose task was asked for otherwise. Looks through the caller's connection, because
/// that task may be of the same transaction.
async fn check_key(
    connection: &mut PgConnection,
    task: &NewTask,
    known: TaskId,
) -> Result<(), SubmitInError> {
    let Some(key) = &task.submission.idempotency_key else {
        return Ok(()); // An id decides alone, whatever else is said.
    };
    let stored = read::tasks(connection, &[known]).await?.only()?;
    let stored = stored.ok_or_else(|| StoreError::Unavailable {
        reason: format!("the task `{known}` was deleted in this moment"),
    })?;
    let differences = differences(&task.submission, &stored);
    if differences.is_empty() {
        return Ok(());
    }
    Err(SubmitInError::KeyTaken {
        key: key.clone(),
        task: known,
        differences,
    })
}
