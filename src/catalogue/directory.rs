//! What is for sale, in memory: every request asks it for its option.
//!
//! The whole index is immutable and replaced as one (arc-swap). A read is an atomic load that takes no
//! lock and never waits for a refresh, and concerts and options are always of one moment. A map of
//! locks would pay for writes between the reads, of which there are none but once in a while.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use engine::option::OptionStatus;
use engine::{ConcertId, OptionId, SeatNo, ShardId, Time};
use tokio::sync::Mutex;

use super::stored::StoredPlan;
use super::{Catalogue, CatalogueError, Concert, ConcertOption};

/// Rows per question to the catalogue.
const PAGE: u32 = 1_000;

/// An option with everything the edge tells about it.
#[derive(Clone, Debug)]
pub struct OptionEntry {
    pub option: OptionId,
    pub concert: ConcertId,
    pub shard: ShardId,
    /// Whether the concert's sale needs a pass of its gate. The owner decides about clicks; this is for reads.
    pub gated: bool,
    pub starts_at: Time,
    /// `None` until its shard has added it to the sale.
    pub status: Option<OptionStatus>,
    /// SHA-256 of the canonical plan JSON, in lower-case hex.
    pub plan_hash: String,
    /// Shared by all options with the same plan.
    pub plan: Arc<StoredPlan>,
}

impl OptionEntry {
    /// The label of a seat; empty for one outside the plan, which no answer names.
    #[must_use]
    pub fn label(&self, seat: SeatNo) -> &str {
        self.plan.label(seat).unwrap_or_default()
    }

    /// ISO 4217.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.plan.currency
    }

    #[must_use]
    pub fn seat_count(&self) -> u32 {
        self.plan.seat_count()
    }

    /// The index of a section, by its code.
    #[must_use]
    pub fn section(&self, code: &str) -> Option<u16> {
        self.plan.section(code)
    }

    /// The index of a category, by its name.
    #[must_use]
    pub fn category(&self, name: &str) -> Option<u8> {
        self.plan.category(name)
    }

    /// The plan's canonical JSON.
    #[must_use]
    pub fn plan_json(&self) -> Bytes {
        self.plan.json()
    }

    /// The plan's canonical JSON, compressed.
    #[must_use]
    pub fn plan_gzip(&self) -> Bytes {
        self.plan.gzip()
    }
}

/// See the module. Shared by reference counting; empty until its first refresh.
#[derive(Debug, Default)]
pub struct Directory {
    index: ArcSwap<Index>,
    /// One refresh at a time.
    loader: Mutex<Loader>,
}

/// The catalogue of one moment.
#[derive(Clone, Debug, Default)]
struct Index {
    concerts: BTreeMap<ConcertId, Arc<Concert>>,
    options: HashMap<OptionId, Arc<OptionEntry>>,
    /// The options of each concert, ascending.
    by_concert: BTreeMap<(ConcertId, OptionId), Arc<OptionEntry>>,
    /// Options whose status is `None`.
    pending: usize,
}

#[derive(Debug, Default)]
struct Loader {
    /// Plans by hash, for as long as an option uses them.
    plans: HashMap<String, Weak<StoredPlan>>,
    /// Plans that cannot be read, so that each is complained about once.
    unreadable: HashSet<String>,
}

impl Directory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn option(&self, option: OptionId) -> Option<Arc<OptionEntry>> {
        self.index.load().options.get(&option).cloned()
    }

    #[must_use]
    pub fn shard_of(&self, option: OptionId) -> Option<ShardId> {
        Some(self.index.load().options.get(&option)?.shard)
    }

    #[must_use]
    pub fn concert(&self, concert: ConcertId) -> Option<Arc<Concert>> {
        self.index.load().concerts.get(&concert).cloned()
    }

    /// All concerts, by id.
    #[must_use]
    pub fn concerts(&self) -> Vec<Arc<Concert>> {
        self.index.load().concerts.values().cloned().collect()
    }

    /// How many concerts have a gate that is not off.
    #[must_use]
    pub fn gated(&self) -> usize {
        self.index.load().concerts.values().filter(|concert| concert.gated).count()
    }

    /// The options of a concert, by id.
    #[must_use]
    pub fn options_of(&self, concert: ConcertId) -> Vec<Arc<OptionEntry>> {
        let all = (concert, OptionId(0))..=(concert, OptionId(u32::MAX));
        self.index.load().by_concert.range(all).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// The options of a shard, by id.
    #[must_use]
    pub fn options_in(&self, shard: ShardId) -> Vec<OptionId> {
        let index = self.index.load();
        let here = index.options.values().filter(|entry| entry.shard == shard);
        let mut options: Vec<OptionId> = here.map(|entry| entry.option).collect();
        options.sort_unstable();
        options
    }

    /// How many options wait for their shard to add them to the sale.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.index.load().pending
    }

    /// The options that wait for their shard to add them to the sale, by id.
    #[must_use]
    pub fn pending_options(&self) -> Vec<Arc<OptionEntry>> {
        let index = self.index.load();
        index.by_concert.values().filter(|entry| entry.status.is_none()).cloned().collect()
    }

    /// Brings the directory up to the catalogue: new concerts and options, and every status. An option
    /// whose plan cannot be read is logged and left out; the others go on.
    ///
    /// # Errors
    /// The catalogue cannot be read now. The directory stays as it was.
    pub async fn refresh(&self, catalogue: &dyn Catalogue) -> Result<(), CatalogueError> {
        let mut loader = self.loader.lock().await;
        // Options first: the concert of an option that is there must be there as well.
        let options = all_options(catalogue).await?;
        let concerts = all_concerts(catalogue).await?;
        let before = self.index.load_full();
        let mut index = Index::default();
        for concert in concerts {
            let known = before.concerts.get(&concert.concert).filter(|known| ***known == concert);
            let kept = known.map_or_else(|| Arc::new(concert.clone()), Arc::clone);
            index.concerts.insert(concert.concert, kept);
        }
        for row in options {
            let gated = index.concerts.get(&row.concert).is_some_and(|concert| concert.gated);
            let entry = match before.options.get(&row.option) {
                Some(known) if known.plan_hash == row.plan_hash && known.concert == row.concert => {
                    known.with(&row, gated)
                }
                _ => match loader.entry(catalogue, &index, &row).await? {
                    Some(entry) => entry,
                    None => continue,
                },
            };
            index.add(entry);
        }
        self.index.store(Arc::new(index));
        loader.plans.retain(|_, plan| plan.strong_count() > 0);
        Ok(())
    }
}

