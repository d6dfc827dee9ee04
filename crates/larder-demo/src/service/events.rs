//! The latest events, for the page.

use larder::breaker::{Cause, Transition};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most events that are kept.
const KEPT: usize = 40;

/// The newest events, and the last change of the breaker.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Happened>);

#[derive(Debug, Default)]
struct Happened {
    events: VecDeque<Event>,
    last_transition: Option<Event>,
}

/// An event for the page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// The time, in milliseconds since 1970.
    at: u64,
    kind: Kind,
    text: String,
    /// How many occurrences the event stands for.
    #[serde(skip)]
    count: u64,
}

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Breaker,
    /// The breaker has let a call try the server, and the call failed.
    Trial,
    Deferred,
    Replayed,
    Change,
    Server,
    Trouble,
}

impl Kind {
    /// Whether such events repeat during an outage. If two such kinds take turns, each of them stays one event.
    fn repeats(self) -> bool {
        matches!(self, Self::Trial | Self::Deferred)
    }
}

impl Events {
    pub(super) fn tell(&self, kind: Kind, text: String) {
        self.push(Event { at: now(), kind, text, count: 1 });
    }

    /// Adds `count` occurrences. Repeated occurrences are merged into one event, so that they do not push out all others. `one` and `many`
    /// are the texts after the count.
    pub(super) fn tell_count(&self, kind: Kind, count: u64, one: &str, many: &str) {
        if count == 0 {
            return;
        }
        let mut total = count;
        {
            let mut happened = self.lock();
            let newer = happened.events.iter().take_while(|event| event.kind != kind && event.kind.repeats()).count();
            if happened.events.get(newer).is_some_and(|earlier| earlier.kind == kind) {
                total += happened.events.remove(newer).map_or(0, |earlier| earlier.count);
            }
        }
        let text = format!("{total} {}", if total == 1 { one } else { many });
        self.push(Event { at: now(), kind, text, count: total });
    }

    fn push(&self, event: Event) {
        let mut happened = self.lock();
        happened.events.push_front(event);
        happened.events.truncate(KEPT);
    }

    pub(super) fn transition(&self, transition: &Transition) {
        let text = transition.to_string();
        self.lock().last_transition = Some(Event { at: now(), kind: Kind::Breaker, text: text.clone(), count: 1 });
        match &transition.cause {
            // The outcome of the trial is an event, not its beginning.
            Cause::Due => {}
            Cause::TrialFailed { reason } => {
                let (one, many) = (
                    format!("trial of the server failed: {reason}"),
                    format!("trials of the server failed, the last: {reason}"),
                );
                self.tell_count(Kind::Trial, 1, &one, &many);
            }
            _ => self.tell(Kind::Breaker, text),
        }
    }

    /// All events, the newest first, and the last change of the breaker.
    pub(super) fn all(&self) -> (Vec<Event>, Option<Event>) {
        let happened = self.lock();
        (happened.events.iter().cloned().collect(), happened.last_transition.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Happened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(events: &Events) -> Vec<String> {
        events.all().0.into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn what_goes_on_stays_one_event() {
        let events = Events::default();
        events.tell_count(Kind::Deferred, 0, "waits", "wait");
        events.tell_count(Kind::Deferred, 1, "waits", "wait");
        assert_eq!(texts(&events), ["1 waits"]);
        events.tell_count(Kind::Deferred, 2, "waits", "wait");
        events.tell(Kind::Server, "killed".to_owned());
        events.tell_count(Kind::Deferred, 4, "waits", "wait");
        assert_eq!(texts(&events), ["4 wait", "killed", "3 wait"]);
    }

    #[test]
    fn what_repeats_during_an_outage_stays_one_event_each() {
        let events = Events::default();
        for _ in 0..3 {
            events.tell_count(Kind::Trial, 1, "trial failed", "trials failed");
            events.tell_count(Kind::Deferred, 2, "waits", "wait");
        }
        assert_eq!(texts(&events), ["6 wait", "3 trials failed"]);
        events.tell(Kind::Breaker, "closed".to_owned());
        events.tell_count(Kind::Trial, 1, "trial failed", "trials failed");
        assert_eq!(texts(&events), ["1 trial failed", "closed", "6 wait", "3 trials failed"], "the next outage");
    }

    #[test]
    fn old_events_are_forgotten() {
        let events = Events::default();
        (0..2 * KEPT).for_each(|number| events.tell(Kind::Change, number.to_string()));
        assert_eq!(texts(&events).len(), KEPT);
        assert_eq!(texts(&events)[0], (2 * KEPT - 1).to_string());
    }
}
