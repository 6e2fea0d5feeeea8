//! Counters of links and of mounts, for stats.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use pfs_proto::{LinkStat, SlowPolicy};
use pfs_stream::Stream;

/// Counters of a mount: of all its links, also of those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) reconnects: AtomicU64,
    pub(crate) lost_bytes: AtomicU64,
}

/// Counters of a link, which its task keeps.
#[derive(Debug)]
pub(crate) struct LinkCounters {
    totals: Arc<Totals>,
    /// Head at the owner, as the owner last told.
    head: AtomicU64,
    /// `None` before the link has opened, and after it has ended.
    now: Mutex<Option<Now>>,
}

#[derive(Debug)]
struct Now {
    replica: Stream,
    /// Without the lag and the readers, which are looked up.
    stat: LinkStat,
}

impl LinkCounters {
    pub(crate) fn new(totals: &Arc<Totals>) -> Self {
        Self { totals: Arc::clone(totals), head: AtomicU64::new(0), now: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Now>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut LinkStat)) {
        if let Some(now) = &mut *self.lock() {
            change(&mut now.stat);
        }
    }

    /// The link has attached for the first time, with this policy, and fills this replica.
    pub(crate) fn opened(&self, replica: &Stream, policy: SlowPolicy) {
        let stat = LinkStat {
            connected: true,
            since: SystemTime::now(),
            policy,
            lag: 0,
            reconnects: 0,
            lost_bytes: 0,
            readers: 0,
        };
        *self.lock() = Some(Now { replica: replica.clone(), stat });
    }

    /// Notes the head at the owner.
    pub(crate) fn set_head(&self, head: u64) {
        self.head.store(head, Relaxed);
    }

    /// Notes the policy of the link.
    pub(crate) fn set_policy(&self, policy: SlowPolicy) {
        self.change(|stat| stat.policy = policy);
    }

    /// The connection has broken.
    pub(crate) fn lost(&self) {
        self.change(|stat| (stat.connected, stat.since) = (false, SystemTime::now()));
    }

    /// The link has attached again.
    pub(crate) fn restored(&self) {
        self.totals.reconnects.fetch_add(1, Relaxed);
        self.change(|stat| {
            (stat.connected, stat.since) = (true, SystemTime::now());
            stat.reconnects = stat.reconnects.saturating_add(1);
        });
    }

    /// Counts bytes that the link did not get in time.
    pub(crate) fn add_lost(&self, bytes: u64) {
        let add = |lost: u64| Some(lost.saturating_add(bytes));
        let _ = self.totals.lost_bytes.fetch_update(Relaxed, Relaxed, add);
        self.change(|stat| stat.lost_bytes = stat.lost_bytes.saturating_add(bytes));
    }

    /// The link has ended for good.
    pub(crate) fn ended(&self) {
        *self.lock() = None;
    }

    pub(crate) fn stat(&self) -> Option<LinkStat> {
        let now = self.lock();
        let Now { replica, stat } = now.as_ref()?;
        let lag = self.head.load(Relaxed).saturating_sub(replica.extent().head);
        let readers = u32::try_from(replica.readers()).unwrap_or(u32::MAX);
        Some(LinkStat { lag, readers, ..*stat })
    }
}
