//! Program start: from the command line to a running daemon, and to the exit code.

use std::{
    convert::Infallible,
    ffi::OsString,
    future::pending,
    io::{self, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::Parser;
use pfs_client::lookup::Lookup;
use pfs_host::Daemon;
use pfs_http::Setup;
use pfs_stream::Limits;
use rustix::{
    fs::Mode,
    process::{geteuid, umask},
};
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "remote")]
use crate::config::Remote;
use crate::{
    args::Args,
    ask, cgroup,
    config::Config,
    descriptors,
    http_listener::HttpListener,
    logging,
    reload::Reloader,
    server,
    signals::{self, Ending, Signals},
    socket::{Keeper, SocketError, SocketFile, bind_first, bind_named},
    stdout, systemd,
};

/// The exit code for a command line that cannot be parsed.
const USAGE: u8 = 2;

/// Runs the program with a command line whose first element is the program's name, and returns the
/// exit code.
pub fn start(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Args::try_parse_from(command_line) {
        Ok(args) if args.check_config => check_config(&args),
        Ok(args) if args.reload => reload(&args),
        Ok(args) => serve(&args),
        Err(error) if error.use_stderr() => {
            // Ignore the error: stderr may be closed.
            let _ = error.print();
            Ok(ExitCode::from(USAGE))
        }
        Err(help) => stdout::print(|| help.print()),
    };
    outcome.unwrap_or_else(|error| {
        // Ignore the error: stderr may be closed.
        let _ = writeln!(io::stderr(), "pfsd: {error:#}");
        ExitCode::FAILURE
    })
}

/// Reads the configuration: the file, overridden by the environment and the flags.
pub(crate) fn configuration(args: &Args) -> Result<Config> {
    let memory_limit = cgroup::memory_limit();
    let mut config = match &args.config {
        Some(file) => Config::read(file, memory_limit)?,
        None => Config::from_toml("", "", memory_limit)?,
    };
    config.socket = args.socket.clone().or(config.socket);
    config.http.address = args.http.or(config.http.address);
    config.host.idle_exit = config.idle_exit.time(args.autostarted);
    #[cfg(feature = "remote")]
    {
        config.remotes.extend(args.mounts.iter().cloned());
        crate::config::check_mounts(&config.local_mounts(), &config.remotes)
            .map_err(anyhow::Error::msg)?;
    }
    Ok(config)
}

/// Prepares the remote mounts: reads the files that they need.
#[cfg(feature = "remote")]
fn remotes(config: &Config) -> Result<Vec<pfs_remote::RemoteSettings>> {
    let load = |remote: &Remote| {
        remote.load().with_context(|| format!("cannot use the mount {}", remote.path()))
    };
    config.remotes.iter().map(load).collect()
}

/// Adds the remote mounts to a daemon.
#[cfg(feature = "remote")]
fn with_remotes(daemon: Daemon, remotes: Vec<pfs_remote::RemoteSettings>) -> Daemon {
    remotes.into_iter().fold(daemon, |daemon, settings| {
        tracing::info!(path = settings.path, owner = settings.urls(), "remote mount");
        let mount = Arc::new(pfs_remote::RemoteMount::new(settings, &daemon));
        daemon.with_mount(mount)
    })
}

/// Prepares HTTP before it listens, or returns `None` if HTTP is off.
pub(crate) fn http(config: &Config) -> Result<Option<Setup>> {
    #[cfg(feature = "remote")]
    if config.http.address.is_some()
        && let Some(mount) = config.remotes.iter().find(|mount| pfs_http::is_reserved(mount.path()))
    {
        let path = mount.path();
        anyhow::bail!(
            "the mount {path} cannot be served over HTTP, which reserves {path}; choose another path, or turn HTTP off"
        );
    }
    let mut http = Setup::prepare(&config.host.mounts, &config.http)?;
    if let Some(setup) = &mut http
        && config.http.token_file.is_none()
        && config.host.user_quota != Limits::UNLIMITED
    {
        let note = "limits.max_streams_per_user and max_memory_per_user limit only clients of the socket: a client over HTTP has a \
                    quota only through its token; set auth.token_file, and max_streams_per_token or max_memory_per_token";
        setup.notes.push(note.to_owned());
    }
    Ok(http)
}

fn check_config(args: &Args) -> Result<ExitCode> {
    let config = configuration(args)?;
    let http = http(&config)?;
    #[cfg(feature = "remote")]
    remotes(&config)?;
    let notes =
        config.derived.iter().chain(&config.notes).chain(http.iter().flat_map(|http| &http.notes));
    stdout::print(|| {
        let mut out = io::stdout().lock();
        match &args.config {
            Some(file) => writeln!(out, "{}: the configuration is valid", file.display())?,
            None => writeln!(out, "no configuration file: the defaults are valid")?,
        }
        for note in notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    })
}

