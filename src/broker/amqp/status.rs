//! Whether the broker can be used, put together from what its parts report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::super::Health;

/// What the parts report.
#[derive(Debug)]
struct Reports {
    /// Why there is no link, if there is none.
    down: Option<String>,
    /// Why the broker takes no messages, if it takes none.
    blocked: Option<String>,
    /// The consumers, and why one is not taken up, if it is not.
    consumers: BTreeMap<u64, Option<String>>,
}

/// Whether the broker can be used.
#[derive(Debug)]
pub(super) struct Status {
    reports: Mutex<Reports>,
    health: watch::Sender<Health>,
}

impl Status {
    pub(super) fn new() -> Self {
        let down = "not connected yet".to_owned();
        Self {
            reports: Mutex::new(Reports {
                down: Some(down.clone()),
                blocked: None,
                consumers: BTreeMap::new(),
            }),
            health: watch::Sender::new(Health::Down(down)),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Why nothing can be published, if so.
    pub(super) fn silence(&self) -> Option<String> {
        let reports = self.lock();
        reports.down.clone().or_else(|| reports.blocked.clone())
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.lock().blocked.is_some()
    }

    pub(super) fn up(&self) {
        self.report(|reports| {
            reports.down = None;
            reports.blocked = None;
        });
    }

    /// Reports that there is no link: no consumer is taken up either.
    pub(super) fn down(&self, reason: &str) {
        self.report(|reports| {
            reports.down = Some(reason.to_owned());
            for missing in reports.consumers.values_mut() {
                *missing = Some("a consumer is not taken up yet".to_owned());
            }
        });
    }

    pub(super) fn block(&self, reason: Option<String>) {
        self.report(|reports| reports.blocked = reason);
    }

    /// Reports a consumer: taken up, or why not.
    pub(super) fn consumer(&self, id: u64, missing: Option<String>) {
        self.report(|reports| drop(reports.consumers.insert(id, missing)));
    }

    /// Reports that a consumer has ended.
    pub(super) fn consumer_ended(&self, id: u64) {
        self.report(|reports| drop(reports.consumers.remove(&id)));
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, change: impl FnOnce(&mut Reports)) {
        let mut reports = self.lock();
        change(&mut reports);
        let missing = reports.consumers.values().flatten().next();
        let health = match (&reports.down, missing, &reports.blocked) {
            (Some(reason), _, _) | (None, Some(reason), _) => Health::Down(reason.clone()),
            (None, None, Some(reason)) => Health::Blocked(reason.clone()),
            (None, None, None) => Health::Up,
        };
        // Under the lock, so that reports cannot overtake one another.
        self.health.send_if_modified(|said| {
            let is_new = *said != health;
            *said = health;
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_up_only_with_a_link_and_all_consumers() {
        let status = Status::new();
        let health = status.subscribe();
        assert_ne!(*health.borrow(), Health::Up);
        status.consumer(7, Some("no queue".to_owned()));
        status.up();
        assert_eq!(*health.borrow(), Health::Down("no queue".to_owned()));
        status.block(Some("disk".to_owned()));
        status.consumer(7, None);
        assert_eq!(*health.borrow(), Health::Blocked("disk".to_owned()));
        status.block(None);
        assert_eq!(*health.borrow(), Health::Up);
        status.down("gone");
        assert_eq!(*health.borrow(), Health::Down("gone".to_owned()));
        status.up();
        assert_ne!(*health.borrow(), Health::Up);
        status.consumer_ended(7);
        assert_eq!(*health.borrow(), Health::Up);
    }
}
