//! What only the backend's own module sees.

use super::*;

#[test]
fn the_schema_version_is_the_last_migration() {
    let last = schema::MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max();
    assert_eq!(last, Some(SCHEMA_VERSION));
}