/// Asks the running daemon to reload its configuration. The file named here is only read to find
/// the socket.
fn reload(args: &Args) -> Result<ExitCode> {
    let named = match &args.socket {
        Some(socket) => Some(socket.clone()),
        None => {
            configuration(args)
                .context("cannot reload, because the socket of the daemon is unknown")?
                .socket
        }
    };
    let socket = match named {
        Some(socket) => socket,
        None => {
            Lookup::from_environment()
                .find()
                .context("cannot reload; name the socket with --socket")?
                .socket
        }
    };
    let told = ask::reload(&socket)?;
    stdout::print(|| io::stdout().write_all(told.as_bytes()))
}

fn serve(args: &Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let within = runtime.enter();
    // SIGHUP must never end the daemon, so it is caught before anything that takes time.
    let hangups = signals::hangups().context("cannot catch SIGHUP")?;
    // The daemon sets the mode of every file that it creates. `listen.socket_mode` may grant more
    // than a shell's umask allows.
    umask(Mode::empty());
    let passed = systemd::listeners()?;
    let mut args = args.clone();
    if args.autostarted {
        leave_directory(&mut args)?;
    }
    if let Some(listener) = &passed.tcp {
        let address = listener.local_addr();
        args.http = Some(address.context(
            "cannot read the address of the TCP socket that the service manager passed",
        )?);
    }
    let config = configuration(&args)?;
    let http = http(&config)?;
    #[cfg(feature = "remote")]
    let remotes = remotes(&config)?;
    logging::init(args.log_format, &args.log)?;
    // Signals are caught before a client can connect, so that they shut the daemon down gracefully
    // as soon as its socket exists. They are also caught before the first log line, whose file may
    // have reached the limit on file sizes.
    let mut signals = Signals::catch().context("cannot catch signals")?;
    for default in &config.derived {
        tracing::info!("{default}");
    }
    for note in config.notes.iter().chain(http.iter().flat_map(|http| &http.notes)) {
        tracing::warn!("{note}");
    }
    let (listener, file) = match passed.unix {
        Some(listener) => {
            tracing::info!("serving on the Unix socket that the service manager passed");
            (listener, None)
        }
        None => {
            let bound = bind(&config);
            if args.autostarted && bound.as_ref().is_err_and(is_served) {
                tracing::info!("another daemon started first; exiting");
                return Ok(ExitCode::SUCCESS);
            }
            let (listener, file) = bound?;
            (listener, Some(file))
        }
    };
    let mut host = config.host.clone();
    if let Some(shortage) = descriptors::provide(&mut host) {
        tracing::warn!("{shortage}");
    }
    let (reloads, requests) = mpsc::channel(1);
    let daemon = Daemon::new(&host).with_reload(geteuid().as_raw(), reloads);
    #[cfg(feature = "remote")]
    let daemon = with_remotes(daemon, remotes);
    let daemon = Arc::new(daemon);
    let listener = tokio::net::UnixListener::from_std(listener).context("cannot listen")?;
    let http = http.map(|setup| listen_http(setup, passed.tcp, Arc::clone(&daemon))).transpose()?;
    let (listeners, replacements) = mpsc::channel(1);
    // A socket passed by the service manager is not the daemon's to recreate.
    let mut keeper = file
        .map(|file| Keeper::new(file, &config, args.autostarted, Arc::clone(&daemon), listeners));
    let reloader = Reloader {
        args,
        running: config.clone(),
        daemon: Arc::clone(&daemon),
        http: http.as_ref().map(HttpListener::server),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        server::serve(listener, replacements, http, Arc::clone(&daemon), config.shm, async {
            let _ = stopped.await;
        });
    let upkeep = async {
        let keeping = async {
            match &mut keeper {
                Some(keeper) => keeper.run().await,
                None => pending().await,
            }
        };
        tokio::select! {
            never = reloader.run(hangups, requests) => never,
            never = keeping => never,
        }
    };
    let shutdown = daemon.shutdown().clone().cancelled_owned();
    let ended = until_ended(serving, stop, shutdown, async || signals.next().await, upkeep);
    let code = runtime.block_on(ended);
    drop(within);
    // Work that remains after a second signal is not waited for.
    runtime.shutdown_background();
    drop(keeper);
    // Dropping the daemon tells the client that stopped it that another daemon can start.
    drop(daemon);
    Ok(code)
}

/// Changes to `/`, so that the daemon keeps neither its starter's directory nor a mounted file
/// system in use. Only the paths of `--config` and `--socket` can be relative to the starter's
/// directory. Both are made absolute and stay valid.
fn leave_directory(args: &mut Args) -> Result<()> {
    if let Some(config) = &mut args.config {
        *config = std::path::absolute(&*config)
            .with_context(|| format!("cannot find {}", config.display()))?;
    }
    if let Some(socket) = &mut args.socket {
        *socket = std::path::absolute(&*socket)
            .with_context(|| format!("cannot serve on {}", socket.display()))?;
    }
    std::env::set_current_dir("/").context("cannot change to the directory /")
}

/// Serves until the first signal or a client's request, which begins a graceful shutdown. A further
/// signal ends the daemon without waiting for clients.
async fn until_ended(
    serving: impl Future<Output = ()>,
    stop: oneshot::Sender<()>,
    shutdown: impl Future<Output = ()>,
    mut next_signal: impl AsyncFnMut() -> Ending,
    upkeep: impl Future<Output = Infallible>,
) -> ExitCode {
    tokio::pin!(serving);
    systemd::ready();

    tokio::select! {
        biased;
        () = shutdown => {}
        () = &mut serving => return ExitCode::SUCCESS,
        signal = next_signal() => tracing::info!(signal = signal.name(), "shutdown requested"),
        never = upkeep => match never {},
    }
    systemd::stopping();
    let _ = stop.send(());
    tokio::select! {
        () = &mut serving => ExitCode::SUCCESS,
        second = next_signal() => {
            tracing::warn!(signal = second.name(), "immediate exit requested");
            ExitCode::from(second.exit_code())
        }
    }
}

/// Serves HTTP on the socket passed by the service manager, otherwise on the setup's address.
fn listen_http(
    setup: Setup,
    passed: Option<TcpListener>,
    daemon: Arc<Daemon>,
) -> Result<HttpListener> {
    let wanted = setup.address();
    let bound = match passed {
        Some(listener) => HttpListener::from_std(listener, setup, daemon),
        None => HttpListener::bind(setup, daemon),
    };
    let bound = bound.with_context(|| format!("cannot serve HTTP on {wanted}"))?;
    let address = bound.address().context("cannot read the address of the HTTP listener")?;
    tracing::info!(%address, "serving {}", if bound.is_secure() { "HTTPS" } else { "HTTP" });
    Ok(bound)
}

fn bind(config: &Config) -> Result<(UnixListener, SocketFile)> {
    let lookup = Lookup::from_environment();
    let (listener, file) = match config.socket.as_deref() {
        Some(path) => {
            let path = std::path::absolute(path)
                .with_context(|| format!("cannot serve on {}", path.display()))?;
            bind_named(&path, &lookup, config.socket_mode)?
        }
        None => bind_first(&lookup, config.socket_mode)?,
    };
    let mounts: Vec<&str> = config.host.mounts.iter().map(|mount| mount.path.as_str()).collect();
    tracing::info!(
        socket = %file.path().display(),
        mounts = mounts.join(" "),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    Ok((listener, file))
}

/// Returns true if the socket belongs to a daemon that answers, which is all that a `pfs` that
/// starts a daemon needs.
fn is_served(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SocketError::Live { answers: true, .. }))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use bytes::BytesMut;
    use pfs_proto::{Hello, Request};
    use tokio::{
        io::AsyncWriteExt,
        net::{UnixListener, UnixStream},
        sync::mpsc,
        task::yield_now,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::config::Shm;

    /// Creates a client that requests documents and reads no replies, until the daemon cannot send
    /// any more. On the paused clock, time advances only while all tasks are idle.
    async fn stuck_client(socket: &Path) -> UnixStream {
        let mut requests = BytesMut::new();
        Request::Hello(Hello::OURS).encode(&mut requests);
        for _ in 0..1000 {
            Request::Document("/streamfs/README".parse().unwrap()).encode(&mut requests);
        }
        let mut client = UnixStream::connect(socket).await.unwrap();
        while timeout(Duration::from_millis(1), client.write_all(&requests)).await.is_ok() {}
        client
    }

    /// Runs a daemon that never reloads.
    async fn daemon(listener: UnixListener, next_signal: impl AsyncFnMut() -> Ending) -> ExitCode {
        let (stop, stopped) = oneshot::channel::<()>();
        let daemon = Arc::new(Daemon::new(&Config::default().host));
        let shutdown = daemon.shutdown().clone().cancelled_owned();
        let serving =
            server::serve(listener, mpsc::channel(1).1, None, daemon, Shm::default(), async {
                let _ = stopped.await;
            });
        until_ended(serving, stop, shutdown, next_signal, pending()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_daemon_at_once_even_if_a_client_is_stuck() {
        for (second, code) in [(Ending::Terminate, 143), (Ending::Interrupt, 130)] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            let (signals, mut sent) = mpsc::unbounded_channel();
            let daemon = daemon(listener, async || sent.recv().await.unwrap());
            let operator = async {
                let stuck = stuck_client(&socket).await;
                let begun = Instant::now();
                signals.send(Ending::Terminate).unwrap();
                while UnixStream::connect(&socket).await.is_ok() {
                    yield_now().await;
                }
                signals.send(second).unwrap();
                (stuck, begun)
            };
            let (ended, (_stuck, begun)) = tokio::join!(daemon, operator);
            assert_eq!(ended, ExitCode::from(code));
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_signal_a_stuck_client_is_abandoned_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (signals, mut sent) = mpsc::unbounded_channel();
        let daemon = daemon(listener, async || sent.recv().await.unwrap());
        let operator = async {
            let stuck = stuck_client(&socket).await;
            signals.send(Ending::Terminate).unwrap();
            (stuck, Instant::now())
        };
        let (ended, (_stuck, begun)) = tokio::join!(daemon, operator);
        assert_eq!(ended, ExitCode::SUCCESS);
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }
}
