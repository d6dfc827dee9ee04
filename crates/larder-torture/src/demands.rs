//! What calls that make the cache forget demand of later answers: when each demand begins to hold, and on which nodes.

use super::objects::{Key, Kind};
use super::protocol::{Call, Forgotten, Led, Outcome};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The place in the log of the call that a demand comes from.
pub(crate) type Place = u64;

/// How long, in ns, a call that demands nothing any more stays in the log, for histories.
const TOLD: u64 = 20_000_000_000;

/// A time from which a demand holds.
#[derive(Clone, Copy, Debug)]
struct Step {
    visible: u64,
    /// The demand of this step only.
    own: Strongest,
    /// The strongest demands of this step and all earlier steps.
    all: Strongest,
}

/// The strongest demands on an answer. `born`: its load must not have begun earlier. `sequence`: its state must not have been ended by this
/// change or an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strongest {
    pub(crate) born: (u64, Place),
    pub(crate) sequence: (u64, Place),
}

impl Strongest {
    fn of(call: &Forgotten, place: Place) -> Self {
        Self { born: (call.begun, place), sequence: (call.sequence, place) }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { born: self.born.max(other.born), sequence: self.sequence.max(other.sequence) }
    }
}

/// Demands in the order in which they begin to hold.
#[derive(Debug, Default)]
struct Timeline(Vec<Step>);

impl Timeline {
    fn add(&mut self, visible: u64, own: Strongest) {
        let place = self.0.partition_point(|step| step.visible <= visible);
        self.0.insert(place, Step { visible, own, all: own });
        let mut all = place.checked_sub(1).and_then(|before| self.0.get(before)).map_or(own, |step| step.all);
        for step in self.0.iter_mut().skip(place) {
            all = all.and(step.own);
            step.all = all;
        }
    }

    /// Merges all steps that hold for every read that begins at this time or later into one.
    fn forget_before(&mut self, begun: u64) {
        let holding = self.0.partition_point(|step| step.visible < begun);
        self.0.drain(..holding.saturating_sub(1));
        if let Some(first) = self.0.first_mut() {
            first.own = first.all;
        }
    }

    /// The demands that hold for a read that begins at this time.
    fn at(&self, begun: u64) -> Strongest {
        let holding = self.0.partition_point(|step| step.visible < begun);
        holding.checked_sub(1).and_then(|last| self.0.get(last)).map_or(Strongest::default(), |step| step.all)
    }
}

/// Which answers a demand is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum About {
    /// Every object that lists the key.
    Key(Key),
    /// Every object of the cache.
    Cache(Kind),
    /// Only answers under the key itself.
    Through(Key),
}

/// A floor under the version of one object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) version: u64,
    pub(crate) begun: u64,
    pub(crate) place: Place,
    visible: u64,
    /// The only node that the floor holds for. `None`: all nodes.
    node: Option<u32>,
}

/// A call that was deferred, and that is not known to be delivered yet.
#[derive(Debug)]
struct Waiting {
    node: u32,
    place: Place,
}

/// A demand that holds only on the node of the call.
#[derive(Clone, Copy, Debug)]
struct Own {
    begun: u64,
    ended: u64,
    demand: Strongest,
}

/// All demands.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    /// The calls that still demand something, and the latest calls, each with its node.
    log: BTreeMap<Place, (u32, Forgotten)>,
    next: Place,
    /// The demands that hold on all nodes.
    everyone: HashMap<About, Timeline>,
    /// The demands of deferred calls, which hold at once on their own node. There are few for a node and key, so they need no timeline.
    own: HashMap<u32, HashMap<About, Vec<Own>>>,
    floors: HashMap<Key, Vec<Floor>>,
    waiting: Vec<Waiting>,
    /// Times at which index keys may be missing because the server evicted them: from, until.
    evicting: Vec<(u64, u64)>,
    /// Where nodes keep objects in their own memory: how long after a call that nobody waited for other nodes may serve these, in ns.
    memories: u64,
    /// Whether nobody is waited for at all.
    bounded: bool,
}

impl Demands {
    /// Nodes keep objects in their own memory. `over`: how long after a call that nobody waited for other nodes may serve these, in ns. `bounded`: nobody is
    /// ever waited for.
    pub(crate) fn in_memories(&mut self, bounded: bool, over: u64) {
        (self.bounded, self.memories) = (bounded, over);
    }

