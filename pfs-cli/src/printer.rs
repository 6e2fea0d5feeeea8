//! Messages on standard error, and text on standard output. Everything that `pfs` says goes through
//! the [`Printer`].

use std::{
    fmt::Display,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use clap::builder::styling::{AnsiColor, Style};
use indicatif::MultiProgress;
use pfs_proto::escape;

use crate::{
    cli::GlobalArgs,
    exit_code::ExitCode,
    output::{Output, OutputError, Stdout},
};

/// Style of the header of a table, and of the first line of a block of stats.
pub(crate) const HEADING: Style = Style::new().bold();

/// Verbosity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// Prints messages without disturbing a progress bar or a [`Screen`](crate::screen::Screen). Clones
/// share the terminal.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    level: Level,
    bars: MultiProgress,
    /// Messages that wait until a screen is left; `None` while there is no screen.
    held: Arc<Mutex<Option<String>>>,
}

impl Printer {
    /// Takes the verbosity from `--quiet` and `--verbose`.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        let level = match (global.quiet, global.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        };
        Self { level, bars: MultiProgress::new(), held: Arc::default() }
    }

    /// The progress bars of the terminal.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Holds messages back until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.waiting().get_or_insert_default();
    }

    /// Returns the messages that are held back, each with its newline.
    pub(crate) fn held(&self) -> String {
        self.waiting().clone().unwrap_or_default()
    }

    /// Prints the messages that were held back. Later messages are printed at once.
    pub(crate) fn release(&self) {
        if let Some(lines) = self.waiting().take() {
            let _ = io::stderr().lock().write_all(lines.as_bytes());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if only errors and losses are printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.level == Level::Quiet
    }

    /// Prints an error, at any verbosity.
    pub(crate) fn error(&self, message: impl Display) {
        self.line(AnsiColor::Red, message);
    }

    /// Prints a loss of data, at any verbosity.
    pub(crate) fn loss(&self, message: impl Display) {
        self.line(AnsiColor::Yellow, message);
    }

    /// Prints a message for people, except with `--quiet`.
    pub(crate) fn info(&self, message: impl Display) {
        if self.level >= Level::Normal {
            self.line(AnsiColor::Cyan, message);
        }
    }

    /// Prints what `pfs` does, with `--verbose`.
    pub(crate) fn verbose(&self, message: impl Display) {
        if self.level >= Level::Verbose {
            self.line(AnsiColor::Cyan, message);
        }
    }

    /// Prints a line of progress, also with `--quiet`, because `--progress` asked for it.
    pub(crate) fn progress(&self, message: impl Display) {
        self.line(AnsiColor::Cyan, message);
    }

    /// Prints text on standard output, without delay.
    pub(crate) fn print(&self, text: impl AsRef<[u8]>) -> Result<(), OutputError> {
        let mut output = Output::new(Stdout::open()?);
        output.write(text.as_ref())?;
        output.flush()
    }

    /// Combines the exit code of a run with the result of its output. An earlier failure takes
    /// precedence over a failure of the output, which is then only printed.
    ///
    /// # Errors
    ///
    /// The output failed and the run was otherwise a success.
    pub(crate) fn conclude(
        &self,
        code: ExitCode,
        printed: Result<(), OutputError>,
    ) -> anyhow::Result<ExitCode> {
        match printed {
            Err(error) if code == ExitCode::Success => return Err(error.into()),
            Err(error @ OutputError::Failed(_)) => {
                self.error(format_args!("{:#}", anyhow::Error::from(error)));
            }
            Ok(()) | Err(OutputError::Closed) => {}
        }
        Ok(code)
    }

    fn line(&self, color: AnsiColor, message: impl Display) {
        let colored = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let style = if colored { color.on_default().bold() } else { Style::new() };
        // Escaped below, because it may contain text from a daemon that is not trusted.
        let message = message.to_string();
        // One write per line, so that lines of several processes do not mix.
        let line = format!("{style}pfs:{style:#} {}\n", escape(&message));
        if let Some(held) = &mut *self.waiting() {
            held.push_str(&line);
            return;
        }
        // A failed write is ignored: standard error is closed, so it could not be reported.
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(line.as_bytes());
        });
    }
}

/// Removes the styles from text for standard output, unless colors are used there.
pub(crate) fn styled(text: String) -> String {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => strip_str(&text).to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_failure_takes_precedence_over_a_failed_output() {
        let printer = Printer::new(&GlobalArgs::default());
        let full = || OutputError::Failed(io::ErrorKind::StorageFull.into());
        let known =
            [ExitCode::NoSuchStream, ExitCode::DataLost, ExitCode::NoDaemon, ExitCode::WriterDied];
        for code in known {
            for printed in [Ok(()), Err(OutputError::Closed), Err(full())] {
                assert_eq!(printer.conclude(code, printed).unwrap(), code);
            }
        }
        assert_eq!(printer.conclude(ExitCode::Success, Ok(())).unwrap(), ExitCode::Success);
        let error = printer.conclude(ExitCode::Success, Err(full())).unwrap_err();
        assert_eq!(ExitCode::from_error(&error), ExitCode::Failure);
        let error = printer.conclude(ExitCode::Success, Err(OutputError::Closed)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(OutputError::Closed)), "{error}");
    }
}
