//! Connecting to the daemon: finding it, starting one if none answers, and explaining
//! connection errors.

use std::{io, sync::OnceLock};

use pfs_client::{
    Client, ConnectError, Endpoint, Operator,
    lookup::{Lookup, Unfit},
    start::{self, StartError, Starter},
};
use pfs_proto::VERSION;

use crate::{
    cli::GlobalArgs,
    exit_code::{ExitCode, Failure},
    place::Place,
    printer::Printer,
};

/// The daemon that this run uses.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    /// Where the daemon is, according to flags and environment.
    named: Place,
    /// Where the daemon was found; set after the first connection.
    found: OnceLock<Place>,
    /// Whether to start a daemon if none answers.
    autostart: bool,
    /// Whether to share memory with the daemon if possible.
    shm: bool,
    printer: Printer,
}

impl Daemon {
    /// Takes the daemon from flags and environment. If they name none, the daemon is found
    /// when connecting.
    pub(crate) fn new(global: &GlobalArgs, printer: &Printer) -> anyhow::Result<Self> {
        let named = Place::from_args(global)?;
        let looks = matches!(named, Place::Lookup(_));
        Ok(Self {
            named,
            found: OnceLock::new(),
            autostart: looks && start::is_allowed(),
            shm: !global.no_shm,
            printer: printer.clone(),
        })
    }

    /// Connects. Starts a daemon if none answers and autostart is allowed.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let Place::Lookup(lookup) = self.place() else {
            return self.try_connect().await.map_err(|error| explain(error, self.place()));
        };
        match lookup.find() {
            Ok(found) => {
                self.printer.verbose(&found);
                let place = Place::Socket(found.socket);
                match self.connect_to(&place).await {
                    Err(error) if self.autostart && start::is_needed(&error) => {}
                    connected => return self.found(place, connected),
                }
            }
            Err(_) if self.autostart => {}
            Err(not_found) => {
                let message = format!(
                    "{not_found}; start one with pfsd, or unset PFS_AUTOSTART so that pfs starts one"
                );
                return Err(Failure::new(ExitCode::NoDaemon, message).into());
            }
        }
        self.start(lookup).await
    }

    /// Starts a daemon, and connects to it.
    async fn start(&self, lookup: &Lookup) -> anyhow::Result<Client> {
        let starter = Starter::prepare(lookup).map_err(not_started)?;
        let socket = starter.socket().display();
        // A missing directory is common and not worth a message.
        for unfit in
            starter.passed_over().iter().filter(|unfit| !matches!(unfit, Unfit::Missing { .. }))
        {
            self.printer.info(format_args!("{unfit}; starting the daemon on {socket}"));
        }
        let program = starter.program().display();
        self.printer.verbose(format_args!("no daemon answers; starting {program} on {socket}"));
        let client = self.configured(starter.connect().await.map_err(not_started)?);
        if let Endpoint::Unix(socket) = client.endpoint() {
            let _ = self.found.set(Place::Socket(socket.clone()));
        }
        Ok(client)
    }

    /// Connects to a running daemon of any version, for requests about the daemon itself. Starts
    /// no daemon.
    pub(crate) async fn operator(&self) -> anyhow::Result<Operator> {
        let place = match self.place() {
            Place::Lookup(lookup) => match lookup.find() {
                Ok(found) => Place::Socket(found.socket),
                Err(not_found) => {
                    let start = if self.autostart {
                        "any other pfs command starts one"
                    } else {
                        "start one with pfsd"
                    };
                    return Err(
                        Failure::new(ExitCode::NoDaemon, format!("{not_found}; {start}")).into()
                    );
                }
            },
            place => place.clone(),
        };
        let operator = Operator::connect(&place.endpoint()).await.map_err(|error| match error {
            ConnectError::NoDaemon { source, .. } => {
                Failure::new(ExitCode::NoDaemon, format!("no daemon answers {place} ({source})"))
                    .into()
            }
            error => explain(error, &place),
        })?;
        let _ = self.found.set(place);
        Ok(operator)
    }

    /// Connects to a running daemon. Starts no daemon.
    pub(crate) async fn try_connect(&self) -> Result<Client, ConnectError> {
        self.connect_to(self.place()).await
    }

    async fn connect_to(&self, place: &Place) -> Result<Client, ConnectError> {
        Ok(self.configured(Client::connect(place.endpoint()).await?))
    }

    fn configured(&self, client: Client) -> Client {
        client.with_shm(self.shm)
    }

    /// Stores where the daemon is, so that later connections of this run use the same daemon.
    fn found(
        &self,
        place: Place,
        connected: Result<Client, ConnectError>,
    ) -> anyhow::Result<Client> {
        let client = connected.map_err(|error| explain(error, &place))?;
        // Fails if another connection of this run has stored the place already.
        let _ = self.found.set(place);
        Ok(client)
    }

    /// Whether to share memory with the daemon if possible.
    pub(crate) fn shm(&self) -> bool {
        self.shm
    }

    /// Where the daemon is. After the first connection this is a socket or a URL.
    pub(crate) fn place(&self) -> &Place {
        self.found.get().unwrap_or(&self.named)
    }
}

