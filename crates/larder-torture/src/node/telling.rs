//! The reports of a node.

use super::Caches;
use super::recorder::{Recorder, Taken};
use crate::objects::Kind;
use crate::protocol::{self, Event, Report, now};
use std::time::Duration;

/// How often a node sends a report.
const TELL_EVERY: Duration = Duration::from_millis(25);

/// Sends reports, again and again. Ends only with an error.
pub(super) async fn tell(recorder: &Recorder, caches: &Caches) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    let mut clearing = Clearing::default();
    loop {
        let begun = now();
        tokio::time::sleep(TELL_EVERY).await;
        recorder.late((now() - begun).saturating_sub(TELL_EVERY.as_nanos() as u64));
        // A clearing that begins after this is in the next report only. So this report must not claim to be complete beyond this time.
        let looked = now();
        clearing.look(recorder, caches);
        for kind in [Kind::Instance, Kind::Policy] {
            let asked = now();
            if caches.journal(kind) == 0 {
                recorder.record(|seen| Event::Empty { kind, asked, seen });
            }
        }
        let counts = recorder.counts(caches);
        let Taken { until, since, events, reads } = recorder.take();
        let until = until.min(looked);
        protocol::send(&mut stdout, &Report { until, since, events, counts, reads }).await?;
    }
}

/// Watches for caches that are cleared because the server's history is another one.
struct Clearing {
    looked: u64,
    /// For each cache, how often it had been cleared at the last look, and whether a clearing may still be under way.
    known: [(Kind, u64, bool); 2],
}

impl Default for Clearing {
    fn default() -> Self {
        Self { looked: now(), known: [(Kind::Instance, 0, false), (Kind::Policy, 0, false)] }
    }
}

impl Clearing {
    fn look(&mut self, recorder: &Recorder, caches: &Caches) {
        let since = std::mem::replace(&mut self.looked, now());
        for (kind, known, going_on) in &mut self.known {
            let resets = caches.resets(*kind);
            if resets != std::mem::replace(known, resets) || *going_on {
                let kind = *kind;
                recorder.record(|at| Event::Cleared { kind, since, at });
                *going_on = !caches.readable();
            }
        }
    }
}
