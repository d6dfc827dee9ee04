//! Errors of loaders, writes and larder itself: `?` makes an `anyhow::Error` or a `Box<dyn Error>` of each, and the chain of sources
//! reaches the database's own error and tells nothing twice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::{AsError, Cache, Entry, LoadError, Schema, UpdateError};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt::{Debug, Display};
use std::sync::Arc;

type Boxed = Box<dyn Error + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
}

/// The error of a database's driver.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("connection refused")]
struct Refused;

/// What a layer over it makes of that.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the rows cannot be read")]
    Driver(#[from] Refused),
}

fn typed() -> StoreError {
    Refused.into()
}

fn boxed() -> Boxed {
    typed().into()
}

fn any() -> anyhow::Error {
    anyhow::Error::from(Refused).context("the rows cannot be read")
}

fn shared() -> Arc<dyn Error + Send + Sync> {
    Arc::from(boxed())
}

fn cache() -> Cache<Row> {
    let schema = Schema::of::<Row>();
    Cache::new(Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap()
}

async fn load<Err: AsError<Way>, Way>(fails: fn() -> Err) -> LoadError<Err> {
    let cache = cache();
    let one = cache.get_or_load(Row::ID, 1_u32, move |_| async move { Err(fails()) }).await.unwrap_err();
    let many = cache.load_many(Row::ID, [1_u32], move |_| async move { Err(fails()) }).await.unwrap_err();
    assert!(matches!((&one, &many), (LoadError::Failed(_), LoadError::Failed(_))));
    one
}

async fn update<Err: AsError<Way>, Way>(fails: fn() -> Err) -> UpdateError<Err> {
    cache().update(async move { Err(fails()) }).await.unwrap_err()
}

/// What `?` makes of it.
fn into_anyhow<E: Error + Send + Sync + 'static>(error: E) -> anyhow::Error {
    let raise = || -> anyhow::Result<()> {
        Err(error)?;
        Ok(())
    };
    raise().unwrap_err()
}

fn into_box<E: Error + Send + Sync + 'static>(error: E) -> Boxed {
    let raise = || -> Result<(), Boxed> {
        Err(error)?;
        Ok(())
    };
    raise().unwrap_err()
}

fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect()
}

/// The whole chain as texts, and whether the driver's own error is in it.
fn examine<E: Error + Clone + Send + Sync + 'static>(error: E, what: &str) {
    let chain = [what, "the rows cannot be read", "connection refused"];
    assert_eq!(texts(&error), chain);
    assert_eq!(format!("{error:#}"), chain.join(": "), "all of it in one line");
    let any = into_anyhow(error.clone());
    assert!(any.chain().any(|cause| cause.is::<Refused>()), "the driver's own error");
    assert_eq!(format!("{any:#}"), chain.join(": "), "nothing twice");
    let boxed = into_box(error);
    assert_eq!(texts(&*boxed), chain);
}

#[tokio::test]
async fn the_chain_reaches_the_database_and_tells_nothing_twice() {
    examine(load(typed).await, "the loader failed");
    examine(load(boxed).await, "the loader failed");
    examine(load(any).await, "the loader failed");
    examine(load(shared).await, "the loader failed");
    for error in [into_anyhow(update(typed).await), into_anyhow(update(boxed).await), into_anyhow(update(any).await)] {
        assert_eq!(format!("{error:#}"), "the write failed: the rows cannot be read: connection refused");
        assert!(error.chain().any(|cause| cause.is::<Refused>()));
    }
}

/// Who wants to know what has failed matches the type that the loader has returned.
#[tokio::test]
async fn the_error_keeps_the_type_that_the_loader_returned() {
    let LoadError::Failed(failure) = load(typed).await else { panic!("it failed") };
    assert!(matches!(*failure, StoreError::Driver(Refused)));
    let LoadError::Failed(failure) = load(any).await else { panic!("it failed") };
    assert_eq!(failure.downcast_ref::<Refused>(), Some(&Refused));
    let LoadError::Failed(failure) = load(boxed).await else { panic!("it failed") };
    assert!(failure.is::<StoreError>());
    let UpdateError::Failed(failure) = update(typed).await else { panic!("it failed") };
    assert!(matches!(failure.into_inner(), Ok(StoreError::Driver(Refused))));
    let LoadError::Failed(failure) = load(typed).await else { panic!("it failed") };
    let other = failure.clone();
    assert!(failure.into_inner().is_err(), "another has it too");
    assert!(other.into_inner().is_ok(), "nobody else any more");
}

