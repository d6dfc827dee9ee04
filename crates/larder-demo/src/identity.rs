//! The identity service without HTTP: looks an instance up, changes it, deletes it, on one of its nodes.
//!
//! The [checker](super::checker) judges every answer, and learns of every change. So the page and the story both find out whether anything
//! stale was served.

use super::checker::{Checker, Verdict};
use super::instance::{Instance, InstanceKey};
use super::meter::{Meter, Origin};
use super::node::Node;
use super::source::{Edit, Invalid, Source, Written};
use larder::{Delivery, LoadError, UpdateError};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The source, the caches and the checker.
pub(crate) struct Identity {
    pub(crate) source: Source,
    pub(crate) nodes: Vec<Node>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) meter: Meter,
    /// Set before the server is broken: see [`Checker`] on nodes that are cut off.
    cut: AtomicBool,
    /// The number of changes under way.
    changing: AtomicUsize,
    /// Whether changes reach the cache. A test sets this to `false`, to see that the checker notices.
    pub(crate) tells_the_cache: bool,
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) instance: Option<Arc<Instance>>,
    pub(crate) origin: Origin,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
}

/// How a change reaches the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `Cache::update`: the new state is stored at once.
    WriteThrough,
    /// The source is changed, then the old state is invalidated.
    Invalidate,
}

/// The result of a change, and whether it was applied or deferred.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) written: Written,
    pub(crate) delivery: Delivery,
}

