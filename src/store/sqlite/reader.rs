use sqlx::Sqlite;
use sqlx::pool::PoolConnection;

use super::file::failure;
use crate::store::StoreError;

/// A connection that reads, for one operation.
pub(super) struct Reader {
    pub(super) connection: PoolConnection<Sqlite>,
    pub(super) operation: &'static str,
}

impl Reader {
    /// Returns the connection to the pool, or closes it if it had an error.
    pub(super) fn finish<T>(mut self, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        if done.is_err() {
            self.connection.close_on_drop();
        }
        done.map_err(failure(self.operation))
    }
}
