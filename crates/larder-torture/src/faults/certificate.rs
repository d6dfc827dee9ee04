//! Certificates that are changed while the server is in use.

use super::redis::{BreakingRedis, restart};
use super::{Failed, moment};
use crate::deployment::role;
use larder_testing::certificates::{Life, Pair};
use tokio::time::sleep;

impl BreakingRedis {
    /// Gives the server another certificate: of the same authority; or one that has expired, for a while; or of another authority, with another one for the
    /// clients. Open connections are left alone, or closed, or the server is restarted, so that each node shakes hands again.
    pub(super) async fn change_certificate(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let certificates = self.certificates.as_ref().ok_or_else(|| Failed::Words("there is no TLS".to_owned()))?;
        let what = match rng.u8(..4) {
            0 => {
                let (pair, trusted) = certificates.of_server(Life::Expired).await?;
                self.present(&pair, &trusted).await?;
                self.server.client_kill_all().await?;
                sleep(moment(rng, 100..1_500)).await;
                "one that had expired, and a good one after it"
            }
            1 => {
                let (pair, both) = certificates.other_authority().await?;
                self.present(&pair, &both).await?;
                self.server.client_kill_all().await?;
                sleep(moment(rng, 0..500)).await;
                "one of another authority"
            }
            _ => "another one",
        };
        let (pair, trusted) = certificates.of_server(Life::Long).await?;
        self.present(&pair, &trusted).await?;
        let then = match rng.u8(..3) {
            0 => "open connections went on",
            1 => {
                self.server.client_kill_all().await?;
                "connections were closed"
            }
            _ => {
                self.guard.server(role(&self.server), None);
                self.server.shutdown_save().await?;
                sleep(moment(rng, 0..300)).await;
                restart(&self.guard, &self.server).await?;
                "the server was restarted"
            }
        };
        Ok(format!("{what}; {then}"))
    }

    async fn present(&self, pair: &Pair, trusted: &str) -> Result<(), Failed> {
        Ok(self.server.renew_tls(&pair.certificate, &pair.key, trusted).await?)
    }
}
