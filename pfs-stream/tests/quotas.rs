//! Model-based test of quotas: any sequence of creations, replacements and removals by several
//! owners.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

use std::collections::BTreeMap;

use pfs_stream::*;
use proptest::prelude::*;

/// True if a removed stream returns its memory although this process still has handles to it.
const GIVEN_BACK_AT_ONCE: bool = cfg!(all(target_os = "linux", not(miri)));

/// Number of owners. The last one has no quota.
const OWNERS: usize = 4;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Clone, Debug)]
enum Operation {
    Create {
        owner: usize,
        name: usize,
        size: u64,
        replace: bool,
    },
    Remove(usize),
    /// Keeps a handle of the stream.
    Hold(usize),
    LetGo,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..OWNERS, 0..NAMES.len(), 1..40_000u64, any::<bool>())
            .prop_map(|(owner, name, size, replace)| Operation::Create { owner, name, size, replace }),
        3 => (0..NAMES.len()).prop_map(Operation::Remove),
        2 => (0..NAMES.len()).prop_map(Operation::Hold),
        1 => Just(Operation::LetGo),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let max_streams = prop_oneof![1..5usize, Just(usize::MAX)];
    let max_memory = prop_oneof![1..200_000u64, Just(u64::MAX)];
    (max_streams, max_memory)
        .prop_map(|(max_streams, max_memory)| Limits { max_streams, max_memory })
}

fn config(size: u64) -> StreamConfig {
    StreamConfig::default().buffer_size(size).reserve(true)
}

/// The model's state of a stream.
#[derive(Clone, Copy)]
struct Known {
    owner: usize,
    memory: u64,
    held: bool,
}

struct World {
    registry: Registry,
    quotas: Vec<Quota>,
    total: Limits,
    limits: Vec<Limits>,
    known: BTreeMap<&'static str, Known>,
    held: Vec<Stream>,
}

impl World {
    fn new(total: Limits, limits: Vec<Limits>) -> Self {
        let quotas = limits.iter().copied().map(Quota::new).collect();
        let registry = Registry::new(total);
        Self { registry, quotas, total, limits, known: BTreeMap::new(), held: Vec::new() }
    }

    /// Number and memory of the streams that satisfy `belongs`.
    fn taken(&self, belongs: impl Fn(&Known) -> bool) -> (usize, u64) {
        let taken = self.known.values().filter(|known| belongs(known));
        taken.fold((0, 0), |(streams, memory), known| (streams + 1, memory + known.memory))
    }

