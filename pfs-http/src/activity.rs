//! What happens on a connection, so that one on which nothing does can be given up.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    Site,
    operations::{More, Protocol},
};

/// The state of one connection, seen from outside of its HTTP.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests that are not answered to the end, and pieces of answers that HTTP/2 keeps.
    requests: AtomicUsize,
    /// HTTP has bytes that the socket does not take.
    unwritten: AtomicBool,
    /// Something came since the last request was answered.
    receiving: AtomicBool,
    /// There was a request.
    greeted: AtomicBool,
    /// HTTP/2 has messages besides requests, so that not all that comes begins one.
    multiplexed: AtomicBool,
    /// The newest request, if its answer is useless once the client has gone.
    newest: Mutex<Option<(More, Protocol)>>,
    changed: Notify,
}

/// A piece that HTTP/2 keeps: its connection is busy until this is dropped.
#[derive(Debug)]
pub(super) struct KeptPiece(Arc<Activity>);

impl Drop for KeptPiece {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has asked for nothing: it has said nothing, or only that it speaks HTTP/2.
    Silent,
    /// A request has begun and not all of its headers have come.
    Receiving,
    /// Requests are being answered.
    Busy,
    /// All requests were answered.
    Idle,
}

impl Activity {
    /// Bytes came.
    pub(super) fn received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0
            && !self.receiving.swap(true, Ordering::Relaxed)
        {
            self.changed.notify_one();
        }
    }

    /// HTTP wrote, and the socket took something or, if `is_pending`, nothing.
    pub(super) fn writes(&self, is_pending: bool) {
        // Only HTTP/2 says something before there is a request.
        if !self.greeted.load(Ordering::Relaxed) {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        if self.unwritten.load(Ordering::Relaxed) != is_pending {
            self.unwritten.store(is_pending, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// What came so far was no request but the handshake before it.
    pub(super) fn shook_hands(&self) {
        self.receiving.store(false, Ordering::Relaxed);
        self.multiplexed.store(false, Ordering::Relaxed);
    }

    pub(super) fn request_begins(&self, multiplexed: bool) {
        self.greeted.store(true, Ordering::Relaxed);
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// A piece of an answer is given to HTTP, which over HTTP/2 may keep it until the client wants
    /// it, when the request has ended. `None` over HTTP/1.1, where [`writes`](Self::writes)
    /// tells of it.
    pub(super) fn keeps_piece(self: &Arc<Self>) -> Option<KeptPiece> {
        self.multiplexed.load(Ordering::Relaxed).then(|| {
            self.requests.fetch_add(1, Ordering::Relaxed);
            KeptPiece(Arc::clone(self))
        })
    }

    pub(super) fn request_ends(&self) {
        self.receiving.store(false, Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// A request begins. `Some` if its answer is useless once the client has gone.
    pub(super) fn answers(&self, request: Option<(More, Protocol)>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = request;
    }

    /// The protocol of the request that is being answered, if the answer is useless once the client
    /// has gone and nothing more of the request is read. `None` over HTTP/2, where the
    /// connection is always read.
    pub(super) fn is_only_answering(&self) -> Option<Protocol> {
        if self.phase() != Phase::Busy || self.multiplexed.load(Ordering::Relaxed) {
            return None;
        }
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().filter(|(body, _)| !body.is_expected()).map(|(_, protocol)| *protocol)
    }

    pub(super) fn phase(&self) -> Phase {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match () {
            () if self.requests.load(Ordering::Relaxed) > 0 || is(&self.unwritten) => Phase::Busy,
            () if is(&self.receiving) && !is(&self.multiplexed) => Phase::Receiving,
            () if is(&self.greeted) => Phase::Idle,
            () => Phase::Silent,
        }
    }

    /// Waits until the connection has been for too long in a phase that has an end; tells which. A
    /// phase has the limit that there is when it begins.
    pub(super) async fn overdue(&self, site: &Site) -> Phase {
        loop {
            let phase = self.phase();
            let limit: Option<Duration> = match phase {
                Phase::Busy => None,
                Phase::Silent | Phase::Receiving => Some(site.current().limits.header_time),
                Phase::Idle => Some(site.current().limits.idle_time),
            };
            match limit {
                None => self.changed.notified().await,
                Some(limit) if timeout(limit, self.changed.notified()).await.is_err() => {
                    return phase;
                }
                Some(_) => {}
            }
        }
    }
}
