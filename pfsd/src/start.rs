//! From the command line to a running daemon, and to its exit code.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::Parser;
use pfs_host::Daemon;
use pfs_http::Setup;
use pfs_proto::default_socket_path;
use rustix::process::geteuid;
use tokio::sync::oneshot;

use crate::{
    args::Args,
    cgroup,
    config::Config,
    descriptors,
    http_listener::HttpListener,
    logging, server,
    signals::{Ending, Signals},
    socket::{Directory, SocketFile},
    stdout, systemd,
};

/// The exit code of a command line that cannot be understood.
const USAGE: u8 = 2;

/// Does what the command line says, the program's name first, and tells how it ended.
pub fn start(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Args::try_parse_from(command_line) {
        Ok(args) if args.check_config => check_config(&args),
        Ok(args) => serve(&args),
        Err(error) if error.use_stderr() => {
            // There may be nobody who reads it.
            let _ = error.print();
            Ok(ExitCode::from(USAGE))
        }
        Err(help) => stdout::print(|| help.print()),
    };
    outcome.unwrap_or_else(|error| {
        // There may be nobody who reads it.
        let _ = writeln!(io::stderr(), "pfsd: {error:#}");
        ExitCode::FAILURE
    })
}

fn configuration(args: &Args) -> Result<Config> {
    let memory_limit = cgroup::memory_limit();
    Ok(match &args.config {
        Some(file) => Config::read(file, memory_limit)?,
        None => Config::from_toml("", "", memory_limit)?,
    })
}

fn check_config(args: &Args) -> Result<ExitCode> {
    let config = configuration(args)?;
    let http = Setup::prepare(&config.host.mounts, &config.http, args.http)?;
    let notes = config.derived.iter().chain(&config.notes).chain(http.iter().flat_map(|http| &http.notes));
    stdout::print(|| {
        let mut out = io::stdout().lock();
        match &args.config {
            Some(file) => writeln!(out, "{}: the configuration is fine", file.display())?,
            None => writeln!(out, "no configuration file: the defaults are fine")?,
        }
        for note in notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    })
}

fn serve(args: &Args) -> Result<ExitCode> {
    let mut config = configuration(args)?;
    let http = Setup::prepare(&config.host.mounts, &config.http, args.http)?;
    logging::init(args.log_format, &args.log)?;
    let passed = systemd::listener()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let within = runtime.enter();
    // Signals are caught before a client can connect, so that they end the daemon in order as soon as its socket is there. They
    // are also caught before the first line of the log, whose file may have reached the limit on file sizes.
    let mut signals = Signals::catch().context("cannot catch signals")?;
    for default in &config.derived {
        tracing::info!("{default}");
    }
    for note in config.notes.iter().chain(http.iter().flat_map(|http| &http.notes)) {
        tracing::warn!("{note}");
    }
    let (listener, file) = match passed {
        Some(listener) => {
            tracing::info!("serving on the socket that the service manager passed");
            (listener, None)
        }
        None => {
            let (listener, file) = bind(args, &config)?;
            (listener, Some(file))
        }
    };
    descriptors::provide(&mut config.host);
    let listener = tokio::net::UnixListener::from_std(listener).context("cannot listen")?;
    let http = http.map(bind_http).transpose()?;
    let code = runtime.block_on(until_signalled(listener, http, async || signals.next().await, &config));
    drop(within);
    // What is left after a second signal is not waited for.
    runtime.shutdown_background();
    drop(file);
    Ok(code)
}

/// Serves until a first signal, which lets clients hear of the end, and a second one, which does not wait for them.
async fn until_signalled(
    listener: tokio::net::UnixListener,
    http: Option<HttpListener>,
    mut next_signal: impl AsyncFnMut() -> Ending,
    config: &Config,
) -> ExitCode {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server::serve(listener, http, Arc::new(Daemon::new(&config.host)), config.shm, async {
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    systemd::ready();

    let first = tokio::select! {
        () = &mut serving => return ExitCode::SUCCESS,
        signal = next_signal() => signal,
    };
    tracing::info!(signal = first.name(), "asked to end");
    systemd::stopping();
    let _ = stop.send(());
    tokio::select! {
        () = &mut serving => ExitCode::SUCCESS,
        second = next_signal() => {
            tracing::warn!(signal = second.name(), "asked to end at once");
            ExitCode::from(second.exit_code())
        }
    }
}

fn bind_http(setup: Setup) -> Result<HttpListener> {
    let wanted = setup.address();
    let bound = HttpListener::bind(setup).with_context(|| format!("cannot serve HTTP on {wanted}"))?;
    let address = bound.address().context("cannot tell the address of HTTP")?;
    tracing::info!(%address, "serving {}", if bound.is_secure() { "HTTPS" } else { "HTTP" });
    Ok(bound)
}

fn bind(args: &Args, config: &Config) -> Result<(UnixListener, SocketFile)> {
    let (path, directory) = socket_path(args.socket.as_deref(), config.socket.as_deref());
    let path = std::path::absolute(&path).with_context(|| format!("cannot serve on {}", path.display()))?;
    let bound = SocketFile::bind(&path, directory, config.socket_mode)?;
    let mounts: Vec<&str> = config.host.mounts.iter().map(|mount| mount.path.as_str()).collect();
    tracing::info!(socket = %path.display(), mounts = mounts.join(" "), version = env!("CARGO_PKG_VERSION"), "serving");
    Ok(bound)
}

/// Where to listen, and whether that is the place where clients look by themselves.
fn socket_path(flag: Option<&Path>, file: Option<&Path>) -> (PathBuf, Directory) {
    let default = default_socket_path(env::var_os("XDG_RUNTIME_DIR").as_deref(), geteuid().as_raw());
    let path = flag.or(file).unwrap_or(&default).to_owned();
    let directory = if path == default { Directory::Private } else { Directory::AsItIs };
    (path, directory)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// A client that asks for documents and reads nothing, until the daemon cannot get rid of any more. On a paused clock
    /// time passes only where nobody can do anything.
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

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_it_at_once_although_a_client_is_stuck() {
        for (second, code) in [(Ending::Terminate, 143), (Ending::Interrupt, 130)] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            let (signals, mut sent) = mpsc::unbounded_channel();
            let config = Config::default();
            let daemon = until_signalled(listener, None, async || sent.recv().await.unwrap(), &config);
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
    async fn after_one_signal_a_stuck_client_is_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (signals, mut sent) = mpsc::unbounded_channel();
        let config = Config::default();
        let daemon = until_signalled(listener, None, async || sent.recv().await.unwrap(), &config);
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
