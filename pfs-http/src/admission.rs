//! Connection limits: for the whole daemon, shared with the Unix socket, and for each address. Each
//! concurrent request on an HTTP/2 connection counts as a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::{Admitted, Daemon, refusals::Reason};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Counts the connections of the daemon and of each address.
#[derive(Debug)]
pub(super) struct Admission {
    daemon: Arc<Daemon>,
    per_address: AtomicUsize,
    present: Mutex<HashMap<IpAddr, usize>>,
}

/// Place of one connection, returned on drop.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    _admitted: Admitted,
}

/// Places of the requests on one connection.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    admission: Arc<Admission>,
    address: IpAddr,
    /// The place of the connection itself, which covers one request at a time.
    own: Arc<Semaphore>,
}

/// Place of one request, returned on drop.
#[derive(Debug)]
pub(super) struct RequestPlace {
    _own: Result<OwnedSemaphorePermit, Place>,
}

impl Requests {
    pub(super) fn new(admission: Arc<Admission>, address: IpAddr) -> Self {
        Self { admission, address, own: Arc::new(Semaphore::new(1)) }
    }

    /// Admits a request on a connection that was admitted.
    pub(super) fn admit(&self) -> Result<RequestPlace, Full> {
        let own = match Arc::clone(&self.own).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => Err(self.admission.admit(self.address)?),
        };
        Ok(RequestPlace { _own: own })
    }
}

/// Connection limit that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Full {
    /// The daemon has its maximum number of connections.
    #[error(
        "the daemon has {0} connections already; raise limits.max_connections, or its limit on open files (ulimit -n)"
    )]
    Daemon(u64),
    /// The address has its maximum number of connections.
    #[error(
        "there are {0} connections from this address already; raise limits.max_connections_per_address"
    )]
    Address(usize),
}

impl Full {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Daemon(_) => Reason::Connections,
            Self::Address(_) => Reason::ConnectionsPerAddress,
        }
    }
}

impl Admission {
    pub(super) fn new(daemon: Arc<Daemon>, per_address: usize) -> Self {
        Self { daemon, per_address: AtomicUsize::new(per_address), present: Mutex::default() }
    }

    /// Changes the limit for one address. Existing connections stay open.
    pub(super) fn set_per_address(&self, per_address: usize) {
        self.per_address.store(per_address, Relaxed);
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let address = one_client(address);
        let Some(admitted) = self.daemon.admit() else {
            return Err(Full::Daemon(self.daemon.max_connections()));
        };
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = present.entry(address).or_default();
        let per_address = self.per_address.load(Relaxed);
        if *count >= per_address {
            return Err(Full::Address(per_address));
        }
        *count = count.saturating_add(1);
        Ok(Place { admission: Arc::clone(self), address, _admitted: admitted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.admission.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = present.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                present.remove(&self.address);
            }
        }
    }
}

/// Key by which addresses are counted: an IPv4 address, or an IPv6 /64 network, which is the
/// smallest network that a provider gives to one customer.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl IntoResponse for Full {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Daemon(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Address(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        let problem = Problem::new(status, "too_many_connections", self.to_string());
        let mut response = problem.because(self.reason()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfs_host::Settings;

    fn admission(max_connections: usize, per_address: usize) -> Arc<Admission> {
        let daemon = Daemon::new(&Settings { max_connections, ..Settings::default() });
        Arc::new(Admission::new(Arc::new(daemon), per_address))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others_and_gives_its_own_back() {
        let admission = admission(10, 2);
        let mine = address("192.0.2.1");
        let first = admission.admit(mine).unwrap();
        let _second = admission.admit(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(mine).unwrap_err(), Full::Address(2));
        let _other = admission.admit(address("192.0.2.2")).unwrap();
        drop(first);
        assert!(admission.admit(mine).is_ok());
    }

    #[test]
    fn the_total_limit_holds_across_addresses_and_dropped_places_are_free_again() {
        let admission = admission(2, 2);
        let places = [admission.admit(address("192.0.2.1")), admission.admit(address("192.0.2.2"))];
        assert_eq!(admission.admit(address("192.0.2.3")).unwrap_err(), Full::Daemon(2));
        drop(places);
        assert!(admission.present.lock().unwrap().is_empty());
        assert!(admission.admit(address("192.0.2.3")).is_ok());
    }

    #[test]
    fn concurrent_requests_take_a_place_each_and_one_uses_the_place_of_its_connection() {
        let admission = admission(10, 2);
        let mine = address("192.0.2.1");
        let _connection = admission.admit(mine).unwrap();
        let requests = Requests::new(Arc::clone(&admission), mine);
        let first = requests.admit().unwrap();
        let second = requests.admit().unwrap();
        assert_eq!(requests.admit().unwrap_err(), Full::Address(2));
        drop(first);
        let again = requests.admit().unwrap();
        assert_eq!(requests.admit().unwrap_err(), Full::Address(2));
        drop((second, again));
        assert_eq!(admission.present.lock().unwrap()[&mine], 1);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let admission = admission(10, 1);
        let _place = admission.admit(address("2001:db8:1:2::1")).unwrap();
        assert_eq!(admission.admit(address("2001:db8:1:2:ffff::1")).unwrap_err(), Full::Address(1));
        assert!(admission.admit(address("2001:db8:1:3::1")).is_ok());
    }
}
