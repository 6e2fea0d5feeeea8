//! All that `pfs` says: lines on standard error, and text on standard output.

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

/// What a table, or a block of stats, begins with.
pub(crate) const HEADING: Style = Style::new().bold();

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// Writes messages so that they do not run into a progress bar or a
/// [`Screen`](crate::screen::Screen). Clones share the terminal.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    level: Level,
    bars: MultiProgress,
    /// Lines that wait for the end of a screen, while there is one.
    held: Arc<Mutex<Option<String>>>,
}

impl Printer {
    /// As the global flags want it.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        let level = match (global.quiet, global.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        };
        Self { level, bars: MultiProgress::new(), held: Arc::default() }
    }

    /// Where progress bars go.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Keeps messages until they are released.
    pub(crate) fn hold(&self) {
        self.waiting().get_or_insert_default();
    }

    /// The messages that are kept, each with the end of its line.
    pub(crate) fn held(&self) -> String {
        self.waiting().clone().unwrap_or_default()
    }

    /// Writes the messages that were kept, and all others from now on.
    pub(crate) fn release(&self) {
        if let Some(lines) = self.waiting().take() {
            let _ = io::stderr().lock().write_all(lines.as_bytes());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether only errors and losses are said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.level == Level::Quiet
    }

    /// What went wrong. Always said.
    pub(crate) fn error(&self, message: impl Display) {
        self.line(AnsiColor::Red, message);
    }

    /// What was lost. Always said.
    pub(crate) fn loss(&self, message: impl Display) {
        self.line(AnsiColor::Yellow, message);
    }

    /// What people want to know and programs do not. Not said with `--quiet`.
    pub(crate) fn info(&self, message: impl Display) {
        if self.level >= Level::Normal {
            self.line(AnsiColor::Cyan, message);
        }
    }

    /// What is being done. Said with `--verbose`.
    pub(crate) fn verbose(&self, message: impl Display) {
        if self.level >= Level::Verbose {
            self.line(AnsiColor::Cyan, message);
        }
    }

    /// Progress, where it is not a bar. Said because it was asked for, also with `--quiet`.
    pub(crate) fn progress(&self, message: impl Display) {
        self.line(AnsiColor::Cyan, message);
    }

    /// Prints text on standard output, at once.
    pub(crate) fn print(&self, text: impl AsRef<[u8]>) -> Result<(), OutputError> {
        let mut output = Output::new(Stdout::open()?);
        output.write(text.as_ref())?;
        output.flush()
    }

    /// How a run ends that has this code, apart from what became of its output. A failure that was
    /// known before outlives an output that takes no more, whose own failure is said here.
    ///
    /// # Errors
    ///
    /// That of the output, where the run was a success.
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
        // It may repeat words of a daemon that is not to be trusted.
        let message = message.to_string();
        // One write a line, so that lines of several processes do not mix.
        let line = format!("{style}pfs:{style:#} {}\n", escape(&message));
        if let Some(held) = &mut *self.waiting() {
            held.push_str(&line);
            return;
        }
        // When standard error is closed, there is nobody to be told.
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(line.as_bytes());
        });
    }
}

/// Text for standard output, of which the styles are kept where colors are wanted there.
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
    fn a_failure_that_is_known_outlives_whatever_becomes_of_the_output() {
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
