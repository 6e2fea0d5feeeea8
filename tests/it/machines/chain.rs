//! Chain: the owner, a daemon that mounts its streams, and a daemon that mounts those.

use std::path::Path;

use harness::{Daemon, Host, Link, Network, Pfs, Running, Signal, Transport};
use tempfile::TempDir;

/// The stream at its owner, and at the daemons that mount it.
pub(super) const AT_OWNER: &str = "/streamfs/s";
pub(super) const AT_MIDDLE: &str = "/middle/s";
pub(super) const AT_EDGE: &str = "/edge/s";

const TOKEN: &str = "token-of-all-machines";

/// Machine of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Owner,
    Middle,
    Edge,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Owner, Self::Middle, Self::Edge];

    /// Path of the mount at this place.
    pub(super) fn mount(self) -> &'static str {
        match self {
            Self::Owner => "/streamfs",
            Self::Middle => "/middle",
            Self::Edge => "/edge",
        }
    }

    /// Path of the stream at this place.
    pub(super) fn stream(self) -> &'static str {
        match self {
            Self::Owner => AT_OWNER,
            Self::Middle => AT_MIDDLE,
            Self::Edge => AT_EDGE,
        }
    }
}

/// Three daemons on three machines.
pub(super) struct Chain {
    // In this order: processes and proxies end before their machines.
    pub(super) owner: Daemon,
    pub(super) middle: Daemon,
    pub(super) edge: Daemon,
    /// The proxies before the owner and before the middle, if there are some.
    pub(super) links: Vec<Link>,
    pub(super) network: Network,
    _tokens: TempDir,
}

impl Chain {
    /// Starts a chain without proxies.
    #[track_caller]
    pub(super) fn new() -> Self {
        Self::build(None)
    }

    /// Starts a chain with proxies at the owner and at the middle. `prepare` sets them up before the
    /// first connection.
    #[track_caller]
    pub(super) fn with_links(mut prepare: impl FnMut(&Link)) -> Self {
        Self::build(Some(&mut prepare))
    }

    #[track_caller]
    fn build(mut prepare: Option<&mut dyn FnMut(&Link)>) -> Self {
        let network = Network::in_a_line();
        let tokens = tempfile::tempdir().unwrap();
        let (all, own) = (tokens.path().join("tokens"), tokens.path().join("own"));
        std::fs::write(&all, TOKEN).unwrap();
        std::fs::write(&own, TOKEN).unwrap();
        // Beyond loopback, a daemon wants tokens.
        let auth = format!("[auth]\ntoken_file = \"{}\"\n", all.display());
        let mut links = Vec::new();
        let mut url = |host: &Host, daemon: &Daemon| match &mut prepare {
            None => daemon.url(""),
            Some(prepare) => {
                let link = host.link_to(daemon);
                prepare(&link);
                let url = link.url();
                links.push(link);
                url
            }
        };
        let owner = network.owner.daemon(&auth);
        let mount = mount("middle", &url(&network.owner, &owner), "streamfs", &own);
        let middle = network.middle.daemon(&format!("{auth}{mount}"));
        let mount = self::mount("edge", &url(&network.middle, &middle), "middle", &own);
        let edge = network.edge.daemon(&format!("{auth}{mount}"));
        Self { owner, middle, edge, links, network, _tokens: tokens }
    }

    pub(super) fn daemon(&self, place: Place) -> &Daemon {
        match place {
            Place::Owner => &self.owner,
            Place::Middle => &self.middle,
            Place::Edge => &self.edge,
        }
    }

    /// The machine and the daemon at a place.
    fn at(&mut self, place: Place) -> (&Host, &mut Daemon) {
        match place {
            Place::Owner => (&self.network.owner, &mut self.owner),
            Place::Middle => (&self.network.middle, &mut self.middle),
            Place::Edge => (&self.network.edge, &mut self.edge),
        }
    }

    #[track_caller]
    pub(super) fn kill9(&mut self, place: Place) {
        self.at(place).1.kill9();
    }

    /// Starts another daemon in the place of one that was killed, with the same addresses.
    #[track_caller]
    pub(super) fn restart(&mut self, place: Place) {
        let (host, daemon) = self.at(place);
        host.enter(|| daemon.restart());
    }

    pub(super) fn signal(&self, place: Place, signal: Signal) {
        self.daemon(place).signal(signal);
    }

    /// Starts `pfs -v cat --stream ARGS` on the machine, without waiting until it is attached.
    #[track_caller]
    pub(super) fn start_reader<const N: usize>(
        &self,
        place: Place,
        transport: Transport,
        args: [&str; N],
    ) -> Running {
        let cat = self.daemon(place).pfs_on(transport, ["-v", "cat", "--stream"]).args(args);
        self.start(place, cat.arg(place.stream()))
    }

    /// Starts a command on the machine.
    #[track_caller]
    pub(super) fn start(&self, place: Place, command: Pfs) -> Running {
        let host = match place {
            Place::Owner => &self.network.owner,
            Place::Middle => &self.network.middle,
            Place::Edge => &self.network.edge,
        };
        host.enter(|| command.env("PFS_TOKEN", TOKEN).spawn())
    }
}

/// The configuration of a mount.
fn mount(name: &str, url: &str, mounted: &str, token: &Path) -> String {
    let token = token.display();
    format!(
        "[mounts.{name}]\npath = \"/{name}\"\nurl = \"{url}/{mounted}\"\ntoken_file = \"{token}\"\n"
    )
}