    /// From when on every node has seen what a hit has shown: at once, if it was on this node.
    pub(crate) fn seen_everywhere(&self, on_this_node: bool, ended: u64) -> u64 {
        if on_this_node { ended } else { ended + self.memories }
    }

    /// The call at a place, with its node.
    pub(crate) fn call(&self, place: Place) -> Option<&(u32, Forgotten)> {
        self.log.get(&place)
    }

    /// The calls in the log, among them all calls of the last seconds.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&Place, &(u32, Forgotten))> {
        self.log.iter()
    }

    /// From this time on the server may lose index keys.
    pub(crate) fn evicting_from(&mut self, at: u64) {
        match self.evicting.last_mut() {
            // The earlier eviction is not over yet.
            Some((_, until)) if *until >= at => *until = u64::MAX,
            _ => self.evicting.push((at, u64::MAX)),
        }
    }

    /// By this time, all objects whose index keys may have been lost have expired.
    pub(crate) fn evicting_until(&mut self, at: u64) {
        if let Some((_, until)) = self.evicting.last_mut() {
            *until = at;
        }
    }

    /// Whether a call in this time may have missed its object, if it was through a secondary key.
    fn blind(&self, begun: u64, ended: u64) -> bool {
        self.evicting.iter().any(|(from, until)| *from <= ended && begun <= *until)
    }

    /// Adds a call on a node.
    pub(crate) fn forgotten(&mut self, node: u32, call: Forgotten) {
        let place = self.next;
        self.next += 1;
        match call.outcome {
            Outcome::Applied if !self.bounded => self.hold(place, &call, call.ended),
            // The node's cache hears of it as every other one does.
            Outcome::Applied if call.call == Call::Sql => self.hold(place, &call, call.ended + self.memories),
            _ => {
                let own = Own { begun: call.begun, ended: call.ended, demand: Strongest::of(&call, place) };
                let of_node = self.own.entry(node).or_default();
                for about in abouts(&call) {
                    of_node.entry(about).or_default().push(own);
                }
                self.floor(place, &call, call.ended, Some(node));
                if call.outcome == Outcome::Applied {
                    self.hold(place, &call, call.ended + self.memories);
                } else {
                    self.waiting.push(Waiting { node, place });
                }
            }
        }
        self.log.insert(place, (node, call));
    }

    /// A node has ended: it reads no more, and its deferred calls will not be delivered.
    pub(crate) fn ends(&mut self, node: u32) {
        self.own.remove(&node);
        self.waiting.retain(|waiting| waiting.node != node);
    }

    /// Forgets what cannot decide a read that begins at this time or later. Floors that began before `floors_from` are over.
    pub(crate) fn forget_before(&mut self, begun: u64, floors_from: u64) {
        self.everyone.values_mut().for_each(|timeline| timeline.forget_before(begun));
        for own in self.own.values_mut().flat_map(HashMap::values_mut) {
            strongest_only(own, begun);
        }
        for floors in self.floors.values_mut() {
            floors.retain(|floor| floor.begun >= floors_from);
        }
        let held = self.everyone.values().flat_map(|timeline| &timeline.0).flat_map(|step| [step.own, step.all]);
        let own = self.own.values().flat_map(HashMap::values).flatten().map(|own| own.demand);
        let mut needed: BTreeSet<Place> =
            held.chain(own).flat_map(|demand| [demand.born.1, demand.sequence.1]).collect();
        needed.extend(self.floors.values().flatten().map(|floor| floor.place));
        needed.extend(self.waiting.iter().map(|waiting| waiting.place));
        let told = begun.saturating_sub(TOLD);
        self.log.retain(|place, (_, call)| call.ended >= told || needed.contains(place));
    }

    /// A node's journal was found empty: calls that were deferred before `asked` were delivered by `seen`.
    pub(crate) fn delivered(&mut self, node: u32, kind: Kind, asked: u64, seen: u64) {
        let (delivered, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting: &Waiting| {
            let call = self.log.get(&waiting.place).map(|(_, call)| call);
            waiting.node == node && call.is_some_and(|call| call.kind == kind && call.ended < asked)
        });
        self.waiting = waiting;
        let delivered: Vec<Waiting> = delivered;
        for Waiting { place, .. } in delivered {
            let Some((_, call)) = self.log.get(&place).cloned() else { continue };
            // Who waits for other nodes' memories may have gone away meanwhile.
            let over = match call.outcome {
                _ if self.bounded => seen + self.memories,
                Outcome::Dropped => seen.max(call.ended + self.memories),
                _ => seen,
            };
            self.hold(place, &call, over);
        }
    }

    /// Drops all demands.
    pub(crate) fn withdraw(&mut self) {
        self.everyone.clear();
        self.own.clear();
        self.floors.clear();
        self.waiting.clear();
    }

    /// From `visible` on, the demands of a call hold on all nodes.
    fn hold(&mut self, place: Place, call: &Forgotten, visible: u64) {
        for about in abouts(call) {
            if self.misses(about, call.begun, visible) {
                continue;
            }
            self.everyone.entry(about).or_default().add(visible, Strongest::of(call, place));
        }
        // An index key that the server has evicted leads nowhere.
        if let Some(Led { to, since }) = call.led
            && !self.blind(since, visible)
        {
            self.everyone.entry(About::Key(to)).or_default().add(visible, Strongest::of(call, place));
        }
        self.floor(place, call, visible, None);
    }

    fn floor(&mut self, place: Place, call: &Forgotten, visible: u64, node: Option<u32>) {
        let Call::InvalidateBelow(version) = call.call else { return };
        // larder does not remember a floor through a secondary key that leads to nothing.
        for key in call.keys.iter().filter(|key| key.is_primary()) {
            let floor = Floor { version, begun: call.begun, place, visible, node };
            self.floors.entry(*key).or_default().push(floor);
        }
    }

    fn misses(&self, about: About, begun: u64, ended: u64) -> bool {
        match about {
            About::Key(key) | About::Through(key) => !key.is_primary() && self.blind(begun, ended),
            About::Cache(_) => false,
        }
    }

    /// The demands on an answer under `through` that lists `keys`, for a read that began at `begun` on this node.
    pub(crate) fn on(&self, node: u32, begun: u64, through: Key, keys: impl Iterator<Item = Key>) -> Strongest {
        let keys = keys.map(|key| self.holding(node, begun, About::Key(key)));
        keys.fold(self.holding(node, begun, About::Cache(through.kind)), Strongest::and)
    }

    /// The earliest time at which the load of an answer under `through` may have begun, because the key was deleted.
    pub(crate) fn on_key(&self, node: u32, begun: u64, through: Key) -> (u64, Place) {
        self.holding(node, begun, About::Through(through)).born
    }

    fn holding(&self, node: u32, begun: u64, about: About) -> Strongest {
        let everyone = self.everyone.get(&about).map_or(Strongest::default(), |timeline| timeline.at(begun));
        let own = self.own.get(&node).and_then(|own| own.get(&about)).into_iter().flatten();
        let holding = own.filter(|own| own.ended < begun && !self.misses(about, own.begun, begun));
        holding.map(|own| own.demand).fold(everyone, Strongest::and)
    }

    /// The floors under the version of an object, for a read that began at `begun` on this node.
    pub(crate) fn floors(&self, node: u32, begun: u64, primary: Key) -> impl Iterator<Item = Floor> + '_ {
        let floors = self.floors.get(&primary).into_iter().flatten();
        floors.filter(move |floor| floor.visible < begun && floor.node.is_none_or(|only| only == node)).copied()
    }
}

/// Among the demands that hold for a read that begins at this time, drops each one that another demand exceeds in both respects. The beginning
/// of a call counts, because it decides whether the call counts while the server evicts.
fn strongest_only(own: &mut Vec<Own>, begun: u64) {
    own.sort_unstable_by_key(|own| std::cmp::Reverse((own.begun, own.demand.sequence.0)));
    let mut above = None;
    own.retain(|own| {
        let sequence = own.demand.sequence.0;
        if own.ended < begun && above.is_some_and(|above| sequence <= above) {
            return false;
        }
        if own.ended < begun {
            above = Some(sequence);
        }
        true
    });
}

fn abouts(call: &Forgotten) -> Vec<About> {
    if call.call == Call::Truncate {
        return vec![About::Cache(call.kind)];
    }
    let about = |key: &Key| if call.call == Call::Delete { About::Through(*key) } else { About::Key(*key) };
    call.keys.iter().map(about).collect()
}