impl OptionEntry {
    /// The same entry where nothing changed.
    fn with(self: &Arc<Self>, row: &ConcertOption, gated: bool) -> Arc<Self> {
        if self.status == row.status && self.starts_at == row.starts_at && self.gated == gated {
            return Arc::clone(self);
        }
        Arc::new(Self { status: row.status, starts_at: row.starts_at, gated, ..Self::clone(self) })
    }
}

impl Index {
    fn add(&mut self, entry: Arc<OptionEntry>) {
        self.pending += usize::from(entry.status.is_none());
        self.by_concert.insert((entry.concert, entry.option), Arc::clone(&entry));
        self.options.insert(entry.option, entry);
    }
}

impl Loader {
    /// A new entry; `None`, with a line in the log, when the catalogue's rows do not fit together.
    async fn entry(
        &mut self,
        catalogue: &dyn Catalogue,
        index: &Index,
        row: &ConcertOption,
    ) -> Result<Option<Arc<OptionEntry>>, CatalogueError> {
        let Some(concert) = index.concerts.get(&row.concert) else {
            return Err(CatalogueError::Corrupt(format!(
                "option {} belongs to concert {}, which is missing",
                row.option, row.concert
            )));
        };
        let Some(plan) = self.plan(catalogue, &row.plan_hash).await? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(OptionEntry {
            option: row.option,
            concert: row.concert,
            shard: concert.shard,
            gated: concert.gated,
            starts_at: row.starts_at,
            status: row.status,
            plan_hash: row.plan_hash.clone(),
            plan,
        })))
    }

    async fn plan(
        &mut self,
        catalogue: &dyn Catalogue,
        hash: &str,
    ) -> Result<Option<Arc<StoredPlan>>, CatalogueError> {
        if self.unreadable.contains(hash) {
            return Ok(None);
        }
        if let Some(plan) = self.plans.get(hash).and_then(Weak::upgrade) {
            return Ok(Some(plan));
        }
        let read = match catalogue.plan(hash).await? {
            None => Err("it is missing".to_owned()),
            Some(gzip) => {
                let wanted = hash.to_owned();
                tokio::task::spawn_blocking(move || StoredPlan::read(&wanted, gzip.into()))
                    .await
                    .map_err(|error| CatalogueError::Unavailable(error.to_string()))?
                    .map_err(|error| error.to_string())
            }
        };
        match read {
            Ok(plan) => {
                let plan = Arc::new(plan);
                self.plans.insert(hash.to_owned(), Arc::downgrade(&plan));
                Ok(Some(plan))
            }
            Err(error) => {
                tracing::error!(plan = hash, %error, "a plan cannot be read; its options are not served");
                self.unreadable.insert(hash.to_owned());
                Ok(None)
            }
        }
    }
}

async fn all_options(catalogue: &dyn Catalogue) -> Result<Vec<ConcertOption>, CatalogueError> {
    let mut all: Vec<ConcertOption> = Vec::new();
    loop {
        let page = catalogue.options(all.last().map(|row| row.option), PAGE).await?;
        let more = page.len() == PAGE as usize;
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}

async fn all_concerts(catalogue: &dyn Catalogue) -> Result<Vec<Concert>, CatalogueError> {
    let mut all: Vec<Concert> = Vec::new();
    loop {
        let page = catalogue.concerts(all.last().map(|row| row.concert), PAGE).await?;
        let more = page.len() == PAGE as usize;
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}
