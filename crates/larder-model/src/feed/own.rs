//! A tier over PostgreSQL: a change that the first node makes through its cache. The changes of a poll are the fences there; a load is a get that the database answers.
//!
//! Once the database has answered, the node waits for a poll that begins after that, and answers when this counts; or it forgets everything. A change that cannot be
//! delivered is deferred: the node forgets everything, and asks the database for nothing until it has sent the change again.

use super::database::{Transaction, Writers};
use super::node::Poll;
use super::store::{ALL, Load};
use super::{Feed, World};
use crate::protections::Removable;

/// Where the change is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Own {
    #[default]
    Unanswered,
    /// The database has answered. `begun`: the poll that it waits for has begun.
    Waits {
        begun: bool,
    },
    Answered,
    /// It is in the journal.
    Deferred,
    /// It was deferred, and was sent again.
    Replayed,
}

impl Feed {
    /// The writer whose change is made through the cache of the first node.
    fn through(&self) -> Option<usize> {
        self.scene.writers.iter().position(|writer| writer.through)
    }

    /// The next step of the node's change, after the database has answered.
    pub(super) fn own(&self, world: &mut World) -> Option<()> {
        let writer = self.through()?;
        if !matches!(world.database.transactions.get(writer)?, Transaction::Committed { .. }) {
            return None;
        }
        let polls = world.nodes.first()?.poll != Poll::Idle;
        world.own = match world.own {
            Own::Unanswered if !self.keeps(Removable::OwnDrop) => Own::Answered,
            Own::Unanswered => Own::Waits { begun: polls && !self.keeps(Removable::LaterPoll) },
            Own::Deferred => Own::Replayed,
            _ => return None,
        };
        Some(())
    }

    /// No poll counts in time: the node forgets everything, and answers.
    pub(super) fn give_up(&self, world: &mut World) -> Option<()> {
        if !matches!(world.own, Own::Waits { .. }) {
            return None;
        }
        world.own = Own::Answered;
        self.forget(world, 0, ALL)
    }

    /// The change cannot be delivered.
    pub(super) fn defer(&self, world: &mut World) -> Option<()> {
        let writer = self.through()?;
        let is_unsent = *world.database.transactions.get(writer)? == Transaction::Waiting;
        if world.own != Own::Unanswered || !is_unsent {
            return None;
        }
        world.left.deferrals = world.left.deferrals.checked_sub(1)?;
        world.own = Own::Deferred;
        self.forget(world, 0, ALL)
    }

    /// A poll of the first node begins.
    pub(super) fn own_poll_begins(world: &mut World, at: usize) {
        if let (0, Own::Waits { begun }) = (at, &mut world.own) {
            *begun = true;
        }
    }

    /// A poll of the first node counts.
    pub(super) fn own_poll_counts(world: &mut World, at: usize) {
        if at == 0 && world.own == (Own::Waits { begun: true }) {
            world.own = Own::Answered;
        }
    }

    /// A get that memory does not answer: it notes its ticket, looks whether the journal is empty, and then the database is asked.
    pub(super) fn get(&self, world: &World, load: Load) -> Option<Load> {
        let is_deferred = world.own == Own::Deferred && self.keeps(Removable::Journal);
        let note_first = self.keeps(Removable::NoteFirst);
        Some(match load {
            Load::Waiting if note_first => Load::Noted { overtaken: false },
            Load::Waiting | Load::Noted { .. } if is_deferred => Load::Done,
            Load::Noted { overtaken } => Load::Ticketed { store: 0, overtaken },
            Load::Waiting => Load::Looked,
            Load::Looked => Load::Ticketed { store: 0, overtaken: false },
            _ => return None,
        })
    }

    /// What a hit on the first node must show, whenever it was committed.
    pub(super) fn answered(&self, world: &World) -> Writers {
        let mut answered = Writers::NONE;
        if matches!(world.own, Own::Answered | Own::Deferred | Own::Replayed)
            && let Some(writer) = self.through()
        {
            answered.add(writer);
        }
        answered
    }
}
