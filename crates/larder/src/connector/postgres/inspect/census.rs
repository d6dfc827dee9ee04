//! Counts what each cache has in the database. A table of up to 64 MiB is read as a whole. Of a larger one, stretches of pages that lie evenly over it
//! are read, 32 MiB in all, and the numbers are multiplied. Each statement reads one stretch, and takes milliseconds.

use super::{InspectError, Inspector, Progress, Release};
use std::collections::BTreeMap;
use std::ops::Range;
use tokio_postgres::types::Type;

/// A table of at most so many pages is read as a whole.
const WHOLE: u64 = 8_192;

/// How many pages are read in one statement.
const STRETCH: u64 = 64;

/// How many stretches are read of a larger table.
const STRETCHES: u64 = 64;

/// What a row takes beside its payload, its ticket and the marks of its keys: its other columns, and its entry in the index.
const ROW: u32 = 100;

const PAGES: &str = "SELECT pg_relation_size('larder.objects') / b.size, pg_relation_size('larder.notes') / b.size \
    FROM (SELECT current_setting('block_size')::int8 AS size) b";

/// First page, the page after the last, a cache or NULL, what a row takes.
const OBJECTS: &str = "SELECT o.marks[1], o.shape, count(*), sum(cardinality(o.marks) - 2)::int8, \
    sum(pg_column_size(o.payload) + pg_column_size(o.marks) + pg_column_size(o.seen) + $4)::int8, \
    count(*) FILTER (WHERE o.until <= now() OR o.idle <= now()) FROM larder.objects o \
    WHERE o.ctid >= format('(%s,0)', $1)::tid AND o.ctid < format('(%s,0)', $2)::tid AND ($3 IS NULL OR o.marks[1] = $3) GROUP BY 1, 2";

/// First page, the page after the last, a cache or NULL.
const NOTES: &str = "SELECT n.cache, count(*) FROM larder.notes n WHERE n.ctid >= format('(%s,0)', $1)::tid \
    AND n.ctid < format('(%s,0)', $2)::tid AND ($3 IS NULL OR n.cache = $3) AND n.until > now() GROUP BY 1";

/// Rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// How many there are. Rows that were forgotten are counted until they are removed.
    pub rows: u64,
    /// How many of them are over, and wait to be removed.
    pub over: u64,
    /// How many secondary keys they list.
    pub keys: u64,
    /// About how many bytes they take in the table and its index.
    pub bytes: u64,
}

/// What one cache has in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCensus {
    /// The cache's name. `None`: rows of caches that no release has registered.
    pub cache: Option<String>,
    /// The releases that have registered it.
    pub releases: Vec<Release>,
    /// Its objects, by the fingerprint of the release that has stored them.
    pub objects: BTreeMap<u64, Tally>,
    /// How many keys are noted under which the source has nothing.
    pub notes: u64,
    /// Whether the numbers are estimated from a part of the tables.
    pub estimated: bool,
}

