//! The connector that stores nothing never finds anything; it misses and refuses, as it may.

use larder::connector::noop::Noop;
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use std::sync::Arc;
use std::time::Duration;

struct Off;

impl Subject for Off {
    fn nature(&self) -> Nature {
        let no = No("nothing is ever stored");
        Nature {
            shared: no,
            exact_time: Yes,
            bytes: no,
            evicts: no,
            leases: no,
            absences: no,
            expired: no,
            outages: no,
            at_once: Yes,
        }
    }

    async fn open(&self, _node: usize, _schema: Schema) -> Arc<dyn Connector> {
        Arc::new(Noop)
    }

    async fn pass(&self, _time: Duration) {}
}

#[tokio::test]
async fn random_operations() {
    model::run(&Off, &Settings { may_forget: true, ..Settings::default() }).await;
}
