//! Network of three machines in a line, for one test: network namespaces, and cables with a rate
//! between them.
//!
//! The namespaces have no names. They exist while the test, or a process in them, does, so nothing
//! is left over after a panic, and tests that run at the same time do not meet.

use std::{
    fs::{File, read_to_string},
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    panic::resume_unwind,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Daemon, Link, Pfs, Transport};

/// Three machines in a line. Only neighbours reach each other.
pub struct Network {
    /// The machine at the upper end.
    pub owner: Host,
    /// The machine with two cables.
    pub middle: Host,
    /// The machine at the lower end.
    pub edge: Host,
}

/// Machine of a [`Network`].
pub struct Host {
    namespace: File,
    address: Ipv4Addr,
}

/// A cable of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// To the next machine towards the owner.
    Up,
    /// To the next machine towards the edge.
    Down,
}

impl Cable {
    /// Name of the interface.
    fn name(self) -> &'static str {
        match self {
            Self::Up => "uplink",
            Self::Down => "downlink",
        }
    }
}

impl Network {
    /// Creates a network. Needs root, or the root of a user namespace: `scripts/machines`.
    #[track_caller]
    pub fn in_a_line() -> Self {
        let address = |network, host| Ipv4Addr::new(10, 0, network, host);
        let [owner, middle, edge] = [address(1, 1), address(2, 1), address(2, 2)].map(Host::new);
        owner.connect(&middle, [owner.address, address(1, 2)]);
        middle.connect(&edge, [middle.address, edge.address]);
        Self { owner, middle, edge }
    }

    /// Limits the rate of both cables in both directions.
    #[track_caller]
    pub fn limit_rate(&self, mbit: u32) {
        for (host, cable) in [
            (&self.owner, Cable::Down),
            (&self.middle, Cable::Up),
            (&self.middle, Cable::Down),
            (&self.edge, Cable::Up),
        ] {
            let rate = format!("{mbit}mbit");
            let filter = ["root", "tbf", "rate", &rate, "burst", "64kb", "latency", "100ms"];
            host.system("tc", &[&["qdisc", "add", "dev", cable.name()], &filter[..]].concat());
        }
    }
}

impl Host {
    /// Creates a machine without cables. It listens at this address.
    #[track_caller]
    fn new(address: Ipv4Addr) -> Self {
        let mut holder = Pfs::new("unshare").args(["--net", "sh", "-c", "echo here; read _"]);
        holder = holder.stdin_pipe().stdout_pipe();
        let mut holder = holder.spawn();
        let mut line = String::new();
        BufReader::new(holder.take_stdout()).read_line(&mut line).expect("a pipe");
        assert_eq!(line, "here\n", "no network namespace: {}", holder.stderr());
        let namespace = File::open(format!("/proc/{}/ns/net", holder.pid())).expect("it runs");
        let host = Self { namespace, address };
        host.system("ip", &["link", "set", "dev", "lo", "up"]);
        host
    }

    /// Lays a cable down to another machine. The ends have these addresses.
    #[track_caller]
    fn connect(&self, lower: &Self, addresses: [Ipv4Addr; 2]) {
        let there = format!("/proc/{}/fd/{}", std::process::id(), lower.namespace.as_raw_fd());
        let (name, peer) = (Cable::Down.name(), Cable::Up.name());
        let pair = ["link", "add", name, "type", "veth", "peer", "name", peer, "netns", &there];
        self.system("ip", &pair);
        let ends = [(self, name), (lower, peer)];
        for ((host, name), address) in ends.into_iter().zip(addresses) {
            let address = format!("{address}/24");
            host.system("ip", &["address", "add", &address, "dev", name]);
            host.system("ip", &["link", "set", "dev", name, "up"]);
        }
    }

    /// Runs `act` on this machine: sockets and processes that `act` creates are there.
    #[track_caller]
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        // A network namespace is that of a thread.
        let entered = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = self.namespace.as_fd();
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                    .expect("root may enter");
                act()
            });
            inside.join()
        });
        entered.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a daemon with this configuration (TOML), which serves HTTP at the machine's address.
    #[track_caller]
    pub fn daemon(&self, toml: &str) -> Daemon {
        let http = (self.address, 0).into();
        self.enter(|| Daemon::launched(toml, Some(http), Transport::Shm))
    }

    /// Starts a proxy to a daemon on this machine, at the machine's address.
    #[track_caller]
    pub fn link_to(&self, daemon: &Daemon) -> Link {
        self.enter(|| Link::to(daemon.http_address(), ""))
    }

    /// Pulls the cable at this machine's end. The other end notices it too.
    #[track_caller]
    pub fn pull(&self, cable: Cable) {
        self.system("ip", &["link", "set", "dev", cable.name(), "down"]);
    }

    /// Puts the cable back.
    #[track_caller]
    pub fn put_back(&self, cable: Cable) {
        self.system("ip", &["link", "set", "dev", cable.name(), "up"]);
    }

    /// Returns how many bytes this machine has sent on a cable, with all headers.
    #[track_caller]
    pub fn sent(&self, cable: Cable) -> u64 {
        // Unlike /sys, /proc shows the interfaces of the thread.
        let stats = self.enter(|| read_to_string("/proc/thread-self/net/dev"));
        let stats = stats.expect("the kernel has interfaces");
        let line = |line: &str| {
            let (name, numbers) = line.split_once(':')?;
            let sent = numbers.split_whitespace().nth(8)?;
            (name.trim() == cable.name()).then(|| sent.parse().expect("a number"))
        };
        stats.lines().find_map(line).unwrap_or_else(|| panic!("no {cable:?} in {stats}"))
    }

    #[track_caller]
    fn system(&self, program: &str, args: &[&str]) {
        self.enter(|| Pfs::new(program).args(args).run()).exits(0);
    }
}
