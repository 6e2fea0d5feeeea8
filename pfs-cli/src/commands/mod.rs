//! The commands, a file each.

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

/// Several paths are gone through to the end; the first failure is the run's.
#[derive(Debug, Default)]
struct Failures(Option<ExitCode>);

impl Failures {
    /// Says what went wrong with one path; without a daemon there is no use in going on with the
    /// next.
    fn add(&mut self, printer: &Printer, error: anyhow::Error) -> anyhow::Result<()> {
        let code = ExitCode::from_error(&error);
        if code == ExitCode::NoDaemon {
            return Err(error);
        }
        printer.error(format_args!("{error:#}"));
        self.0.get_or_insert(code);
        Ok(())
    }

    /// How the run ends.
    fn code(&self) -> ExitCode {
        self.0.unwrap_or(ExitCode::Success)
    }
}

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Whom to ask.
    pub(crate) daemon: Daemon,
    /// Where to say it.
    pub(crate) printer: Printer,
}

impl Context {
    /// Adds what was tried, unless the daemon has said it already, and which daemon was asked: a
    /// stream may be at another one.
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

/// Does what the command line says.
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

/// How long somebody waits before they want to know what for.
const WAIT_NOTICE_DELAY: Duration = Duration::from_secs(1);

/// Waits for `work`, and says what for if that takes a while.
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