/// Why the service has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The source has refused a change.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A load failed.
    #[error("{0:#}")]
    Load(#[from] LoadError<Infallible>),
    /// A write-through failed.
    #[error("{0:#}")]
    Update(#[from] UpdateError<Invalid>),
    /// The cache refused a key.
    #[error("the cache refused: {0}")]
    Cache(#[from] larder::Error),
    /// There is no such node, or its task has ended.
    #[error("the service is ending")]
    Ending,
}

impl IdentityError {
    /// Whether the request is wrong, not the service.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Update(UpdateError::Failed(_)))
    }
}

impl Identity {
    /// A service with `instances` instances in its source and empty caches. The source answers after `latency`.
    pub(crate) fn open(instances: u32, latency: Duration, nodes: Vec<Node>) -> Self {
        let checker = Arc::new(Checker::default());
        let witness = checker.clone();
        let source = Source::open(instances, latency, move |commit| witness.committed(commit));
        // Nothing is older than the first instances, so this change is completed for all nodes.
        checker.completed(1, 0, Delivery::Applied);
        Self {
            source,
            nodes,
            checker,
            meter: Meter::default(),
            cut: AtomicBool::new(false),
            changing: AtomicUsize::new(0),
            tells_the_cache: true,
        }
    }

    pub(crate) fn node(&self, node: usize) -> Result<&Node, IdentityError> {
        self.nodes.get(node).ok_or(IdentityError::Ending)
    }

    /// A figure of all nodes together.
    pub(crate) fn sum(&self, figure: fn(&Node) -> u64) -> u64 {
        self.nodes.iter().map(figure).sum()
    }

    /// Sets whether nodes may be cut off from the cache without knowing it.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    /// Looks an instance up by one of its keys, and judges the answer.
    pub(crate) async fn look_up(&self, node: usize, key: &InstanceKey) -> Result<Looked, IdentityError> {
        let on = self.node(node)?;
        let linked = || on.is_linked() && !self.cut.load(Ordering::SeqCst);
        let reading = self.checker.begin(node, linked());
        let loaded = Arc::new(AtomicBool::new(false));
        let (mark, source, index) = (loaded.clone(), self.source.clone(), key.index);
        let loader = move |text| {
            mark.store(true, Ordering::Relaxed);
            async move { Ok::<_, Infallible>(source.load(&InstanceKey { index, text }).await) }
        };

        let begun = Instant::now();
        let instance = on.cache.get_or_load(index, key.text.as_str(), loader).await?;
        let took = begun.elapsed();

        let verdict = self.checker.judge(reading, linked(), key, instance.as_deref());
        let origin = if loaded.load(Ordering::Relaxed) { Origin::Load } else { Origin::Hit };
        self.meter.record(origin, took);
        Ok(Looked { instance, origin, took, verdict })
    }

    /// Changes an instance, or creates it. A host that belonged to another instance moves.
    ///
    /// # Cancellation
    ///
    /// The change runs in a task of its own: if the caller goes away, the former owners are invalidated and the checker is told all the same.
    pub(crate) async fn change(
        self: &Arc<Self>,
        node: usize,
        id: &str,
        edit: Edit,
        way: Way,
    ) -> Result<Changed, IdentityError> {
        let (identity, id) = (self.clone(), Arc::from(id));
        let change = async move { identity.change_here(node, id, edit, way).await };
        tokio::spawn(change).await.map_err(|_| IdentityError::Ending)?
    }

    async fn change_here(&self, node: usize, id: Arc<str>, edit: Edit, way: Way) -> Result<Changed, IdentityError> {
        let _changing = Changing::begin(&self.changing);
        let on = self.node(node)?;
        // `update` does not say whether its put was delivered. If any put of this node was not delivered meanwhile, it may be this one.
        let undelivered = on.undelivered_puts();
        let (written, mut delivery) = match way {
            Way::WriteThrough if self.tells_the_cache => {
                let (tell, written) = oneshot::channel();
                let source = self.source.clone();
                let write = async move {
                    let written = source.write(&id, edit).await?;
                    let instance = written.instance.clone();
                    let _ = tell.send(written);
                    Ok::<_, Invalid>(instance)
                };
                on.cache.update(write).await?;
                (written.await.map_err(|_| IdentityError::Ending)?, Delivery::Applied)
            }
            _ => {
                let written = self.source.write(&id, edit).await?;
                let delivery = match written.before.iter().find(|before| before.id == written.instance.id) {
                    _ if !self.tells_the_cache => Delivery::Applied,
                    Some(before) => on.cache.invalidate_change(before, &written.instance).await?,
                    None => on.cache.invalidate(Instance::ID, [&written.instance.id]).await?,
                };
                (written, delivery)
            }
        };
        let former_owners: Vec<_> =
            written.before.iter().map(|before| &before.id).filter(|id| **id != written.instance.id).collect();
        if !former_owners.is_empty() && self.tells_the_cache {
            delivery = both(delivery, on.cache.invalidate(Instance::ID, former_owners).await?);
        }
        if on.undelivered_puts() != undelivered {
            delivery = Delivery::Deferred;
        }
        self.checker.completed(written.instance.sequence, node, delivery);
        Ok(Changed { written, delivery })
    }

    /// Waits until no change is under way.
    pub(crate) async fn settled(&self) {
        while self.changing.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Deletes an instance. Returns its last state, or `None` if there was no such instance. Runs in a task of its own, as
    /// [`change`](Self::change).
    pub(crate) async fn delete(
        self: &Arc<Self>,
        node: usize,
        id: &str,
    ) -> Result<Option<(Instance, Delivery)>, IdentityError> {
        let (identity, id) = (self.clone(), Arc::<str>::from(id));
        let delete = async move {
            let _changing = Changing::begin(&identity.changing);
            let on = identity.node(node)?;
            let Some((sequence, before)) = identity.source.delete(&id).await else { return Ok(None) };
            let delivery = on.cache.invalidate(Instance::ID, [&before.id]).await?;
            identity.checker.completed(sequence, node, delivery);
            Ok(Some((before, delivery)))
        };
        tokio::spawn(delete).await.map_err(|_| IdentityError::Ending)?
    }

    /// Looks each of `keys` up on `node`, and compares with the source. Returns the keys that differ. Nobody may change these instances
    /// meanwhile: the difference could be that change.
    pub(crate) async fn differing(&self, node: usize, keys: &[InstanceKey]) -> Result<Vec<InstanceKey>, IdentityError> {
        let mut differing = Vec::new();
        for key in keys {
            let cached = self.look_up(node, key).await?.instance;
            if cached.as_deref() != self.source.find(key).as_ref() {
                differing.push(key.clone());
            }
        }
        Ok(differing)
    }
}

impl Written {
    /// Every key that the change may have touched: the keys of all states before and after.
    pub(crate) fn keys(&self) -> Vec<InstanceKey> {
        let mut keys = Vec::new();
        for key in self.before.iter().chain([&self.instance]).flat_map(InstanceKey::all_of) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

/// Counts a change while it is under way.
struct Changing<'a>(&'a AtomicUsize);

impl<'a> Changing<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The delivery of two invalidations together.
fn both(one: Delivery, other: Delivery) -> Delivery {
    if one == Delivery::Applied { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn identity() -> Identity {
        let node = Node::open(larder::Config::default()).await.unwrap();
        Identity::open(20, Duration::ZERO, vec![node])
    }

    fn renamed(name: &str) -> Edit {
        Edit { name: Some(name.to_owned()), ..Edit::default() }
    }

    #[tokio::test]
    async fn a_second_lookup_is_a_hit_by_every_key() {
        let identity = Arc::new(identity().await);
        let loaded = identity.look_up(0, &InstanceKey::id("i00003")).await.unwrap();
        assert_eq!(loaded.origin, Origin::Load);
        let instance = loaded.instance.unwrap();
        assert_eq!(instance.hosts.len(), 4);
        for key in InstanceKey::all_of(&instance) {
            assert_eq!(identity.look_up(0, &key).await.unwrap().origin, Origin::Hit);
        }
        assert!(identity.look_up(0, &InstanceKey::host("nobody.example")).await.unwrap().instance.is_none());
        assert_eq!((identity.checker.stale(), identity.checker.wrong()), (0, 0));
    }

    #[tokio::test]
    async fn a_change_is_seen_by_every_key_whichever_way_it_goes() {
        for way in [Way::WriteThrough, Way::Invalidate] {
            let identity = Arc::new(identity().await);
            let keys = identity.source.keys();
            assert!(identity.differing(0, &keys).await.unwrap().is_empty());
            let from = identity.look_up(0, &InstanceKey::id("i00003")).await.unwrap().instance.unwrap();
            identity.change(0, "i00003", renamed("new"), way).await.unwrap();
            let hosts = Some(vec![from.hosts[1].clone(), "fresh.example".to_owned()]);
            let moved = identity.change(0, "i00004", Edit { hosts, ..Edit::default() }, way).await.unwrap();
            assert_eq!(moved.delivery, Delivery::Applied);
            assert_eq!(moved.written.before.len(), 2);
            let mut keys = identity.source.keys();
            keys.extend(moved.written.keys());
            assert!(identity.differing(0, &keys).await.unwrap().is_empty());
            assert!(identity.delete(0, "i00003").await.unwrap().is_some());
            assert!(identity.differing(0, &keys).await.unwrap().is_empty());
            assert_eq!((identity.checker.stale(), identity.checker.wrong()), (0, 0));
        }
    }

    #[tokio::test]
    async fn a_service_that_does_not_tell_its_cache_is_found_out() {
        let mut identity = identity().await;
        identity.tells_the_cache = false;
        let identity = Arc::new(identity);
        for way in [Way::WriteThrough, Way::Invalidate] {
            identity.look_up(0, &InstanceKey::id("i00003")).await.unwrap();
            identity.change(0, "i00003", renamed("new"), way).await.unwrap();
            let looked = identity.look_up(0, &InstanceKey::id("i00003")).await.unwrap();
            assert_eq!(looked.verdict, Verdict::Stale);
        }
        // In the second round the first read is stale, too.
        assert_eq!(identity.checker.stale(), 3);
    }
}
