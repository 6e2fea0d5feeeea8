//! Idle detection: finds connections that are idle, and requests whose headers arrive too slowly.

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

/// Activity of one connection, as seen from outside hyper.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Number of requests whose responses have not ended, plus the pieces of responses that
    /// h2 holds.
    requests: AtomicUsize,
    /// hyper has bytes that the socket does not accept.
    unwritten: AtomicBool,
    /// Bytes arrived since the last response ended.
    receiving: AtomicBool,
    /// At least one request has arrived.
    greeted: AtomicBool,
    /// The connection speaks HTTP/2, which has messages besides requests: not all bytes that arrive
    /// begin a request.
    multiplexed: AtomicBool,
    /// The newest request, if its response is useless once the client has gone.
    newest: Mutex<Option<(More, Protocol)>>,
    changed: Notify,
}

/// Piece of a response that h2 holds. The connection is busy until the piece is dropped.
#[derive(Debug)]
pub(super) struct KeptPiece(Arc<Activity>);

impl Drop for KeptPiece {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// Phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request yet: the client has sent nothing, or only the HTTP/2 preface.
    Silent,
    /// A request has begun, and some of its headers are missing.
    Receiving,
    /// Requests are being answered.
    Busy,
    /// All requests have been answered.
    Idle,
}

impl Activity {
    /// Records that bytes arrived.
    pub(super) fn received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0
            && !self.receiving.swap(true, Ordering::Relaxed)
        {
            self.changed.notify_one();
        }
    }

    /// Records a write of hyper. The socket accepted some bytes or, if `is_pending`, none.
    pub(super) fn writes(&self, is_pending: bool) {
        // Only HTTP/2 writes before the first request.
        if !self.greeted.load(Ordering::Relaxed) {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        if self.unwritten.load(Ordering::Relaxed) != is_pending {
            self.unwritten.store(is_pending, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// Forgets the bytes so far: they were the TLS handshake, not a request.
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

    /// Keeps the connection busy while h2 holds a piece of a response. h2 may hold the piece after
    /// the request has ended, until the client accepts the bytes. `None` over HTTP/1.1, where
    /// [`writes`](Self::writes) reports unsent bytes.
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

    /// Records the request that begins: `Some` if its response is useless once the client has gone.
    pub(super) fn answers(&self, request: Option<(More, Protocol)>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = request;
    }

    /// Returns the protocol of the current request, if its response is useless once the client has
    /// gone and hyper reads no more of the request. `None` over HTTP/2, where hyper always reads
    /// the connection.
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

    /// Waits until the connection has exceeded the time limit of its phase, and returns that phase.
    /// The limit that was configured when the phase began applies.
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