/// Texts are no errors, so they are told where there is no source to tell them.
#[tokio::test]
async fn a_mere_text_is_told_at_once() {
    for error in [into_anyhow(load(|| "no rows").await), into_anyhow(load(|| "no rows".to_owned()).await)] {
        assert_eq!((error.to_string(), error.chain().count()), ("the loader failed: no rows".to_owned(), 1));
    }
    assert!(matches!(load(|| ()).await, LoadError::Failed(_)));
}

/// A loader that loads what it needs by another cache hands its errors on.
#[tokio::test]
async fn the_error_of_a_load_within_a_load_is_one_chain() {
    let outer = cache();
    let loader = |_| async { Err::<Option<Row>, _>(load(any).await) };
    let error = outer.get_or_load(Row::ID, 1_u32, loader).await.unwrap_err();
    assert_eq!(
        texts(&error),
        ["the loader failed", "the loader failed", "the rows cannot be read", "connection refused"],
        "each layer tells what it knows"
    );
}

/// All other public errors.
#[test]
fn every_error_of_larder_is_one_for_anyhow() {
    fn is_one<E: Error + Display + Debug + Send + Sync + 'static>() {}
    is_one::<larder::Error>();
    is_one::<larder::KeyError>();
    is_one::<larder::OpenError>();
    is_one::<larder::audit::AuditError>();
    is_one::<larder::contract::OptionError>();
    #[cfg(any(feature = "toml", feature = "yaml"))]
    is_one::<larder::config::ConfigError>();
    #[cfg(feature = "redis")]
    is_one::<larder::connector::redis::RedisError>();
    #[cfg(feature = "redis")]
    is_one::<larder::connector::redis::inspect::InspectError>();
    let key = larder::KeyError::Empty;
    for error in [
        into_box(larder::Error::Key { cache: "row".into(), index: "id", reason: key }),
        #[cfg(feature = "redis")]
        into_box(larder::connector::redis::inspect::InspectError::Key(key)),
        into_box(LoadError::<Boxed>::NoRuntime),
    ] {
        let texts = texts(&*error);
        assert!(texts.windows(2).all(|pair| !pair[0].contains(&*pair[1])), "{texts:?}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct OtherRow {
    #[key(primary)]
    id: u32,
}

/// Both entries have the same cache, index, key type and shape: nothing but the type itself tells them apart.
#[test]
fn a_cache_is_not_opened_with_the_schema_of_another_entry() {
    let schema = Schema::of::<OtherRow>();
    assert_eq!(schema.fingerprint(), Schema::of::<Row>().fingerprint());
    let connector = Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap());
    assert!(Cache::<OtherRow>::new(connector.clone(), schema.clone()).is_ok());
    for schema in [schema.clone(), schema.named("other"), Schema::of::<OtherRow>().counted_alone()] {
        let error = Cache::<Row>::new(connector.clone(), schema.clone()).unwrap_err();
        let expected = format!(
            "the schema of the cache `{}` was made for `errors::OtherRow`, and a cache of `errors::Row` needs `Schema::of::<errors::Row>()`",
            schema.cache()
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_schema_of_another_name_counts_by_itself() {
    let schema = Schema::of::<Row>();
    let (same, named, alone) = (schema.clone(), schema.clone().named("second"), schema.clone().counted_alone());
    let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
    Cache::<Row>::new(Arc::new(memory), schema.clone()).unwrap().get(Row::ID, 7).await;
    assert_eq!((schema.stats().misses(), same.stats().misses()), (1, 1));
    assert_eq!((named.stats().misses(), alone.stats().misses()), (0, 0));
    assert_eq!((named.cache(), alone.cache(), named.indexes()), ("second", "row", ["id"].as_slice()));
}
