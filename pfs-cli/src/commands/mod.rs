//! The commands, one file each.

pub(crate) mod bench;
mod cat;
mod close;
mod create;
mod info;
mod ls;
mod rm;
mod stat;
mod stop;
mod write;

use std::{fmt::Display, pin::pin, time::Duration};

use pfs_client::RequestError;
use pfs_proto::ErrorCode;

use crate::{
    cli::Command,
    daemon::Daemon,
    exit_code::{ExitCode, Failure},
    printer::Printer,
};

/// Exit code of a command with several paths. All paths are tried; the first failure determines
/// the code.
#[derive(Debug, Default)]
struct Failures(Option<ExitCode>);

impl Failures {
    /// Prints the error of one path. Returns the error if no daemon answers, because the other
    /// paths would fail, too.
    fn add(&mut self, printer: &Printer, error: anyhow::Error) -> anyhow::Result<()> {
        let code = ExitCode::from_error(&error);
        // A daemon answers although it cannot reach the owner of one of its mounts.
        let is_answer = error.chain().any(|cause| {
            matches!(cause.downcast_ref::<RequestError>(), Some(RequestError::Daemon { .. }))
        });
        if code == ExitCode::NoDaemon && !is_answer {
            return Err(error);
        }
        printer.error(format_args!("{error:#}"));
        self.0.get_or_insert(code);
        Ok(())
    }

    /// Returns the exit code of the run.
    fn code(&self) -> ExitCode {
        self.0.unwrap_or(ExitCode::Success)
    }
}

/// State that every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// The daemon to use.
    pub(crate) daemon: Daemon,
    /// Where messages go.
    pub(crate) printer: Printer,
}

impl Context {
    /// Adds context to the error of a request: which daemon was asked, because the stream may be on
    /// another one, and what was tried, unless the daemon's message says so.
    fn explain(&self, error: RequestError, tried: impl Display) -> anyhow::Error {
        let place = self.daemon.place();
        match error {
            RequestError::Daemon { code: ErrorCode::NoSuchStream, message } => {
                Failure::new(ExitCode::NoSuchStream, format!("{message} ({place})")).into()
            }
            RequestError::Daemon { .. } => error.into(),
            error => anyhow::Error::new(error).context(format!("{tried} {place}")),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Write(args) => write::run(context, args).await,
        Command::Cat(args) => cat::run(context, args).await,
        Command::Create(args) => create::run(context, args).await,
        Command::Close(args) => close::run(context, args).await,
        Command::Rm(args) => rm::run(context, args).await,
        Command::Ls(args) => ls::run(context, args).await,
        Command::Stat(args) => stat::run(context, args).await,
        Command::Info(args) => info::run(context, args).await,
        Command::Stop(args) => stop::run(context, args).await,
        Command::Bench(args) => bench::run(context, args).await,
    }
}

/// How long `pfs` waits before it prints what it is waiting for.
const WAIT_NOTICE_DELAY: Duration = Duration::from_secs(1);

/// Waits for `work`. Prints `what_for` if that takes longer than [`WAIT_NOTICE_DELAY`].
async fn patiently<T>(
    printer: &Printer,
    what_for: impl Display,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(WAIT_NOTICE_DELAY, &mut work).await {
        return done;
    }
    printer.info(format_args!("waiting for {what_for}"));
    work.await
}