/// Explains why no daemon was started.
fn not_started(error: StartError) -> anyhow::Error {
    match error {
        StartError::NoPlace { .. } => {
            Failure::new(ExitCode::NoDaemon, format!("{error} with --socket")).into()
        }
        StartError::Gone { ref socket, ref source } => {
            explain(source.clone(), &Place::Socket(socket.clone())).context(error.to_string())
        }
        error => error.into(),
    }
}

/// Adds the place and a remedy to a connection error.
fn explain(error: ConnectError, place: &Place) -> anyhow::Error {
    match (error, place) {
        (ConnectError::NoDaemon { source, .. } | ConnectError::Unreachable { source, .. }, _) => {
            no_daemon(&source, place).into()
        }
        (ConnectError::Io { path, source }, _) if source.kind() == io::ErrorKind::InvalidInput => {
            let message = "the path of the socket is too long";
            let message =
                format!("{message}, {} bytes: {}", path.as_os_str().len(), path.display());
            Failure::new(ExitCode::Usage, message).into()
        }
        (ConnectError::Io { path, source }, _)
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            anyhow::anyhow!(
                "cannot connect to {}: {source}; the daemon's owner can grant access with listen.socket_mode",
                path.display()
            )
        }
        (error @ ConnectError::TimedOut { .. }, Place::Socket(path)) => {
            let message = format!(
                "{error} {place}; the daemon is stopped or overloaded, and its process id is in {}.lock",
                path.display()
            );
            Failure::new(ExitCode::NoDaemon, message).into()
        }
        (error @ ConnectError::Rejected { status: 401, .. }, _) => {
            anyhow::anyhow!(
                "{error}; use --token-file or PFS_TOKEN_FILE to name a file that holds a token"
            )
        }
        (error @ ConnectError::Untrusted { .. }, _) => {
            anyhow::anyhow!(
                "{error}; to trust the daemon's certificate, use --ca-file or PFS_CA_FILE; to present a client \
                 certificate, use --client-cert-file or PFS_CLIENT_CERT_FILE"
            )
        }
        (ConnectError::Older { version, pid, protocol }, _) => {
            let own = env!("CARGO_PKG_VERSION");
            let to_do = match place {
                Place::Socket(path) => {
                    format!(
                        "stop it with: pfs --socket {} stop, and start a new one",
                        path.display()
                    )
                }
                Place::Url { .. } | Place::Lookup(_) => {
                    "start a newer pfsd in its place, or use the pfs of the daemon's version"
                        .to_owned()
                }
            };
            anyhow::anyhow!(
                "pfsd {version} (pid {pid}) {place} is older than this pfs {own}: it speaks version {protocol} of the protocol, \
                 and pfs speaks version {VERSION}; {to_do}"
            )
        }
        // These errors name the place themselves.
        (error @ (ConnectError::Io { .. } | ConnectError::Rejected { .. }), _) => error.into(),
        (error, _) => {
            anyhow::Error::new(error).context(format!("cannot talk to the daemon {place}"))
        }
    }
}

fn no_daemon(why: &io::Error, place: &Place) -> Failure {
    let how = match place {
        Place::Socket(path) => format!("; start one with: pfsd --socket {}", path.display()),
        Place::Url { endpoint, .. } if endpoint.is_local() => {
            "; start one with: pfsd --http ADDRESS".to_owned()
        }
        Place::Url { .. } | Place::Lookup(_) => String::new(),
    };
    Failure::new(ExitCode::NoDaemon, format!("no daemon answers {place} ({why}){how}"))
}