    fn create(&mut self, owner: usize, name: &'static str, size: u64, replace: bool) {
        let quota = self.quotas.get(owner);
        let registry =
            quota.map_or_else(|| self.registry.clone(), |quota| self.registry.charged_to(quota));
        let created = if replace {
            registry.replace_with(name, config(size), |_| ())
        } else {
            registry.create(name, config(size))
        };
        let needed = Stream::new(name, config(size)).unwrap().stat().memory;
        let old = self.known.get(name).copied();
        // Streams and memory that the old stream returns to a limit that counts it.
        let spared = |counted: bool| match old {
            Some(old) if counted => (1, if old.held { 0 } else { old.memory }),
            _ => (0, 0),
        };
        let fits = |limits: Limits, taken: (usize, u64), spared: (usize, u64)| {
            let streams = taken.0 + 1 - spared.0 <= limits.max_streams;
            (streams, taken.1 + needed - spared.1 <= limits.max_memory)
        };
        let own = spared(old.is_some_and(|old| old.owner == owner));
        let of_quota = self.limits.get(owner).map_or((true, true), |limits| {
            fits(*limits, self.taken(|known| known.owner == owner), own)
        });
        let of_total = fits(self.total, self.taken(|_| true), spared(true));
        match created {
            Err(CreateError::Exists) => assert!(old.is_some() && !replace),
            Err(CreateError::QuotaOfStreams { used, limit }) => {
                let limits = self.limits[owner];
                assert!(!of_quota.0);
                assert_eq!(
                    (used, limit),
                    (self.quotas[owner].streams(), limits.max_streams as u64)
                );
            }
            Err(CreateError::QuotaOfMemory { needed: told, used, limit }) => {
                assert!(of_quota.0 && !of_quota.1);
                let expected = (needed, self.quotas[owner].memory(), self.limits[owner].max_memory);
                assert_eq!((told, used, limit), expected);
            }
            Err(CreateError::TooManyStreams { .. }) => {
                assert!(of_quota == (true, true) && !of_total.0)
            }
            Err(CreateError::TooMuchMemory { .. }) => {
                assert!(of_quota == (true, true) && of_total == (true, false));
            }
            Err(error) => panic!("{error}"),
            Ok(stream) => {
                assert!(
                    (old.is_none() || replace)
                        && of_quota == (true, true)
                        && of_total == (true, true)
                );
                assert_eq!(stream.stat().memory, needed);
                self.known.insert(name, Known { owner, memory: needed, held: false });
            }
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Create { owner, name, size, replace } => {
                self.create(owner, NAMES[name], size, replace)
            }
            Operation::Remove(name) => {
                let removed = self.registry.remove(NAMES[name]);
                assert_eq!(self.known.remove(NAMES[name]).is_some(), removed);
            }
            Operation::Hold(name) => {
                if GIVEN_BACK_AT_ONCE && let Some(known) = self.known.get_mut(NAMES[name]) {
                    known.held = true;
                    self.held.push(self.registry.get(NAMES[name]).unwrap());
                }
            }
            Operation::LetGo => {
                self.held.clear();
                self.known.values_mut().for_each(|known| known.held = false);
            }
        }
    }

    fn check(&self) {
        for (owner, (quota, limits)) in self.quotas.iter().zip(&self.limits).enumerate() {
            let (streams, memory) = self.taken(|known| known.owner == owner);
            assert_eq!((quota.streams(), quota.memory()), (streams as u64, memory));
            assert!(streams <= limits.max_streams && memory <= limits.max_memory);
        }
        let (streams, memory) = self.taken(|_| true);
        assert_eq!((self.registry.len(), self.registry.memory()), (streams, memory));
        assert!(streams <= self.total.max_streams && memory <= self.total.max_memory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_quota_is_ever_exceeded_nor_the_total_and_everything_is_given_back(
        total in limits(),
        limits in prop::collection::vec(limits(), OWNERS - 1),
        operations in prop::collection::vec(operation(), 1..100),
    ) {
        let mut world = World::new(total, limits);
        for operation in &operations {
            world.apply(operation);
            world.check();
        }
        let World { registry, quotas, held, .. } = world;
        drop(held);
        for name in NAMES {
            registry.remove(name);
        }
        prop_assert_eq!(registry.memory(), 0);
        for quota in &quotas {
            prop_assert_eq!((quota.streams(), quota.memory()), (0, 0));
            prop_assert!(quota.is_idle());
        }
    }
}

#[test]
fn lower_quota_limits_refuse_new_streams_and_keep_existing_ones() {
    let registry = Registry::new(Limits::default());
    let quota = Quota::new(Limits::UNLIMITED);
    let charged = registry.charged_to(&quota);
    for name in ["a", "b"] {
        charged.create(name, config(1)).unwrap();
    }
    quota.set_limits(Limits { max_streams: 1, ..Limits::UNLIMITED });
    let refused = charged.create("c", config(1));
    assert!(matches!(refused, Err(CreateError::QuotaOfStreams { used: 2, limit: 1 })));
    // A replacement is refused as well: after it, there would still be more streams than allowed.
    let refused = charged.replace_with("a", config(1), |_| ());
    assert!(matches!(refused, Err(CreateError::QuotaOfStreams { used: 2, limit: 1 })));
    assert_eq!(registry.len(), 2);
    quota.set_limits(Limits::UNLIMITED);
    charged.create("c", config(1)).unwrap();
    assert_eq!((quota.streams(), quota.memory()), (3, registry.memory()));
    assert!(!quota.is_idle());
}