impl Inspector {
    /// Counts what each cache, or only the given one, has in the database. A row that changes meanwhile may be counted once, twice or not at all.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    pub async fn census(
        &self,
        cache: Option<&str>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<CacheCensus>, InspectError> {
        let mut marks: BTreeMap<i64, CacheCensus> = BTreeMap::new();
        for (name, releases) in self.caches().await? {
            if cache.is_none_or(|cache| cache == name) {
                let mark = crate::connector::postgres::marks::named(&name, "", b"");
                marks.insert(mark, CacheCensus { cache: Some(name), releases, ..CacheCensus::unknown() });
            }
        }
        let only = cache.map(|cache| crate::connector::postgres::marks::named(cache, "", b""));
        let mut unknown = CacheCensus::unknown();
        let row = self.row(PAGES, &[]).await?;
        let [objects, notes] = [self.at::<i64>(&row, 0)?, self.at::<i64>(&row, 1)?].map(i64::unsigned_abs);
        let read = |pages: u64| if pages > WHOLE { STRETCHES * STRETCH } else { pages };
        let mut so_far = Progress { pages: 0, of: read(objects) + read(notes) };

        for stretch in stretches(objects) {
            let (first, past) = (stretch.start.cast_signed(), stretch.end.cast_signed());
            let sizes = ROW.cast_signed();
            let parameters = [
                (&first as _, Type::INT8),
                (&past as _, Type::INT8),
                (&only as _, Type::INT8),
                (&sizes as _, Type::INT4),
            ];
            for row in self.rows(OBJECTS, &parameters).await? {
                let counted = marks.get_mut(&self.at(&row, 0)?).unwrap_or(&mut unknown);
                let tally = counted.objects.entry(self.at::<i64>(&row, 1)?.cast_unsigned()).or_default();
                for (at, sum) in
                    [(2, &mut tally.rows), (3, &mut tally.keys), (4, &mut tally.bytes), (5, &mut tally.over)]
                {
                    *sum += self.at::<i64>(&row, at)?.unsigned_abs();
                }
            }
            so_far.pages += stretch.end - stretch.start;
            progress(so_far);
        }
        for stretch in stretches(notes) {
            let (first, past) = (stretch.start.cast_signed(), stretch.end.cast_signed());
            let parameters = [(&first as _, Type::INT8), (&past as _, Type::INT8), (&only as _, Type::INT8)];
            for row in self.rows(NOTES, &parameters).await? {
                let counted = marks.get_mut(&self.at(&row, 0)?).unwrap_or(&mut unknown);
                counted.notes += self.at::<i64>(&row, 1)?.unsigned_abs();
            }
            so_far.pages += stretch.end - stretch.start;
            progress(so_far);
        }

        let mut census: Vec<CacheCensus> = marks.into_values().collect();
        census.sort_by(|one, other| one.cache.cmp(&other.cache));
        if !unknown.objects.is_empty() || unknown.notes > 0 {
            census.push(unknown);
        }
        for counted in &mut census {
            counted.estimated = objects > WHOLE || notes > WHOLE;
            for tally in counted.objects.values_mut() {
                for sum in [&mut tally.rows, &mut tally.keys, &mut tally.bytes, &mut tally.over] {
                    *sum = of_all(*sum, objects);
                }
            }
            counted.notes = of_all(counted.notes, notes);
        }
        Ok(census)
    }
}

impl CacheCensus {
    fn unknown() -> Self {
        Self { cache: None, releases: Vec::new(), objects: BTreeMap::new(), notes: 0, estimated: false }
    }
}

/// The pages that are read of a table of so many.
fn stretches(pages: u64) -> Vec<Range<u64>> {
    if pages <= WHOLE {
        let starts = (0..pages.div_ceil(STRETCH)).map(|number| number * STRETCH);
        return starts.map(|start| start..(start + STRETCH).min(pages)).collect();
    }
    let starts = (0..STRETCHES).map(|number| (pages - STRETCH) * number / (STRETCHES - 1));
    starts.map(|start| start..start + STRETCH).collect()
}

/// What is counted in [`stretches`], for the whole table of so many pages.
fn of_all(counted: u64, pages: u64) -> u64 {
    if pages <= WHOLE { counted } else { counted.saturating_mul(pages) / (STRETCHES * STRETCH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_is_read_as_a_whole_and_a_large_one_evenly() {
        assert!(stretches(0).is_empty());
        for pages in [1, STRETCH, STRETCH + 1, WHOLE] {
            let read: Vec<u64> = stretches(pages).into_iter().flatten().collect();
            assert!(read.iter().copied().eq(0..pages), "{pages}");
            assert_eq!(of_all(7, pages), 7);
        }
        for pages in [WHOLE + 1, 10_000_000] {
            let read = stretches(pages);
            assert_eq!((read.first().unwrap().start, read.last().unwrap().end), (0, pages));
            assert!(read.windows(2).all(|two| two[0].end <= two[1].start), "no page is read twice");
            let sum: u64 = read.iter().map(|stretch| stretch.end - stretch.start).sum();
            assert_eq!(of_all(sum, pages), pages);
        }
    }
}
