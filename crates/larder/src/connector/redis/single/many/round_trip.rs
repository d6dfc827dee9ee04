//! The requests that a search sends in each round trip.

use super::LOT;
use super::search::{Content, Search, Way};
use crate::connector::redis::scripts;
use crate::connector::redis::single::milliseconds;
use crate::connector::redis::single::storing::STAGE_ABOVE;
use crate::connector::redis::wire::parcel::{Parcel, Wire};
use crate::connector::remote::{BATCH, Trouble};
use redis::Cmd;

/// How many objects one MGET reads at most. While it runs, the server serves nobody else.
pub(super) const AT_ONCE: usize = 64;

/// What a command of a parcel asks for, with the places of its targets or keys.
pub(super) enum Step {
    Clock,
    Read(Vec<usize>),
    Touch(Vec<usize>),
    Ask(Vec<usize>),
    TouchAsked(Vec<usize>),
}

impl Search<'_> {
    /// Sends one round trip after another, until each key is answered.
    pub(super) async fn run(&mut self, wire: &Wire, mut with_clock: bool) -> Result<(), Trouble> {
        while let Some((parcel, steps)) = self.lot(std::mem::take(&mut with_clock)) {
            let mut replies = Vec::with_capacity(steps.len());
            let sent = wire.send(&parcel, &mut replies).await;
            for (step, reply) in steps.into_iter().zip(replies) {
                self.learn(step, reply);
            }
            self.reconsider();
            sent?;
        }
        Ok(())
    }

    /// The next round trip, if one is needed. Its replies settle everything that it asks for.
    fn lot(&mut self, with_clock: bool) -> Option<(Parcel, Vec<Step>)> {
        let unread = self.targets.iter().enumerate().filter(|(_, target)| matches!(target.content, Content::Unread));
        let unread: Vec<usize> = unread.map(|(place, _)| place).take(LOT).collect();
        let unknown = self.asked.iter().enumerate().filter(|(_, asked)| matches!(asked.way, Way::Unknown(_)));
        let unknown: Vec<usize> = unknown.map(|(place, _)| place).take(LOT - unread.len()).collect();
        if unread.is_empty() && unknown.is_empty() {
            return None;
        }
        let (mut parcel, mut steps) = (Parcel::new(), Vec::new());
        let (age, kept) = (milliseconds(self.store.schema.last_use_age), milliseconds(self.store.schema.kept_after()));
        if with_clock {
            parcel.command(self.store.read_clock());
            steps.push(Step::Clock);
        }
        for some in unread.chunks(AT_ONCE) {
            let mut get = redis::cmd("MGET");
            let mut due = Vec::new();
            for place in some {
                let Some(target) = self.targets.get_mut(*place) else { continue };
                get.arg(&target.name);
                let is_due = |hint| self.store.may_touch() && self.store.local.hints.touch_is_due(hint);
                target.touching = target.hint.as_deref().is_some_and(is_due);
                if target.touching {
                    due.push(*place);
                }
            }
            parcel.command(get);
            steps.push(Step::Read(some.to_vec()));
            if !due.is_empty() {
                let names = due.iter().filter_map(|place| Some(&self.targets.get(*place)?.name));
                parcel.script(&scripts::TOUCH, |call| {
                    call.arg(due.len());
                    for name in names {
                        call.arg(name);
                    }
                    call.arg(age).arg(kept);
                });
                steps.push(Step::Touch(due));
            }
        }
        for some in unknown.chunks(BATCH) {
            let prefix = self.store.local.layout.object(&[]);
            let keys = |call: &mut Cmd| {
                call.arg(some.len());
                for asked in some.iter().filter_map(|place| self.asked.get(*place)) {
                    call.arg(self.store.local.layout.index(asked.key));
                }
            };
            parcel.script(&scripts::GET_MANY, |call| {
                keys(call);
                call.arg(&prefix).arg(STAGE_ABOVE);
            });
            steps.push(Step::Ask(some.to_vec()));
            if !self.store.schema.last_use_age.is_zero() && self.store.may_touch() {
                // The touch is a script of its own, because a server that takes no writes still runs the other one.
                parcel.script(&scripts::TOUCH, |call| {
                    keys(call);
                    call.arg(age).arg(kept).arg(&prefix);
                });
                steps.push(Step::TouchAsked(some.to_vec()));
            }
        }
        Some((parcel, steps))
    }
}
